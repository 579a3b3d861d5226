"""What is staged, what comes back, and what every engine promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from relay.actors import Unavailable

if TYPE_CHECKING:
    from relay.actors import Gate

    from ._log import EventLog
    from .backups import Backup
    from .chain import Head, Verdict

__all__ = [
    "Conflict",
    "DamagedDatabase",
    "Done",
    "Event",
    "Locked",
    "LoggedEvent",
    "NewerDatabase",
    "Owner",
    "Store",
    "StoreError",
    "StoreFailed",
    "Superseded",
    "UnusableDatabase",
    "Write",
]

Done = Callable[[BaseException | None], None]


class StoreError(Exception):
    """Root of the store's errors."""


class Conflict(StoreError):
    """A fence was lost: a write changed another number of rows than it must. Nothing of its part happened."""


class Superseded(StoreError):
    """An earlier part of the same owner failed, so this one was decided on a state that never became true."""


class StoreFailed(StoreError, Unavailable):
    """The store cannot write: the disk is full or broken, or the store has come to an end. No actor is to blame."""


class Locked(StoreError):
    """Another process owns the database."""


class NewerDatabase(StoreError):
    """The database was written by a newer relay."""


class UnusableDatabase(StoreError):
    """The file cannot be opened, or it is no database of relay's."""


class DamagedDatabase(UnusableDatabase):
    """The file is not whole. A backup can take its place."""


@attrs.frozen
class Write:
    """One statement. `rows`, if given, is a fence: the statement must change exactly so many rows."""

    sql: str
    params: tuple[Any, ...] = ()
    rows: int | None = None


@attrs.frozen
class Event:
    """Something that happened, to be told to whoever listens. `subject` is the id of what it happened to; `data` is
    JSON text, or what it is made of. `of`, one of the writes it is staged with, must have changed a row; if it has not,
    nothing happened, and nothing is told."""

    type: str
    source: str
    subject: str | None
    data: Mapping[str, Any] | bytes
    of: Write | None = attrs.field(default=None, eq=False)


@attrs.frozen
class LoggedEvent:
    """An event with its place in the log. `at` is in epoch milliseconds, `data` is JSON text."""

    id: int
    at: int
    type: str
    source: str
    subject: str | None
    data: bytes


@attrs.define(eq=False)
class Owner:
    """Whoever stages: one incarnation of an actor. After a failure nothing more is taken from it."""

    failed: BaseException | None = None


class Store(Protocol):
    """Durable state. Staging order is commit order; reading sees what is committed."""

    gate: Gate
    """Closed while so much is staged that whoever stages must wait."""

    events: EventLog

    def stage(self, writes: Sequence[Write], events: Sequence[Event], owner: Owner, done: Done) -> None:
        """Take one part in. Its writes and events become durable together, or none of them does.

        Never blocks, never raises. `done` is called in staging order: with None once the part is durable, else with
        the error; a part that cannot be written at all fails in its turn, like any other.
        """

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a short query."""

    def row(self, sql: str, *params: Any) -> tuple[Any, ...] | None:
        """The first row of a short query."""

    def next_id(self, sequence: str) -> int:
        """The next number of `sequence`; greater than all before, also over restarts. Gaps are allowed."""

    def check(self) -> list[str]:
        """What is wrong with the database; empty when nothing is."""

    async def back_up(self) -> Backup | None:
        """Make a backup of what is committed; None for a store that is kept in memory. Raises `BackupFailed`."""

    async def verify_audit(self, noted: Sequence[Head] = ()) -> Verdict:
        """Whether the records of the audit are those that were written. Backups are the witnesses, and what else was
        noted."""
