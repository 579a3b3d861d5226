"""The maintenance run: what is over ends, and what was left behind is taken up again (spec 19.2).

1. It happens every 30 s, and whenever somebody asks; never two at once (SYS-15, M-I26).
2. It decides nothing itself. For each class of what may be due it asks the owners, in the order of `STEPS`; each of them
   compares and acts in one, and commits what it did with the events that tell of it. So nobody who was heard of meanwhile
   is lost (M-I27), and the events are in the order of the steps (M-233).
3. A step that fails is logged, and the others are done; whoever asked for the run hears of it. The next run makes up for it.
4. A run is audited. One by the timer that found nothing is not worth a record.
5. When the server was held up or suspended, or the wall clock was set forward, nobody could be heard and nothing renewed:
   whatever is held gets that time on top, and nothing expires in bulk. A step that fails is owed that time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Ask, Context, Family, Ref, Tell, Unavailable
from relay.store import Decision

from . import agents, automations, channels, commands, merges, messages, orchestrators, pairs, tasks
from ._absence import NOTHING
from ._actor import FleetActor
from ._audit import Caller, audit

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["EVERY", "REAPER", "Maintenance", "Reap", "Upkeep"]

log = logging.getLogger(__name__)

P = TypeVar("P")
R = TypeVar("R")

REAPER = "reaper"  # the name of the run among the maintenance jobs (SYS-15)
EVERY = 30.0  # seconds between two runs (O-57)
OWNERS_WITHIN = 20.0  # seconds that an owner has for its part
AT_ONCE = 64  # owners asked at the same time: their commits share syncs of the disk


class Upkeep:
    """What maintenance understands."""


@attrs.frozen
class Reap(Ask[Upkeep, wire.Reaped]):
    """Do a run now; the answer is what it has done."""

    by: Caller | None = None


@attrs.frozen
class Tick(Tell[Upkeep]):
    """It is time for a run."""


Step: TypeAlias = "Callable[[Run], Awaitable[None]]"


class Maintenance(FleetActor[Upkeep]):
    """Does the runs, one after the other."""

    def started(self, context: Context[Upkeep]) -> None:
        look(self.fleet)
        self.fleet.jobs.interrupted(REAPER)
        self._again(context)

    def _again(self, context: Context[Upkeep]) -> None:
        context.set_timer("run", self.fleet.jobs.due_in(REAPER, EVERY), Tick())

    async def handle(self, message: Reap | Tick, context: Context[Upkeep]) -> None:
        run = Run(self.fleet)
        began = self.fleet.system.now()
        self.fleet.jobs.begin(REAPER)
        await run.do()
        look(self.fleet)
        self._note(run, began)
        self._again(context)
        if isinstance(message, Reap):
            slot = context.defer(message)
            await self._audit(run, context, message.by)
            if run.failed is None:
                slot.set(run.report)
            else:
                slot.fail(run.failed)
        elif run.found:
            await self._audit(run, context)

    def _note(self, run: Run, began: float) -> None:
        if run.failed is not None:
            error = str(run.failed) or "no answer in time"
            self.fleet.jobs.end(REAPER, began, wire.JobOutcome.FAILED, error=error)
            return
        found = {name: len(ids) for name, ids in wire.to_json(run.report).items() if name != "ok"}
        self.fleet.jobs.end(REAPER, began, wire.JobOutcome.DONE, found)

    async def _audit(self, run: Run, context: Context[Upkeep], by: Caller | None = None) -> None:
        moment = self.moment()
        write, event = audit(
            moment,
            f"server-system-reap-{moment.ms}",
            "maintenance ran",
            body=run.counts(),
            icon="ti-broom",
            view="activity",
            by=by,
        )
        await self.commit(Decision(reply=None, writes=(write,), events=(event,)), context)


class Run:
    """One run. `report` is what it has done so far; `failed` the first failure, if any; `missed` what the present step is
    to make up for."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.missed = NOTHING
        self.report = wire.Reaped()
        self.failed: Exception | None = None

    async def do(self) -> None:
        for step in STEPS:
            look(self.fleet)
            self.missed = self.fleet.absence.owed(step.__name__)
            failed, self.failed = self.failed, None
            try:
                await step(self)
            except (ActorError, Unavailable, trio.TooSlowError) as error:
                self.fail(step.__name__, error)
            if self.failed is None:
                self.fleet.absence.paid(step.__name__)
            self.failed = failed or self.failed

    def fail(self, what: str, error: Exception) -> None:
        log.error("maintenance: %s: %s", what.replace("_", " "), str(error) or "no answer in time")
        self.failed = self.failed or error

    async def ask(self, ref: Ref[P], message: Ask[P, R]) -> R:
        with trio.fail_after(OWNERS_WITHIN):
            return await ref.ask(message)

    async def ask_each(
        self, family: Family[str, P], keys: list[str], message: Ask[P, bool]
    ) -> tuple[str, ...]:
        """Those of `keys` whose owner says that it was due, in their order."""
        due: set[str] = set()

        async def ask(key: str) -> None:
            try:
                if await self.ask(family[key], message):
                    due.add(key)
            except (ActorError, Unavailable, trio.TooSlowError) as error:
                self.fail(key, error)

        for first in range(0, len(keys), AT_ONCE):
            async with trio.open_nursery() as nursery:
                for key in keys[first : first + AT_ONCE]:
                    nursery.start_soon(ask, key)
        return tuple(key for key in keys if key in due)

    def is_idle(self, sql: str) -> bool:
        """Whether there is nothing of the kind at all, so that its owner need not be asked."""
        return self.missed == NOTHING and self.fleet.store.row(f"{sql} limit 1") is None

    def keys(self, sql: str) -> list[str]:
        return [key for (key,) in self.fleet.store.rows(sql)]

    @property
    def found(self) -> bool:
        return any(ids for name, ids in attrs.asdict(self.report).items() if name != "ok")

    def found_also(self, **ids: tuple[Any, ...]) -> None:
        """These were ended or set free, too."""
        known: dict[str, Any] = {name: (*getattr(self.report, name), *found) for name, found in ids.items()}
        self.report = attrs.evolve(self.report, **known)

    def counts(self) -> str:
        """In the order of M-234."""
        report = self.report
        found = {
            "agents": report.reaped_agent_ids,
            "orchestrators": report.reaped_orchestrator_ids,
            "message claims": report.released_message_ids,
            "task claims": report.released_task_ids,
            "queued messages": report.expired_queued_message_ids,
            "commands": report.expired_command_ids,
        }
        return ", ".join(f"{len(ids)} {name}" for name, ids in found.items())


