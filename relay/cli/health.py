"""Asking whether everything is in order: the routes the server has, and `relay doctor`."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from .failure import Failure
from .options import Target, as_json, home, target
from .output import age, say, show, show_json
from .server import ask

__all__ = ["doctor", "routes"]

GIT = (2, 38)  # merge-tree --write-tree
OVERDUE = 3_600.0  # seconds, of four backups
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
@click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The server's SQLite file.  [default: ~/.relay/relay.db, if it is there]",
)
@target
@click.pass_context
def doctor(context: click.Context, target: Target, database: Path | None, as_json: bool) -> None:
    """Check this machine, and the server and token that the other commands would use. Exits with 1 if something does
    not work."""
    found = [
        *python(),
        *git(),
        *files(),
        *server(target),
        *stored(database),
        *backed_up(database),
        *audited(database),
        *integrations(target),
    ]
    if as_json:
        show_json([finding.told() for finding in found])
    else:
        for finding in found:
            say(f"{finding.mark} {finding.check:<12} {finding.found}")
            if not finding.ok:
                say(f"  {'':<10} next: {finding.then}")
    if not all(finding.ok for finding in found):
        context.exit(1)


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do when it is not `ok`."""

    check: str
    ok: bool
    found: str
    then: str = ""

    @property
    def mark(self) -> str:
        return "✓" if self.ok else "✗"

    def told(self) -> dict[str, Any]:
        told = {"check": self.check, "ok": self.ok, "found": self.found}
        return told if self.ok else told | {"next": self.then}


def python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"{version} at {sys.executable}"
    yield Finding("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def git() -> Iterator[Finding]:
    then = f"install git {'.'.join(map(str, GIT))} or newer"
    try:
        answer = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("git", ok=False, found=f"does not run: {error}", then=then)
        return
    version = tuple(map(int, re.findall(r"\d+", answer.stdout)[:2]))
    yield Finding("git", version >= GIT, answer.stdout.strip(), then)


def files() -> Iterator[Finding]:
    """The home can be written and synced, and has room."""
    folder = home()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"relay")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        then = "set RELAY_HOME to a folder of yours"
        yield Finding("home", False, f"{folder} cannot be written: {error.strerror}", then)
        return
    yield Finding("home", True, f"{folder} can be written and synced")
    free = shutil.disk_usage(folder).free
    then = f"make room on the disk of {folder}"
    yield Finding("disk", free >= LEAST_FREE, f"{free / 2**30:.1f} GiB free", then)


def server(target: Target) -> Iterator[Finding]:
    """The server answers and accepts the token; if none does, its port is fit for a start."""
    try:
        health = ask(target, lambda client: client.health(), public=True)
    except Failure as failure:
        found = failure.message if failure.refused else f"none is running at {target.url}"
        yield Finding("server", False, found, (failure.refused and failure.then) or "relay serve")
        if not failure.refused:
            yield port(target)
            yield token(target)
        return
    found = f"{target.url} runs relay {health.version}, up {health.uptime_ms / 1000:.0f} s, {health.counts.agents} agents"
    yield Finding("server", health.status == "ok", found, "look at the server's log")
    yield token(target, lambda: ask(target, lambda client: client.orchestrators()))
    told = "; ".join(health.alarms) or "nothing needs care"
    yield Finding("upkeep", not health.alarms, told, "relay jobs says why; relay jobs run NAME tries again")


def token(target: Target, try_it: Callable[[], object] = lambda: None) -> Finding:
    """There is one, it is a secret, and it is accepted."""
    try:
        target.token()
        try_it()
    except Failure as failure:
        found = f"{failure.message}: {failure.why}" if failure.why else failure.message
        return Finding("token", False, found, failure.then or "relay serve")
    path = target.secret
    if path is None:
        return Finding("token", True, "that of AGENT_RELAY_TOKEN")
    private = path.stat().st_mode & 0o077 == 0
    found = f"{path} is {'private' if private else 'readable by others'}"
    return Finding(
        "token", private, found, f"chmod 600 {path}, or remove it and restart relay serve for a new one"
    )


def port(target: Target) -> Finding:
    where = urlsplit(target.url)
    number = where.port or (443 if where.scheme == "https" else 80)
    try:
        with socket.create_connection((where.hostname or "", number), timeout=2):
            return Finding("port", False, f"{number} is used by something else", "relay serve --port 0")
    except ConnectionRefusedError:
        return Finding("port", True, f"{number} is free")
    except OSError as error:
        return Finding(
            "port", False, f"{target.url} cannot be reached: {error}", "name the server with --url"
        )


def stored(given: Path | None) -> Iterator[Finding]:
    """The database is whole. Without one that is named, that of a server which was never started need not be there."""
    import apsw

    path = given or home() / "relay.db"
    if given is None and not path.exists():
        return
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            [(verdict,)] = connection.execute("pragma quick_check(1)")
    except apsw.Error as error:
        verdict = str(error)
    then = "keep a copy of the file, then relay restore" if path.exists() else "name the file of the server"
    yield Finding("database", verdict == "ok", f"{path}: {verdict}", then)


def backed_up(given: Path | None) -> Iterator[Finding]:
    """How old the newest backup is. One is overdue when a server has written for long since, and since its start."""
    from relay.store.backups import backups_of, list_backups

    path = given or home() / "relay.db"
    if not path.exists():
        return
    folder = backups_of(path)
    found = list_backups(folder, path.stem)
    text = (
        f"{len(found)} in {folder}, the newest of {age(found[0].at)} ago"
        if found
        else f"none in {folder} yet"
    )
    log, lock = (path.with_name(path.name + ending) for ending in ("-wal", ".lock"))
    written, started = (
        max((each.stat().st_mtime for each in some if each.exists()), default=0.0)
        for some in ((path, log), (lock,))
    )
    waited = written - max(started, found[0].at if found else 0.0)
    yield Finding(
        "backup", waited < OVERDUE, text, "relay jobs run backup, or relay backup while no server is up"
    )


def audited(given: Path | None) -> Iterator[Finding]:
    """The audit of the database is as it was written."""
    from .audit import verified

    path = given or home() / "relay.db"
    if not path.exists():
        return
    try:
        verdict = verified(path)
    except Failure as failure:
        yield Finding(
            "audit", False, f"{failure.message}: {failure.why}", failure.then or "relay audit verify"
        )
        return
    found = f"{verdict.records} records, as they were written"
    if verdict.damages:
        found = f"{verdict.damages[0].kind}: {verdict.damages[0].what}"
    yield Finding("audit", verdict.ok, found, "relay audit verify tells all of it; keep a copy of the file")


def integrations(target: Target) -> Iterator[Finding]:
    """The file that names the integrations can be used, if there is one, and the rate that they may call at."""
    from relay.http import IntegrationsUnusable
    from relay.http.integration_file import IntegrationFile, per_minute

    try:
        file = IntegrationFile.of(home())
        if file.path.exists() and file.path.stat().st_mode & 0o077:
            found = f"{file.path} is readable by others, and holds secrets"
            yield Finding("integrations", False, found, f"chmod 600 {file.path}, and consider new secrets")
            return
        count = len(file.load(*_known_tokens(target)))
        rate = per_minute()
    except IntegrationsUnusable as error:
        then = "mend it, then kill -HUP the server, or start it again"
        yield Finding("integrations", False, str(error), then)
        return
    if count:
        found = f"{file.path}: {count}, each with {rate} requests in a minute"
        yield Finding("integrations", True, found)


def _known_tokens(target: Target) -> tuple[str, ...]:
    try:
        return (target.token(),)
    except Failure:
        return ()
