"""Copies of a database: one file each, whole, and only their owner's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import attrs

from relay._files import synced

from ._types import StoreError
from .chain import Head, head_of

__all__ = [
    "SPARE",
    "BackupFailed",
    "Damaged",
    "Held",
    "Progress",
    "checked",
    "copy",
    "damage",
    "discard",
    "explained",
    "held",
    "quietly",
    "reading",
    "room",
    "stamp",
]

SPARE = 64 * 1024 * 1024  # bytes that stay free
STEP = 2_048  # pages that are copied at a time
INSTRUCTIONS = 100_000  # of SQLite's, between two looks whether to go on

Progress = Callable[[str], object]


def quietly(stage: str) -> None:
    """Tells nobody."""


class BackupFailed(StoreError):
    """There is no backup, or it cannot be used. The text says why, and what to do."""


class Damaged(BackupFailed):
    """The file is not whole."""


@attrs.frozen
class Held:
    """What a database holds: its schema, how many rows in which table, and the last link of the audit."""

    schema: int
    tables: dict[str, int]
    head: Head

    def difference(self, other: Held) -> str:
        for name, count in self.tables.items():
            if other.tables.get(name) != count:
                return f"{name} has {count} rows there, and {other.tables.get(name, 'none')} here"
        return f"schema {self.schema} there and {other.schema} here, audit up to {self.head.seq} and {other.head.seq}"


def copy(source: apsw.Connection, to: Path, progress: Progress) -> None:
    """What the source's read transaction sees, in one file of its own that only its owner can read."""
    discard(to)
    os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(apsw.Connection(str(to))) as copy:
        copy.execute("pragma synchronous = off").fetchall()
        with copy.backup("main", source, "main") as work:
            while not work.done:
                progress("copying")
                work.step(STEP)
        copy.execute("pragma journal_mode = delete").fetchall()
    synced(to)


def reading(database: Path, progress: Progress, vfs: str | None = None) -> apsw.Connection:
    """A connection on which everything is as it is at this moment."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        connection.set_busy_timeout(5_000)
        connection.execute("pragma query_only = on").fetchall()
        connection.set_progress_handler(lambda: bool(progress("checking")), INSTRUCTIONS)
        connection.execute("begin").fetchall()
        connection.execute("select count(*) from sqlite_schema").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def room(source: apsw.Connection, folder: Path, spare: int) -> None:
    ((pages,),) = source.execute("pragma page_count")
    ((size,),) = source.execute("pragma page_size")
    needed, free = pages * size, shutil.disk_usage(folder).free
    if free < needed + spare:
        raise BackupFailed(
            f"the disk of {folder} has {_megabytes(free)} free; the copy needs {_megabytes(needed)} and relay keeps"
            f" {_megabytes(spare)}: make room there, or name a folder on another disk in AGENT_RELAY_BACKUP_DIR"
        )


def held(connection: apsw.Connection) -> Held:
    def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return connection.execute(sql, params).fetchall()

    names = [name for (name,) in rows("select name from sqlite_schema where type = 'table' order by name")]
    tables = {name: rows(f'select count(*) from "{name}"')[0][0] for name in names}
    head = head_of(rows) if "audit_chain" in tables else Head(0, "")
    return Held(rows("pragma user_version")[0][0], tables, head)


def checked(path: Path, progress: Progress) -> Held:
    """What a copy holds. Raises `Damaged` when it is not whole, `BackupFailed` when it is no database of relay's."""
    progress("checking")
    try:
        with closing(reading(path, progress)) as connection:
            if (found := damage(connection)) is not None:
                raise Damaged(f"{path} is damaged: {found}")
            holds = held(connection)
    except apsw.CorruptError as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    if not holds.schema:
        raise BackupFailed(f"{path} is no database of relay's")
    return holds


def damage(connection: apsw.Connection) -> str | None:
    """What is wrong with the file as SQLite sees it; None when nothing is."""
    try:
        found = [str(text) for (text,) in connection.execute("pragma quick_check(3)")]
    except apsw.CorruptError as error:
        return str(error)
    lines = [line for text in found for line in text.splitlines() if not line.startswith("***")]
    return None if lines == ["ok"] else "; ".join(lines)


def discard(path: Path) -> None:
    for name in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)


def stamp(at: float) -> str:
    """As in `20261121T190500123Z`: names sort by time."""
    with closing(apsw.Connection(":memory:")) as connection:
        ((text,),) = connection.execute("select strftime('%Y%m%dT%H%M%S', ?, 'unixepoch')", (int(at),))
    return f"{text}{round(at * 1000) % 1000:03d}Z"


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except apsw.FullError as error:
        raise BackupFailed(f"the disk of {folder} is full: make room there, and try again") from error
    except (OSError, apsw.Error) as error:
        raise BackupFailed(f"no backup could be made or used in {folder}: {error}") from error