def look(fleet: Fleet) -> None:
    """See what was missed, before each step and after the last: a run may be held up, too."""
    fleet.absence.look((step.__name__ for step in STEPS), again_in=EVERY)


async def release_claims(run: Run) -> None:
    """Claims on messages and tasks that nobody renewed."""
    if run.is_idle("select 1 from message_claims union all select 1 from tasks where claimed_by is not null"):
        return
    missed, freed = run.missed.by_wall, None
    while freed != tasks.Released():
        freed = await run.ask(run.fleet.post_office, tasks.ReleaseExpired(missed))
        run.found_also(released_message_ids=freed.message_ids, released_task_ids=freed.task_ids)
        missed = 0.0


async def release_orphans(run: Run) -> None:
    """Tasks whose holders have been gone for long. Those of agents that this run takes offline are for the next (M-I40)."""
    if run.is_idle("select 1 from tasks where claimed_by is not null"):
        return
    while freed := await run.ask(run.fleet.post_office, tasks.ReleaseOrphaned()):
        run.found_also(released_orphaned_task_ids=freed)


async def expire_queued(run: Run) -> None:
    """Mail that has waited too long for the agent of a policy."""
    if run.is_idle("select 1 from messages where delivery = 'queued'"):
        return
    missed = run.missed.by_wall
    while ended := await run.ask(run.fleet.post_office, messages.ExpireQueued(missed)):
        run.found_also(expired_queued_message_ids=ended)
        missed = 0.0


async def expire_commands(run: Run) -> None:
    """Life times are measured on the server's own clock, so the wall clock only says whom to ask."""
    fleet, held_up = run.fleet, run.missed.held_up
    due = commands.due(fleet.store, float("inf") if held_up else fleet.system.wall())
    run.found_also(expired_command_ids=await run.ask_each(fleet.commands, due, commands.ExpireIfDue(held_up)))


async def reap_agents(run: Run) -> None:
    """Long before an agent is lost, its own timer has made it stale."""
    found = run.keys("select id from agents where status = 'stale' order by id")
    message = agents.ReapIfSilent(held_up=run.missed.held_up > 0)
    run.found_also(reaped_agent_ids=await run.ask_each(run.fleet.agents, found, message))


async def reap_orchestrators(run: Run) -> None:
    found = run.keys("select id from orchestrators where status = 'online' order by id")
    message = orchestrators.ReapIfSilent(held_up=run.missed.held_up > 0)
    run.found_also(reaped_orchestrator_ids=await run.ask_each(run.fleet.orchestrators, found, message))


async def expire_pairs(run: Run) -> None:
    """Invitations that nobody answered. Those that nobody could answer, as the server was not there, get more time."""
    at = float("inf") if run.missed.by_wall else run.fleet.system.wall()
    due = pairs.due_pairs(run.fleet.store, at)
    await run.ask_each(run.fleet.pairs, due, pairs.Expire(run.missed.by_wall))


async def fill_slots(run: Run) -> None:
    """Slots of pools: those of agents that this run took offline go to others at once (SYS-13)."""
    if run.is_idle("select 1 from channel_bindings where target_type = 'pool'"):
        return
    await run.ask(run.fleet.switchboard, channels.Reevaluate())


async def prolong_merges(run: Run) -> None:
    """Leases of merges have timers; those that there are last as much longer as was missed."""
    if run.missed == NOTHING:
        return
    for repo in run.keys("select repo_root from merge_leases"):
        await run.ask(run.fleet.leases[repo], merges.Prolong(run.missed))


async def begin_due(run: Run) -> None:
    """Automations have timers, which know nothing of a suspend, nor of a clock that was set: by the wall clock they may be due
    before."""
    for key in automations.overdue(run.fleet.store, run.fleet.system.wall()):
        run.fleet.automations[key].tell(automations.Look())


STEPS: tuple[Step, ...] = (
    release_claims,
    release_orphans,
    expire_queued,
    expire_commands,
    reap_agents,
    reap_orchestrators,
    expire_pairs,
    fill_slots,
    prolong_merges,
    begin_due,
)
"""Steps 1 to 6 and 14 of 19.2, each with its own announcements (C-17), and what else is due."""
