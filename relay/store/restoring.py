"""Restoring: a backup takes the place of the database, while no server uses it.

1. It needs the database's lock, so a server that is up is in the way, and is named.
2. The backup is looked at before, and the copy of it after; nothing else is touched until both are whole.
3. The present database is kept aside under another name, with all that it held. The copy takes its place in one rename.
   Whenever that is cut short, one of the two is there, whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import attrs

from relay._files import sync_directory, synced

from ._copies import (
    SPARE,
    BackupFailed,
    Held,
    Progress,
    checked,
    copy,
    discard,
    explained,
    quietly,
    reading,
    room,
    stamp,
)
from ._lock import owned
from ._migrations import NEWEST, migrate
from ._types import NewerDatabase
from .backups import check

__all__ = ["Restored", "half_restored", "restore"]


@attrs.frozen
class Restored:
    """`aside` is where the database is that was there before; None if there was none."""

    backup: Path
    aside: Path | None


def unprepared(connection: apsw.Connection) -> None:
    """Leaves the copy as it is."""


def restore(
    database: Path,
    backup: Path,
    at: float,
    *,
    prepare: Callable[[apsw.Connection], object] = unprepared,
    progress: Progress = quietly,
) -> Restored:
    """Put the backup in the place of the database; what was there is kept aside.

    `prepare` is given the copy, its schema up to date, before it takes the place. Raises `Locked` when a server uses the database,
    `NewerDatabase` when a newer relay wrote the backup, `BackupFailed` when it cannot be used or there is no room.
    """
    database = database.resolve()
    with explained(database.parent):
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with owned(database):
            held = check(backup, progress).held
            if held.schema > NEWEST:
                raise NewerDatabase(
                    f"{backup} has schema {held.schema}, and this relay knows up to {NEWEST}: use a newer relay"
                )
            beside = half_restored(database)
            try:
                _copy_of(backup, held, beside, progress)
                progress("preparing")
                _prepare(beside, prepare)
                progress("keeping what is there")
                aside = _set_aside(database, at)
                progress("putting it in place")
                beside.replace(database)
            finally:
                discard(beside)
            sync_directory(database.parent)
            progress("in place")
    return Restored(backup, aside)


def half_restored(database: Path) -> Path:
    """Where a restore makes the copy. One that was killed leaves it; it is of no use to anybody."""
    return database.with_name(database.name + ".restoring")


def _copy_of(backup: Path, held: Held, to: Path, progress: Progress) -> None:
    with closing(reading(backup, progress)) as source:
        room(source, to.parent, SPARE)
        copy(source, to, progress)
    if checked(to, progress) != held:
        raise BackupFailed(f"the copy of {backup} differs from it; the disk of {to} may be broken")


def _prepare(path: Path, prepare: Callable[[apsw.Connection], object]) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        migrate(connection)
        with connection:
            prepare(connection)
    synced(path)


def _set_aside(database: Path, at: float) -> Path | None:
    """A second name for the present database. One that is too broken to be one file is kept with its logs; so is a log
    without a database, which SQLite would take for the restored one's."""
    aside = database.with_name(f"{database.name}.before-restore-{stamp(at)}")
    if database.exists():
        _into_one_file(database)
        _name_again(database, aside)
    for log in ("-wal", "-journal"):
        if (left := database.with_name(database.name + log)).exists():
            left.replace(aside.with_name(aside.name + log))
    database.with_name(database.name + "-shm").unlink(missing_ok=True)
    sync_directory(database.parent)
    return aside if aside.exists() else None


def _into_one_file(database: Path) -> None:
    """What is in its log only goes where it belongs, unless the database is broken."""
    try:
        with closing(apsw.Connection(str(database))) as connection:
            connection.execute("pragma wal_checkpoint(truncate)").fetchall()
            connection.execute("pragma journal_mode = delete").fetchall()
    except apsw.BusyError as error:
        raise BackupFailed(f"{database} is in use by another program, which must end first") from error
    except (apsw.NotADBError, apsw.CorruptError, apsw.IOError):
        pass


def _name_again(database: Path, aside: Path) -> None:
    if aside.exists():
        if not aside.samefile(database):  # else the same restore was cut short after this
            raise BackupFailed(f"{aside} is there already: move it elsewhere")
        return
    try:
        os.link(database, aside)
    except OSError:  # a file system without links
        shutil.copy2(database, aside)
        synced(aside)
