"""Tokens in a database that is restored: what has ended stays ended, and what was made since the backup stays good.

A backup knows nothing of what was revoked after it. So the restored database has the tokens of the one whose place it takes,
if that can be read; of tokens that this has never heard of, because it is another or a new one, it has those of the backup.
Whoever cannot know what was revoked ends them all.
"""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path

import apsw

__all__ = ["Fate", "settle_tokens"]

COLUMNS = "jti, family, sub, role, expires_at, revoked_at, replaced_by, record, created_at"


class Fate(StrEnum):
    """Which tokens the restored database has: those of the database that was there, of the backup, or none that is good."""

    KEPT = "kept"
    OF_THE_BACKUP = "of the backup"
    ENDED = "ended"


def settle_tokens(restored: apsw.Connection, present: Path, at: float, *, end: bool) -> Fate:
    """Within a transaction on the copy, before it takes the place of `present`. `end` them all, as of `at` (epoch seconds)."""
    kept = _keep(restored, present)
    if end:
        restored.execute(
            "update tokens set revoked_at = ?1, record = json_set(record, '$.revokedAt', ?1)"
            " where revoked_at is null",
            (round(at * 1000),),
        )
        return Fate.ENDED
    return Fate.KEPT if kept else Fate.OF_THE_BACKUP


def _keep(restored: apsw.Connection, present: Path) -> bool:
    """Whether the tokens of the present database could be read."""
    try:
        with closing(apsw.Connection(str(present), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            connection.execute("pragma query_only = on").fetchall()
            rows = connection.execute(f"select {COLUMNS} from tokens").fetchall()
    except apsw.Error:
        return False
    known = {str(row[0]) for row in rows}
    held = {str(jti) for (jti,) in restored.execute("select jti from tokens").fetchall()}
    if known & held:  # it is the same database, later: what it has not any more was of no use for long
        restored.executemany("delete from tokens where jti = ?", [(jti,) for jti in held - known])
    values = ", ".join("?" * len(COLUMNS.split(",")))
    restored.executemany(f"insert or replace into tokens ({COLUMNS}) values ({values})", rows)
    return True
