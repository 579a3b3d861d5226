"""Asking whether everything is in order: the routes the server has, and `relay doctor`."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from .failure import Failure
from .options import Target, as_json, home, target
from .output import show, show_json
from .server import ask

__all__ = ["doctor", "routes"]

GIT = (2, 38)  # merge-tree --write-tree
LEAST_FREE = 512 * 1024 * 1024  # bytes


@click.command()
@as_json
def routes(as_json: bool) -> None:
    """List the routes of the HTTP API, each with the scope it needs."""
    from relay.http import routes

    found = routes()
    if as_json:
        return show_json(found)
    return show(("method", "path", "scope"), [tuple(route.values()) for route in found], empty="no routes")


@click.command()
@target
@click.pass_context
def doctor(context: click.Context, target: Target, as_json: bool) -> None:
    """Check this machine and the server it uses. Exits with 1 if something does not work."""
    found = [finding for check in CHECKS for finding in check(target)]
    if as_json:
        show_json([asdict(finding) for finding in found])
    else:
        for finding in found:
            click.echo(f"{finding.mark} {finding.check:<10} {finding.found}")
            if not finding.ok:
                click.echo(f"  {'':<10} next: {finding.then}")
    if not all(finding.ok for finding in found):
        context.exit(1)


@dataclass(frozen=True)
class Finding:
    """What a check found. `then` is what to do when it is not `ok`."""

    check: str
    ok: bool
    found: str
    then: str

    @property
    def mark(self) -> str:
        return "✓" if self.ok else "✗"


def python(_: Target) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"{version} at {sys.executable}"
    yield Finding("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def git(_: Target) -> Iterator[Finding]:
    then = f"install git {'.'.join(map(str, GIT))} or newer"
    try:
        answer = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("git", ok=False, found=f"does not run: {error}", then=then)
        return
    version = tuple(map(int, re.findall(r"\d+", answer.stdout)[:2]))
    yield Finding("git", version >= GIT, answer.stdout.strip(), then)


def files(_: Target) -> Iterator[Finding]:
    """The home can be written and synced, has room, and keeps its secret."""
    folder = home()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"relay")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding(
            "home",
            False,
            f"{folder} cannot be written: {error.strerror}",
            "set RELAY_HOME to a folder of yours",
        )
        return
    yield Finding("home", True, f"{folder} can be written and synced", "")
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk", free >= LEAST_FREE, f"{free / 2**30:.1f} GiB free", f"make room on the disk of {folder}"
    )
    token = folder / "token"
    if token.exists():
        private = token.stat().st_mode & 0o077 == 0
        found = f"{token} is {'private' if private else 'readable by others'}"
        yield Finding(
            "token", private, found, f"chmod 600 {token}, or remove it and restart relay serve for a new one"
        )


def server(target: Target) -> Iterator[Finding]:
    """The server answers; if none does, its port and its database are fit for a start."""
    try:
        health = ask(target, lambda client: client.health(), public=True)
    except Failure as failure:
        if failure.refused:
            yield Finding(
                "server", False, f"{failure.message} ({failure.why})", failure.then or "relay serve"
            )
            return
        yield Finding("server", True, f"none is running at {target.url}", "")
        yield from at_rest(target)
        return
    found = f"{target.url} runs relay {health.version}, up {health.uptime_ms / 1000:.0f} s, {health.counts.agents} agents"
    yield Finding("server", health.status == "ok", found, "look at the server's log")


def at_rest(target: Target) -> Iterator[Finding]:
    yield port(target)
    path = home() / "relay.db"
    if path.exists():
        yield database(path)


def port(target: Target) -> Finding:
    where = urlsplit(target.url)
    number = where.port or (443 if where.scheme == "https" else 80)
    try:
        with socket.create_connection((where.hostname or "", number), timeout=2):
            return Finding("port", False, f"{number} is used by something else", "relay serve --port 0")
    except ConnectionRefusedError:
        return Finding("port", True, f"{number} is free", "")
    except OSError as error:
        return Finding(
            "port", False, f"{target.url} cannot be reached: {error}", "name the server with --url"
        )


def database(path: Path) -> Finding:
    import apsw

    try:
        with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            [(verdict,)] = connection.execute("pragma quick_check(1)")
    except apsw.Error as error:
        verdict = str(error)
    return Finding(
        "database", verdict == "ok", f"{path}: {verdict}", "keep a copy of the file, then restore a backup"
    )


CHECKS: tuple[Callable[[Target], Iterator[Finding]], ...] = (python, git, files, server)
