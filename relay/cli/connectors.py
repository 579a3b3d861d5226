"""Connectors: adapters installed beside the server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .failure import Failure
from .options import Listing, Target, must_be_one_of, target
from .output import age, say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["connectors"]


@click.group(cls=Listing)
def connectors() -> None:
    """List the adapters that are installed beside the server; configure and run them."""


@connectors.command("list")
@target
def list_(target: Target, as_json: bool) -> None:
    """List the connectors."""
    from relay import wire

    found = ask(target, lambda client: client.connectors())
    if as_json:
        return show_json([wire.to_json(connector) for connector in found])
    rows = [(row.id, _state(row), row.version, _last(row), age(row.updated_at)) for row in found]
    return show(
        ("connector", "state", "version", "last action", "changed"),
        rows,
        empty="no connectors; a program named relay-connector-NAME in ~/.relay/connectors of the server is one",
    )


@connectors.command("show")
@click.argument("connector")
@target
def show_(target: Target, connector: str, as_json: bool) -> None:
    """Show one connector, its secrets masked."""
    from relay import wire

    found = ask(target, lambda client: client.connector(connector))
    if as_json:
        return show_json(wire.to_json(found))
    lines = [
        f"{found.id}  {_state(found)}",
        f"  program: {found.path or 'not there'}",
        f"  config:  {json.dumps(found.config, ensure_ascii=False)}",
    ]
    if found.last_result is not None:
        lines.append(f"  last:    {_told(found.last_result)} ({age(found.updated_at)} ago)")
    return say("\n".join(lines))


@connectors.command("action")
@click.argument("connector")
@click.argument("action")
@target
def action(target: Target, connector: str, action: str, as_json: bool) -> None:
    """Have CONNECTOR's program do ACTION: install, uninstall, enable, disable, start, stop, restart, status or doctor.

    \b
    relay connectors action mail doctor
    """
    from relay import wire

    must_be_one_of(wire.ConnectorVerb, action, f"no connector can {action}", command="connectors action")
    verb = wire.ConnectorVerb(action)
    result = ask(target, lambda client: client.connector_action(connector, verb))
    if as_json:
        show_json(wire.to_json(result))
    elif result.ok:
        say(_told(result))
    if not result.ok:
        raise Failure(
            f"{connector}: {action} failed",
            why=result.error,
            then=f"relay connectors show {connector}",
            refused=True,
        )


@connectors.command("config")
@click.argument("connector")
@click.argument("config", type=click.File())
@target
def config(target: Target, connector: str, config: Any, as_json: bool) -> None:
    """Replace the configuration of CONNECTOR by the JSON object in the file CONFIG; - is the standard input.

    \b
    echo '{"host": "mail.example.org", "password": "…"}' | relay connectors config mail -
    """
    from relay import wire

    try:
        given = json.load(config)
    except ValueError as error:
        raise Failure(
            "the configuration is no JSON", why=str(error), then="relay connectors config --help"
        ) from error
    if not isinstance(given, dict):
        raise Failure("the configuration is no JSON object", then="relay connectors config --help")
    changed = ask(target, lambda client: client.configure_connector(connector, given))
    if as_json:
        return show_json(wire.to_json(changed))
    return say(f"{connector} is configured: {', '.join(changed.config) or 'nothing'}")


def _state(connector: wire.Connector) -> str:
    if connector.path is None:
        return "no program"
    words = [
        "running" if connector.running else None,
        "enabled" if connector.enabled else None,
        "installed" if connector.installed else "found",
    ]
    return ", ".join(word for word in words if word)


def _last(connector: wire.Connector) -> str | None:
    last = connector.last_result
    return None if last is None else f"{last.action}: {'ok' if last.ok else 'failed'}"


def _told(result: wire.ConnectorResult) -> str:
    said = (result.message if result.ok else result.error) or "ok"
    return f"{result.action}: {said}"
