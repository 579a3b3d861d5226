"""The merge lease: at most one merge at a time per repository.

One actor per repository owns its lease. The rules:

1. A lease is bound to a command from the start: whoever wants to merge draws the command's id first. A lease whose
   command was never written ends when its owner starts again.
2. Every grant carries a fencing token that is greater than all before it, for ever: the last one is kept in `fences`
   when the lease is gone. It is at least the epoch in milliseconds, because repositories keep the newest token, too, and
   outlive databases. Whoever acts on a lease shows the token to what it acts on.
3. A lease is freed only in the name of its own command (W-I7); anything else is a no-op, not an error.
4. Expiry is a comparison wherever the lease is looked at, not only a timer (W-I48). Remaining time is measured on the
   server's own clock; after a restart it is never more than the whole term, whatever the wall clock says. Time that the
   server was held up for comes on top: the merge's command lives on as long, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Context, Tell
from relay.store import Decision, Store, Write

from ._absence import Missed
from ._actor import FleetActor
from ._errors import Conflict
from ._machine import Moves
from .restoring import FLOOR

if TYPE_CHECKING:
    from ._fleet import Fleet
    from ._moment import Moment

__all__ = [
    "FREE",
    "HELD",
    "MOVES",
    "TERM",
    "Acquire",
    "MergeLease",
    "MergeProtocol",
    "Prolong",
    "Release",
    "list_leases",
    "still_held",
]

TERM = 2_700.0
"""Seconds a lease lasts: 45 minutes, more than a host's own budget for a merge (P1)."""

CLOSE = 1.0  # seconds that a timer may come before its time

PUT_OFF_BY = "prolong_merges"
"""The step of maintenance that puts the ends of leases off by what was missed."""

FREE, HELD = "free", "held"

MOVES: Moves = {
    FREE: {"acquire": HELD},
    HELD: {"its command ended": FREE, "its term is over": FREE, "it never had a command": FREE},
}
"""Spec 18.2. A lease is bound to its command from the start."""


class MergeProtocol:
    """What the actor of one repository's merge lease understands."""


@attrs.frozen
class Acquire(Ask[MergeProtocol, wire.MergeLease]):
    """Take the lease. Refused with `Conflict` while somebody has it, also to the same workspace (P3)."""

    workspace_id: str
    holder: str
    command_id: str


@attrs.frozen
class Release(Ask[MergeProtocol, bool]):
    """The command has ended, or was never dispatched. The answer says whether it held the lease."""

    command_id: str


@attrs.frozen
class Expire(Tell[MergeProtocol]):
    """The term of the lease with this token is over."""

    token: int


@attrs.frozen
class Prolong(Ask[MergeProtocol, bool]):
    """Nobody could end the merge in the time that was missed: the lease lasts as much longer. The answer is whether there is
    one."""

    missed: Missed


@attrs.frozen
class Abandoned(Tell[MergeProtocol]):
    """When the owner started, there was no command of the lease with this token."""

    token: int


