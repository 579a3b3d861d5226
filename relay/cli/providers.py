"""Providers: how the programs behind agents are started."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failure import Failure
from .options import Listing, Target, target
from .output import members, one_line, say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["providers"]


@click.group(cls=Listing)
def providers() -> None:
    """List how the programs behind agents are started; change it, and look whether one is there.

    \b
    relay providers set claude claude.json
    relay providers test claude
    """


@providers.command("list")
@target
def list_(target: Target, as_json: bool) -> None:
    """List the providers, by name; of their variables only the names are shown."""
    from relay import wire

    found = ask(target, lambda client: client.provider_configs())
    if as_json:
        return show_json({name: wire.to_json(config) for name, config in found.items()})
    rows = [
        (
            name,
            one_line(" ".join([known.command, *known.default_args])),
            known.default_approval_mode,
            _names(known),
        )
        for name, known in sorted(found.items())
    ]
    return show(("provider", "program", "approval", "variables"), rows, empty="no providers")


@providers.command("show")
@click.argument("provider")
@target
def show_(target: Target, provider: str, as_json: bool) -> None:
    """Show how the program of PROVIDER is started; a mask stands for each value of a variable."""
    from relay import wire

    found = wire.to_json(ask(target, lambda client: client.provider_config(provider)))
    return show_json(found) if as_json else members(found)


@providers.command("set")
@click.argument("provider")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@target
def set_(target: Target, provider: str, file: Path, as_json: bool) -> None:
    """Say how the program of PROVIDER is started: FILE holds all of it as JSON, - is standard input.

    What is left out has its default again. Variables go into the file, and so into no list of processes.
    """
    from relay import wire

    given = _read(file)
    try:
        asked = wire.decode(wire.SetProviderConfig, given)
    except wire.Invalid as error:
        raise Failure(
            f"{file} is no configuration", why=str(error), then="relay providers set --help"
        ) from error
    made = ask(target, lambda client: client.set_provider_config(provider, asked))
    if as_json:
        return show_json(wire.to_json(made))
    return say(one_line(f"{provider} is started as {made.command}, in agents from now on"))


@providers.command("test")
@click.argument("provider")
@target
def test(target: Target, provider: str, as_json: bool) -> None:
    """Look whether a login shell on the server's machine finds the program. Exits with 1 if not."""
    from relay import wire

    found = ask(target, lambda client: client.test_provider(provider))
    if as_json:
        show_json(wire.to_json(found))
    else:
        say(one_line(f"{found.command}: {found.path if found.ok else found.error or 'not found'}"))
    if not found.ok:
        click.get_current_context().exit(1)


def _names(config: wire.ProviderConfig) -> str:
    return ", ".join(sorted(config.env))


def _read(file: Path) -> Any:
    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
    except (OSError, ValueError) as error:
        raise Failure(
            f"{file} cannot be read as JSON", why=str(error), then="relay providers set --help"
        ) from error
