"""Backups: whole copies of the database, made while it is used.

1. A copy is made by SQLite's online backup within one read transaction: it is what was committed at one moment, however
   much is written meanwhile, and nobody waits for it.
2. It is a backup only once it was checked: SQLite finds it whole, and each table has as many rows as there were. Until then
   it has another name, so a crash on the way leaves the backups as they were. Beside it lies what it holds, as JSON.
3. Nobody but its owner can read it. It is refused when it would leave too little room on the disk for relay itself.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import attrs

from relay._files import read_json, sync_directory, write_json

from ._copies import (
    SPARE,
    BackupFailed,
    Damaged,
    Held,
    Progress,
    checked,
    copy,
    damage,
    discard,
    explained,
    held,
    quietly,
    reading,
    room,
    stamp,
)
from .chain import Head

__all__ = [
    "Backup",
    "BackupFailed",
    "back_up",
    "backups_of",
    "check",
    "list_backups",
    "make_backup",
    "rotate",
]

NEWEST_KEPT = 8
DAYS_KEPT = 7  # the newest of each day that has one
BEFORE_SCHEMA_KEPT = 3

NAME = re.compile(r"(?P<stem>.+)-(?P<stamp>\d{8}T\d{6}\d{3}Z)(?P<label>-before-schema-\d+)?\.db")
PARTIAL = ".partial"


@attrs.frozen
class Backup:
    """A backup, and what it held when it was made: at epoch seconds, 0 for one that was not noted. `digest` is that of
    the file."""

    path: Path
    at: float
    bytes: int
    digest: str
    held: Held

    def told(self) -> dict[str, Any]:
        return {
            "file": self.path.name,
            "at": round(self.at * 1000),
            "schema": self.held.schema,
            "bytes": self.bytes,
            "sha256": self.digest,
            "tables": self.held.tables,
            "audit": str(self.held.head),
        }


def backups_of(database: Path, folder: Path | None = None) -> Path:
    """Where the backups of a database are: beside it, unless another folder is given, or named in
    `AGENT_RELAY_BACKUP_DIR`."""
    named = os.environ.get("AGENT_RELAY_BACKUP_DIR")
    return folder or (Path(named).expanduser() if named else database.resolve().parent / "backups")


def make_backup(
    database: Path,
    folder: Path,
    at: float,
    *,
    label: str = "",
    progress: Progress = quietly,
    spare: int = SPARE,
    vfs: str | None = None,
) -> Backup:
    """A new backup in the folder, named by the moment (epoch seconds); older ones are cleared away. Raises `BackupFailed`.

    `progress` is told what is done, again and again; what it raises ends the work.
    """
    with explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder, database.stem)
        while (to := folder / f"{database.stem}-{stamp(at)}{label}.db").exists():
            at += 0.001
        made = back_up(database, to, at, progress=progress, spare=spare, vfs=vfs)
        rotate(folder, database.stem, at)
    return made


def back_up(
    database: Path,
    to: Path,
    at: float,
    *,
    progress: Progress = quietly,
    spare: int = SPARE,
    vfs: str | None = None,
) -> Backup:
    """A backup in a file that is not there yet. Raises `BackupFailed`."""
    if to.exists():
        raise BackupFailed(f"{to} is there already: name another file")
    partial = to.with_name(to.name + PARTIAL)
    with explained(to.parent):
        try:
            with closing(reading(database, progress, vfs)) as source:
                room(source, to.parent, spare)
                copy(source, partial, progress)
                try:
                    holds, copied = held(source), checked(partial, progress)
                except (Damaged, apsw.CorruptError) as error:
                    raise _broken(source, database, to) from error
                if copied != holds:
                    raise BackupFailed(f"the copy of {database} differs from it: {holds.difference(copied)}")
            made = Backup(to, at, partial.stat().st_size, _digest(partial), holds)
            progress("keeping")
            write_json(_manifest(to), made.told())
            partial.replace(to)
            sync_directory(to.parent)
        except BaseException:
            discard(partial)
            raise
    progress("kept")
    return made


def check(path: Path, progress: Progress = quietly) -> Backup:
    """The backup in a file, after looking at all of it. Raises `BackupFailed` when it is not whole, or not what it was."""
    if not path.is_file():
        raise BackupFailed(f"there is no backup {path}")
    with explained(path.parent):
        holds = checked(path, progress)
        noted = _noted(path)
        if noted is None:
            return Backup(path, 0.0, path.stat().st_size, _digest(path), holds)
        if noted.held != holds:
            raise BackupFailed(f"{path} is not what it was when it was made: {noted.held.difference(holds)}")
        if noted.digest != _digest(path):
            raise BackupFailed(f"{path} is not what it was when it was made: use another backup")
    return noted


def list_backups(folder: Path, stem: str | None = None) -> list[Backup]:
    """Those in the folder, newest first, as they were noted when they were made. `stem` is of the database's name."""
    found = []
    for path in folder.glob("*.db"):
        match = NAME.fullmatch(path.name)
        if match and stem in (None, match["stem"]) and (noted := _noted(path)):
            found.append(noted)
    return sorted(found, key=lambda backup: (backup.at, backup.path.name), reverse=True)


def rotate(folder: Path, stem: str, now: float) -> list[Path]:
    """Remove what is too old: all but the newest few, the newest of each of the last days, and the last that were made
    before a new schema. Returns what was removed."""
    parts = [
        (match, path)
        for path in sorted(folder.iterdir(), reverse=True)
        if (match := NAME.fullmatch(path.name))
    ]
    own = [(match, path) for match, path in parts if match["stem"] == stem]
    usual = [(match["stamp"], path) for match, path in own if not match["label"]]
    keep = {path for _, path in usual[:NEWEST_KEPT]}
    keep |= {path for match, path in [each for each in own if each[0]["label"]][:BEFORE_SCHEMA_KEPT]}
    oldest = stamp(now - DAYS_KEPT * 86_400)[:8]
    days: dict[str, Path] = {}
    for made, path in usual:
        days.setdefault(made[:8], path)
    keep |= {path for day, path in days.items() if day > oldest}
    gone = [path for _, path in own if path not in keep]
    for path in gone:
        path.unlink(missing_ok=True)
        _manifest(path).unlink(missing_ok=True)
    return gone


def _sweep(folder: Path, stem: str) -> None:
    """Remove what backups that were killed have left."""
    left = [*folder.glob(f"{stem}-*.db{PARTIAL}*")]
    left += [each for each in folder.glob(f"{stem}-*.json") if not each.with_suffix(".db").exists()]
    for path in left:
        path.unlink(missing_ok=True)


def _broken(source: apsw.Connection, database: Path, to: Path) -> BackupFailed:
    """The copy is: because the database is, or because of where it was put."""
    if (found := damage(source)) is not None:
        return BackupFailed(
            f"{database} is damaged: {found}: stop its server; relay restore puts a backup in its place"
        )
    return BackupFailed(f"the copy of {database} is damaged: the disk of {to.parent} may be broken")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _noted(path: Path) -> Backup | None:
    told = read_json(_manifest(path))
    try:
        tables = {str(name): int(count) for name, count in told["tables"].items()}
        head = Head(0, "") if told["audit"] == "0:" else Head.read(told["audit"])
        held = Held(int(told["schema"]), tables, head)
        return Backup(path, told["at"] / 1000, int(told["bytes"]), str(told["sha256"]), held)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")
