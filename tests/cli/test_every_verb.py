"""What holds for every verb: it says what it is for, speaks JSON, and the README names it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from shell import invoke

from relay.cli import main
from relay.cli.options import Listing

ROOT = Path(__file__).parent.parent.parent


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


VERBS = dict(leaves(main))


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_it_says_what_it_is_for(verb: tuple[str, ...]) -> None:
    told = invoke(*verb, "--help")
    assert told.exit_code == 0
    assert "--json" in told.output or verb == ("demo",)
    assert VERBS[verb].help or verb == ("runner",)


@pytest.mark.parametrize(
    "verb", [name for name, found in main.commands.items() if isinstance(found, Listing)]
)
def test_a_group_lists_what_there_is(verb: str) -> None:
    group = main.commands[verb]
    assert isinstance(group, click.Group)
    assert "list" in group.commands


def shown() -> set[tuple[str, str]]:
    """What the pages show as code: the verb, and the word behind it."""
    found = set()
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        text = path.read_text()
        blocks = "".join(re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        blocks += "".join(re.findall(r"^    .*\n", text, re.MULTILINE))
        lines = re.findall(r"^ *(?:\$ |until |\w+=\$\()?relay (.+)$", blocks, re.MULTILINE)
        for told in lines + re.findall(r"`relay ([^`]+)`", text):
            found.add((path.name, " ".join(re.findall(r"^[a-z-]+(?: [a-z]+)?", told))))
    return found


@pytest.mark.parametrize(("page", "told"), sorted(shown()))
def test_what_the_pages_show_there_is(page: str, told: str) -> None:
    verb, _, word = told.partition(" ")
    if verb.startswith("-"):
        return
    assert verb in main.commands, f"{page}: relay {told}"
    group = main.commands[verb]
    if word and isinstance(group, click.Group):
        assert word in group.commands, f"{page}: relay {told}"


def test_the_pages_show_most_of_the_verbs() -> None:
    assert {told.partition(" ")[0] for _, told in shown()} >= {*main.commands} - {"runner"}
