"""Witnesses of the audit: what backups have noted of the chain, kept apart from it.

A restore takes the audit back to where a backup was, and it goes on from there on another line, with a record of it. What
was noted of the line that was given up is no witness any more: from that record on, and from before it.
"""

from __future__ import annotations

from collections.abc import Iterable

from .backups import Backup
from .chain import Head, Reads

__all__ = ["RESTORED", "witnesses"]

RESTORED = "server-system-restore-"  # how the client id of a record begins that tells of a restore


def witnesses(rows: Reads, backups: Iterable[Backup]) -> list[Head]:
    """The links that the chain must have still."""
    restores = rows(
        "select c.seq, a.created_at from activity a join audit_chain c on c.activity_id = a.id where a.client_id glob ?",
        f"{RESTORED}*",
    )
    return [
        backup.held.head
        for backup in backups
        if not any(backup.held.head.seq >= seq and backup.at * 1000 <= at for seq, at in restores)
    ]
