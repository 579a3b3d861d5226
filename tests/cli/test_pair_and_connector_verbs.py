"""`relay pairs` and `relay connectors`, against a server."""

import json

import click.testing
import pytest
from shell import Run, Served, answer

from relay import wire
from relay.cli import main


def program(server: Served, name: str, script: str) -> None:
    path = server.home / "connectors" / f"relay-connector-{name}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.spec("PAR-1", "PAR-3")
def test_a_person_and_an_agent_work_as_a_pair(run: Run, server: Served) -> None:
    server.register("mate")
    made = answer(run("pairs", "invite", "mate", "--topic", "the parser", "--json"))
    assert (made["from"], made["status"], made["topic"]) == ("user", "pending", "the parser")
    assert "user and mate about the parser: pending" in run("pairs", "show", made["id"]).output
    assert "active" in run("pairs", "accept", made["id"], "--as", "mate").output
    assert "to mate is stored" in run("pairs", "say", made["id"], "hello").output
    assert (
        answer(run("pairs", "say", made["id"], "hi", "--as", "mate", "--key", "k", "--json"))["to"] == "user"
    )
    assert made["id"] in run("pairs", "list", "--status", "active", "--agent", "mate").output
    assert "ended (ended, user)" in run("pairs", "end", made["id"]).output
    rejected = answer(run("pairs", "invite", "mate", "--json"))
    assert "rejected" in run("pairs", "reject", rejected["id"], "--as", "mate").output
    assert [pair["id"] for pair in answer(run("pairs", "list", "--status", "rejected", "--json"))] == [
        rejected["id"]
    ]


def test_a_topic_is_told_on_one_line(run: Run, server: Served) -> None:
    server.register("mate")
    told = run("pairs", "invite", "mate", "--topic", "the parser: active\npair_2  user and eve").output
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--status", "odd"),
        ("accept", "none"),
        ("say", "none", " "),
        ("invite", "nobody-at-all"),
    ],
)
def test_what_cannot_be_done_with_pairs_is_told_with_a_next_step(
    run: Run, arguments: tuple[str, ...]
) -> None:
    told = json.loads(run("pairs", *arguments, "--json").stderr)
    assert told["next"].startswith("relay ")


@pytest.mark.spec("CON-1", "CON-2", "CON-3", "CON-4")
def test_connectors_are_seen_configured_and_run(run: Run, server: Served) -> None:
    program(server, "mail", """[ "$1" = start ] && exit 4; echo '{"ok": true, "message": "all is well"}'""")
    assert "found" in run("connectors", "list").output
    assert answer(run("connectors", "action", "mail", "install", "--json"))["ok"] is True
    assert run("connectors", "action", "mail", "doctor").output == "doctor: all is well\n"
    failed = run("connectors", "action", "mail", "start")
    assert failed.exit_code == 1
    assert "why: the program ended with 4" in failed.stderr
    told = run("connectors", "action", "mail", "start", "--json")
    assert (told.exit_code, json.loads(told.stdout)["exitCode"]) == (1, 4)
    listed = run("connectors", "list").output
    assert "installed" in listed
    assert "start: failed" in listed
    given = json.dumps({"host": "h", "password": "very-secret"})
    configured = click.testing.CliRunner().invoke(main, ["connectors", "config", "mail", "-"], input=given)
    assert configured.output == "mail is configured: host, password\n"
    shown = run("connectors", "show", "mail").output
    assert '"password": "********"' in shown
    assert "start: the program ended with 4" in shown
    assert answer(run("connectors", "show", "mail", "--json"))["config"]["host"] == "h"


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (("action", "mail", "dance"), ""),
        (("action", "nothing", "start"), ""),
        (("show", "nothing"), ""),
        (("config", "mail", "-"), "["),
        (("config", "mail", "-"), "[]"),
    ],
)
def test_what_cannot_be_done_with_connectors_is_told_with_a_next_step(
    run: Run, arguments: tuple[str, ...], given: str
) -> None:
    result = click.testing.CliRunner().invoke(main, ["connectors", *arguments, "--json"], input=given)
    assert result.exit_code == 1
    assert json.loads(result.stderr)["next"].startswith("relay ")


def test_every_verb_of_a_connector_can_be_asked_for(run: Run) -> None:
    shown = run("connectors", "action", "--help").output
    assert all(verb in shown for verb in wire.ConnectorVerb)
