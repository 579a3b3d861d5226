"""Configured values, and the profiles of agents among them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failure import Failure
from .options import Listing, Target, target
from .output import age, one_line, say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["config", "profiles"]

PROFILES = "agent-profile"
by = click.option("--by", "updated_by", metavar="NAME", help="Who changes it; the history keeps that.")


@click.group(cls=Listing)
def config() -> None:
    """Show and change configured values; every version of each is kept.

    \b
    relay config set deploy window '{"from": "22:00"}'
    relay config history deploy window
    """


@config.command("list")
@click.argument("namespace")
@target
def list_(target: Target, namespace: str, as_json: bool) -> None:
    """List what is configured in NAMESPACE."""
    _list(target, namespace, as_json, empty=f"nothing is configured in {namespace}")


@config.command("get")
@click.argument("namespace")
@click.argument("key")
@target
def get(target: Target, namespace: str, key: str, as_json: bool) -> None:
    """Show the value of KEY as JSON; with --json the whole entry."""
    _get(target, namespace, key, as_json)


@config.command("set")
@click.argument("namespace")
@click.argument("key")
@click.argument("value")
@by
@target
def set_(target: Target, namespace: str, key: str, value: str, updated_by: str | None, as_json: bool) -> None:
    """Write the next version of KEY: VALUE as JSON, or - to read it from standard input."""
    _set(target, namespace, key, _parsed(value, f"config set {namespace} {key}"), updated_by, as_json)


@config.command("delete")
@click.argument("namespace")
@click.argument("key")
@by
@target
def delete(target: Target, namespace: str, key: str, updated_by: str | None, as_json: bool) -> None:
    """Delete KEY; its history stays."""
    _delete(target, namespace, key, updated_by, as_json)


@config.command("history")
@click.argument("namespace")
@click.argument("key")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def history(target: Target, namespace: str, key: str, limit: int, as_json: bool) -> None:
    """List the versions of KEY, the newest first."""
    from relay import wire

    found = ask(target, lambda client: client.config_history(namespace, key, limit))
    if as_json:
        return show_json([wire.to_json(entry) for entry in found])
    rows = [(*_row(entry)[1:], "deleted" if entry.deleted else _brief(entry.value)) for entry in found]
    return show(("version", "changed", "by", "value"), rows, empty=f"{namespace}/{key} was never written")


@click.group(cls=Listing)
def profiles() -> None:
    """Show and change the profiles of agents.

    \b
    relay profiles set reviewer profile.json
    """


@profiles.command("list")
@target
def list_profiles(target: Target, as_json: bool) -> None:
    """List the profiles."""
    _list(target, PROFILES, as_json, empty="no profiles; make one with: relay profiles set NAME FILE")


@profiles.command("show")
@click.argument("name")
@target
def show_profile(target: Target, name: str, as_json: bool) -> None:
    """Show the profile NAME as JSON; with --json the whole entry."""
    _get(target, PROFILES, name, as_json)


@profiles.command("set")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@by
@target
def set_profile(target: Target, name: str, file: Path, updated_by: str | None, as_json: bool) -> None:
    """Write the next version of the profile NAME from FILE, which holds it as JSON; - is standard input."""
    try:
        text = "-" if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file} cannot be read", why=str(error), then="relay profiles set --help") from error
    _set(target, PROFILES, name, _parsed(text, f"profiles set {name}"), updated_by, as_json)


@profiles.command("delete")
@click.argument("name")
@by
@target
def delete_profile(target: Target, name: str, updated_by: str | None, as_json: bool) -> None:
    """Delete the profile NAME; its history stays."""
    _delete(target, PROFILES, name, updated_by, as_json)


def _list(target: Target, namespace: str, as_json: bool, *, empty: str) -> None:
    from relay import wire

    found = ask(target, lambda client: client.config(namespace))
    if as_json:
        return show_json([wire.to_json(entry) for entry in found])
    rows = [(*_row(entry), _brief(entry.value)) for entry in found]
    return show(("key", "version", "changed", "by", "value"), rows, empty=empty)


def _get(target: Target, namespace: str, key: str, as_json: bool) -> None:
    from relay import wire

    entry = ask(target, lambda client: client.config_value(namespace, key))
    show_json(wire.to_json(entry) if as_json else entry.value)


def _set(target: Target, namespace: str, key: str, value: Any, updated_by: str | None, as_json: bool) -> None:
    from relay import wire

    entry = ask(target, lambda client: client.set_config(namespace, key, value, updated_by))
    if as_json:
        return show_json(wire.to_json(entry))
    return say(f"{namespace}/{key} is at version {entry.version}")


def _delete(target: Target, namespace: str, key: str, updated_by: str | None, as_json: bool) -> None:
    ask(target, lambda client: client.delete_config(namespace, key, updated_by))
    if as_json:
        return show_json({"ok": True})
    return say(f"{namespace}/{key} is deleted; relay config history {namespace} {key} shows what it was")


def _parsed(text: str, command: str) -> Any:
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise Failure(
            "the value is not JSON",
            why=str(error),
            then=f"relay {command} --help; quote a text: '\"like this\"'",
        ) from error


def _row(entry: wire.ConfigEntry) -> tuple[object, ...]:
    return entry.key, entry.version, age(entry.updated_at), entry.updated_by


def _brief(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False))
