"""Opening the database: one owner, two connections, a file that was looked at, and the schema of this program.

1. Whoever opens it has the lock; what an earlier owner left half done goes.
2. A file that is damaged is not used: it would get worse, and its backups with it. SQLite looks at it, for a few seconds at most;
   of a large file that is the beginning. The rest is looked at by every backup, which copies all of it and checks the copy.
3. Before the schema moves on, there is a backup of what was there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import apsw
import trio

from ._copies import damage, discard
from ._lock import owned
from ._migrations import NEWEST, migrate
from ._types import DamagedDatabase, UnusableDatabase
from .backups import BackupFailed, make_backup
from .chain import register
from .restoring import half_restored

__all__ = ["open_file", "open_memory"]

PRAGMAS = (
    "journal_mode = wal",
    "synchronous = full",
    "foreign_keys = on",
    "temp_store = memory",
    "wal_autocheckpoint = 4000",  # pages, 16 MB: moving them into the database waits for the disk, twice
)
LOOK_FOR = 2.0  # seconds of every start; a GiB that is in memory takes as long
LOOK_STEP = 1_000  # of SQLite's, between two looks at the time


def open_memory(stack: ExitStack) -> apsw.Connection:
    connection = stack.enter_context(closing(_connect(":memory:")))
    migrate(connection)
    return connection


def open_file(
    path: Path, backups: Path, at: float, vfs: str | None, stack: ExitStack
) -> tuple[apsw.Connection, apsw.Connection]:
    """Own the database at `path`; a connection for writing and one for reading. `at` is epoch seconds.

    Raises `Locked`, `NewerDatabase`, `DamagedDatabase`, or `UnusableDatabase`."""
    with _usable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(owned(path))
        discard(half_restored(path.resolve()))
        _create(path.resolve())
        writer = stack.enter_context(closing(_connect(str(path), vfs)))
        _look(writer, path)
        if 0 < writer.pragma("user_version") < NEWEST:
            make_backup(path.resolve(), backups, at, label=f"-before-schema-{NEWEST}", vfs=vfs)
        migrate(writer)
        reader = stack.enter_context(closing(_connect(str(path), vfs)))
        reader.execute("pragma query_only = on").fetchall()
    return writer, reader


def _connect(path: str, vfs: str | None = None) -> apsw.Connection:
    connection = apsw.Connection(path, vfs=vfs, statementcachesize=200)
    connection.set_busy_timeout(5_000)
    register(connection)
    for pragma in PRAGMAS:
        connection.execute(f"pragma {pragma}").fetchall()
    return connection


def _create(path: Path) -> None:
    """A file that is not there is its owner's alone from the first moment: SQLite makes one that others can read. What it
    puts beside the database has the database's mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _look(connection: apsw.Connection, path: Path) -> None:
    """Raises `DamagedDatabase` if it is, as far as that can be seen in time."""
    until = trio.current_time() + LOOK_FOR
    connection.set_progress_handler(lambda: trio.current_time() > until, LOOK_STEP)
    try:
        found = damage(connection)
    except apsw.InterruptError:
        return
    finally:
        connection.set_progress_handler(None)
    if found is not None:
        raise DamagedDatabase(f"{path} is damaged: {found}")


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except BackupFailed as error:
        raise UnusableDatabase(f"{path} is not moved to a new schema without a backup: {error}") from error
    except apsw.CorruptError as error:
        raise DamagedDatabase(f"{path} is damaged: {error}") from error
    except (OSError, apsw.Error) as error:
        raise UnusableDatabase(f"{path} cannot be used as relay's database: {error}") from error
