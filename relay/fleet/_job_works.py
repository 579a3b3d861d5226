"""What the maintenance jobs do, apart from the maintenance run itself: one function each, of which the job's actor runs one at
a time. It says in numbers what it did, and raises when it could not.

What is removed is what the settings say is too old. When the wall clock was set forward, that much is not counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import trio

from relay import wire
from relay.actors import Ask, Ref
from relay.store import Event, Write, chain

from . import tokens, workspaces
from ._audit import audit
from ._config_values import MAINTENANCE, RETENTION
from ._errors import Conflict
from .config import find_entry

if TYPE_CHECKING:
    from ._fleet import Fleet
    from ._moment import Moment

__all__ = [
    "Run",
    "Work",
    "back_up",
    "purge_automation_runs",
    "purge_tokens",
    "purge_workspaces",
    "retention",
    "trim_audit",
    "trim_events",
    "verify_audit",
]

P = TypeVar("P")
R = TypeVar("R")

HOUR, DAY = 3_600.0, 86_400.0
OWNERS_WITHIN = 20.0  # seconds that an owner has for its part
AT_A_TIME = 1_000  # rows that one transaction removes: others write in between


class Run(Protocol):
    """What a job's actor offers to its work."""

    fleet: Fleet

    def moment(self) -> Moment: ...

    async def keep(self, *writes: Write, events: tuple[Event, ...] = ()) -> None:
        """Make these durable, together."""


Report: TypeAlias = Mapping[str, Any]
Work: TypeAlias = Callable[[Run], Awaitable[Report | None]]


def retention(fleet: Fleet) -> wire.Retention:
    entry = find_entry(fleet.store, MAINTENANCE, RETENTION)
    return wire.Retention() if entry is None else wire.decode(wire.Retention, entry.value)


async def back_up(run: Run) -> Report | None:
    made = await run.fleet.store.back_up()
    if made is None:
        return None
    return {"file": made.path.name, "bytes": made.bytes, "rows": sum(made.held.tables.values())}


async def verify_audit(run: Run) -> Report:
    verdict = await run.fleet.store.verify_audit()
    if not verdict.ok:
        more = f", and {len(verdict.damages) - 1} more" if len(verdict.damages) > 1 else ""
        first = verdict.damages[0]
        raise Conflict(
            f"the audit was tampered with: {first.kind}: {first.what}{more}; see relay audit verify"
        )
    return {"records": verdict.records, "head": str(verdict.head)}


async def trim_events(run: Run) -> Report:
    """The log forgets before the rows go: no listener meets a gap."""
    store, removed = run.fleet.store, 0
    before = _before(run.fleet, retention(run.fleet).event_days * DAY)
    sql = "select id from events where id >= ? and (at >= ? or id >= ?) order by id limit 1"
    while True:
        oldest, newest = store.events.oldest_id, store.events.last_id
        found = store.row(sql, oldest, before, min(oldest + AT_A_TIME, newest))
        first = found[0] if found is not None else oldest
        if first <= oldest:
            return {"removed": removed}
        store.events.forget_before(first)
        await run.keep(Write("delete from events where id < ?", (first,)))
        removed += first - oldest


async def trim_audit(run: Run) -> Report:
    """What is about to go is looked at first: the trace of whoever tampered with it must not go with it."""
    store, removed = run.fleet.store, 0
    before = _before(run.fleet, retention(run.fleet).audit_days * DAY)
    if chain.trim(store.rows, before, AT_A_TIME) is None:
        return {"removed": 0}
    await verify_audit(run)
    while (cut := chain.trim(store.rows, before, AT_A_TIME)) is not None:
        moment = run.moment()
        note, told = audit(
            moment,
            f"{chain.TRIMMED}{moment.ms}",
            f"{cut.count} old records of the audit were removed",
            body=f"up to link {cut.anchor.seq} of the chain",
            icon="ti-scissors",
            view="security",
            metadata={"seq": cut.anchor.seq, "digest": cut.anchor.digest, "removed": cut.count},
        )
        await run.keep(*cut.writes, note, events=(told,))
        removed += cut.count
    return {"removed": removed}


async def purge_workspaces(run: Run) -> Report:
    """Each is asked itself: one that was taken up again meanwhile stays."""
    fleet = run.fleet
    before = _before(fleet, retention(fleet).cleaned_workspace_hours * HOUR)
    sql = "select id from workspaces where status = 'cleaned' and updated_at < ? order by id"
    message = workspaces.Purge(before / 1000)
    gone = [key for (key,) in fleet.store.rows(sql, before) if await ask(fleet.workspaces[key], message)]
    return {"removed": len(gone), **({"workspaceIds": gone[:100]} if gone else {})}


async def purge_tokens(run: Run) -> Report:
    return {"removed": await ask(run.fleet.tokens, tokens.Purge())}


async def purge_automation_runs(run: Run) -> Report:
    """Nobody changes a run that has ended, so there is nobody to ask."""
    store, removed = run.fleet.store, 0
    before = _before(run.fleet, retention(run.fleet).automation_run_days * DAY)
    ended = "select id from automation_runs where status <> 'running' and started_at < ? limit ?"
    while old := store.rows(ended, before, AT_A_TIME):
        await run.keep(*(Write("delete from automation_runs where id = ?", key) for key in old))
        removed += len(old)
    return {"removed": removed}


async def ask(ref: Ref[P], message: Ask[P, R]) -> R:
    with trio.fail_after(OWNERS_WITHIN):
        return await ref.ask(message)


def _before(fleet: Fleet, age: float) -> int:
    """What is from before this instant (epoch ms) is older than `age` seconds."""
    return round((fleet.system.wall() - fleet.absence.leapt() - age) * 1000)