class MergeLease(FleetActor[MergeProtocol]):
    """The actor of one repository's lease; its key is the repository's normalised root."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.repo = key
        row = self.store.row("select token from fences where name = ?", _fence(key))
        floor = self.store.row("select cast(value as integer) from meta where key = ?", FLOOR)
        self.token: int = (row or floor or (0,))[0]
        self.lease = find_lease(self.store, key)
        self._until = 0.0

    def started(self, context: Context[MergeProtocol]) -> None:
        if self.lease is None:
            return
        if self.store.row("select 1 from commands where id = ?", self.lease.command_id) is None:
            context.self_ref.tell(Abandoned(self.lease.token))
        left = min(TERM, max(0.0, self.lease.expires_at - context.system.wall()))
        self._expire_in(left, context)

    def handle(self, message: Any, context: Context[MergeProtocol]) -> None:
        held = self.lease
        if held is not None and self._left() <= 0:
            held = None
        match message:
            case Acquire():
                if held is not None and "acquire" not in MOVES[HELD]:
                    raise Conflict(f"{self.repo} is busy: workspace {held.workspace_id} is being merged")
                self._grant(message, context)
            case Release(command_id):
                self._free(message, self.lease is not None and self.lease.command_id == command_id, context)
            case Prolong(missed):
                self._prolong(message, missed, context)
            case Expire(token) if held is not None and held.token == token and self._left() > CLOSE:
                context.set_timer("term", self._left(), message)
            case Expire(token):
                self._free(message, self.lease is not None and self.lease.token == token, context)
            case Abandoned(token):
                self._free(
                    message, self.lease is not None and self.lease.token == token, context, unbound=True
                )

    def _grant(self, asked: Acquire, context: Context[MergeProtocol]) -> None:
        moment = self.moment()
        self.lease, decision = grant(self.repo, max(self.token + 1, moment.ms), asked, moment)
        self.token = self.lease.token
        self._expire_in(TERM, context)
        self.settle(asked, decision, context)

    def _free(
        self,
        message: Release | Expire | Abandoned,
        matches: bool,
        context: Context[MergeProtocol],
        *,
        unbound: bool = False,
    ) -> None:
        if not matches:
            self.settle(message, Decision(reply=False), context)
            return
        assert self.lease is not None
        decision = free(self.lease, unbound=unbound)
        self.lease = None
        context.cancel_timer("term")
        self.settle(message, decision, context)

    def _prolong(self, message: Prolong, missed: Missed, context: Context[MergeProtocol]) -> None:
        if self.lease is None:
            self.settle(message, Decision(reply=False), context)
            return
        later = (self.lease.expires_at or 0.0) + missed.by_wall
        self.lease = attrs.evolve(self.lease, expires_at=wire.Instant(later))
        self._expire_in(self._until + missed.held_up - context.system.now(), context)
        sql = "update merge_leases set expires_at = ? where repo_root = ? and token = ?"
        row = (round(later * 1000), self.repo, self.lease.token)
        self.settle(message, Decision(reply=True, writes=(Write(sql, row, 1),)), context)

    def _left(self) -> float:
        """Seconds of the term; what maintenance is still to put it off by counts already."""
        return self._until - self.fleet.absence.now_for(PUT_OFF_BY)

    def _expire_in(self, seconds: float, context: Context[MergeProtocol]) -> None:
        assert self.lease is not None
        self._until = context.system.now() + seconds
        context.set_timer("term", max(0.0, seconds), Expire(self.lease.token))


def grant(
    repo: str, token: int, asked: Acquire, moment: Moment
) -> tuple[wire.MergeLease, Decision[wire.MergeLease]]:
    """A new lease in place of none, or of an expired one."""
    lease = wire.MergeLease(
        repo_root=repo,
        token=token,
        workspace_id=asked.workspace_id,
        holder=asked.holder,
        command_id=asked.command_id,
        acquired_at=wire.Instant(moment.at),
        expires_at=wire.Instant(moment.at + TERM),
    )
    until = moment.ms + round(TERM * 1000)
    row = (repo, token, lease.workspace_id, lease.holder, lease.command_id, moment.ms, until)
    writes = (
        Write(f"insert or replace into merge_leases ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?)", row),
        Write("insert or replace into fences (name, token) values (?, ?)", (_fence(repo), token)),
    )
    return lease, Decision(reply=lease, writes=writes)


def free(lease: wire.MergeLease, *, unbound: bool = False) -> Decision[bool]:
    """The repository has no lease any more.

    `unbound` fences it by the absence of the command: one that was just being written keeps its lease.
    """
    sql = "delete from merge_leases where repo_root = ? and token = ?"
    row = (lease.repo_root, lease.token)
    if not unbound:
        return Decision(reply=True, writes=(Write(sql, row),))
    sql += " and not exists (select 1 from commands where id = merge_leases.command_id)"
    return Decision(reply=True, writes=(Write(sql, row, 1),))


def still_held(lease: wire.MergeLease) -> Write:
    """A fence for other decisions: it holds only while the repository's lease is this very one (W-I8)."""
    sql = "update merge_leases set token = token where repo_root = ? and token = ?"
    return Write(sql, (lease.repo_root, lease.token), 1)


COLUMNS = "repo_root, token, workspace_id, holder, command_id, acquired_at, expires_at"


def _fence(repo: str) -> str:
    return f"merge:{repo}"


def _lease(row: tuple[Any, ...]) -> wire.MergeLease:
    repo, token, workspace_id, holder, command_id, acquired, expires = row
    return wire.MergeLease(
        repo_root=repo,
        token=token,
        workspace_id=workspace_id,
        holder=holder,
        command_id=command_id,
        acquired_at=wire.Instant(acquired / 1000),
        expires_at=wire.Instant(expires / 1000),
    )


def find_lease(store: Store, repo: str) -> wire.MergeLease | None:
    row = store.row(f"select {COLUMNS} from merge_leases where repo_root = ?", repo)
    return _lease(row) if row else None


def list_leases(store: Store, now: float) -> list[wire.MergeLease]:
    """The leases that have not expired at `now` (epoch seconds)."""
    sql = f"select {COLUMNS} from merge_leases where expires_at > ? order by repo_root"
    return [_lease(row) for row in store.rows(sql, round(now * 1000))]
