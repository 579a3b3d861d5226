"""Maintenance jobs: what relay does by itself now and then, by name, so that it can be looked at and asked for.

1. Each job is an actor: it runs by the clock, or because somebody asks; never two runs of one at once, one after the other.
2. A run by the clock comes when the last one is as long ago as the job's interval, also if the server was started anew
   meanwhile; but not in the first seconds of a server. Time that the server was suspended for is made up by one run.
3. How a run went is in the book (`_job_book`). A failure is logged, and recorded once; so is that it works again. What was
   removed, or asked for by somebody, is recorded, too.
4. `reaper` is the maintenance run of the contract; it keeps its own time and record (`maintenance`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Ask, Context, Refusal, Tell, Unavailable
from relay.store import Decision, Event, StoreError, StoreFailed, Write, chain

from . import _job_works as works
from ._actor import FleetActor
from ._audit import Caller, audit
from ._auto_merge import auto_merge
from ._errors import NotFound
from ._job_book import JobBook, stored
from .maintenance import EVERY, REAPER, Reap

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "JOBS",
    "Job",
    "JobProtocol",
    "Keeper",
    "RunJob",
    "backed_up_at",
    "book_of",
    "find_job",
    "keepers",
    "list_jobs",
    "run_job",
    "told",
    "verify",
]

log = logging.getLogger(__name__)

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
FIRST_AFTER = 30.0  # seconds that a server has been up before the first run of a job

FAILURES = (ActorError, Refusal, Unavailable, StoreError, trio.TooSlowError)
"""How a run may fail and leave the job's actor as it was."""


@attrs.frozen
class Job:
    """`every` is in seconds. Without `work` it is done elsewhere."""

    every: float
    about: str
    work: works.Work | None = None


JOBS: Mapping[str, Job] = {
    REAPER: Job(EVERY, "ends what is over, and takes up what was left behind"),
    "backup": Job(15 * MINUTE, "copies the database, checks the copy, removes old ones", works.back_up),
    "auto-merge": Job(
        MINUTE, "lands workspaces that are ready, if the steward's configuration wants it", auto_merge
    ),
    "verify-audit": Job(DAY, "computes the chain of the audit again", works.verify_audit),
    "trim-events": Job(HOUR, "removes old events", works.trim_events),
    "trim-audit": Job(HOUR, "removes old records of the audit", works.trim_audit),
    "purge-workspaces": Job(HOUR, "forgets workspaces that were cleaned up long ago", works.purge_workspaces),
    "purge-tokens": Job(6 * HOUR, "forgets tokens that have been of no use for long", works.purge_tokens),
    "purge-automation-runs": Job(6 * HOUR, "forgets runs that ended long ago", works.purge_automation_runs),
}


class JobProtocol:
    """What a job understands."""


@attrs.frozen
class RunJob(Ask[JobProtocol, wire.Job]):
    """Do a run now; the answer is the job after it, also when the run failed."""

    by: Caller | None = None


@attrs.frozen
class Tick(Tell[JobProtocol]):
    """It is time for a run."""


class Keeper(FleetActor[JobProtocol]):
    """The actor of one job."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        super().__init__(fleet)
        self.name = name
        self.job = JOBS[name]
        self._context: Context[JobProtocol] | None = None

    def started(self, context: Context[JobProtocol]) -> None:
        self._context = context
        self.fleet.jobs.interrupted(self.name)
        last = self.fleet.jobs[self.name].last_run_at
        ago = self.fleet.system.wall() - last if last is not None else self.job.every
        self._again_in(min(max(FIRST_AFTER, self.job.every - ago), self.job.every), context)

    async def handle(self, message: RunJob | Tick, context: Context[JobProtocol]) -> None:
        before = self.fleet.jobs[self.name]
        await self._run()
        self._again_in(self.job.every, context)
        asked = isinstance(message, RunJob)
        await self._write_down(before, asked, message.by if isinstance(message, RunJob) else None)
        if isinstance(message, RunJob):
            context.reply(message, self.fleet.jobs[self.name])

    async def _run(self) -> None:
        book, began = self.fleet.jobs, self.fleet.system.now()
        book.begin(self.name)
        try:
            assert self.job.work is not None
            report = await self.job.work(self)
        except FAILURES as failure:
            error = str(failure) or "no answer in time"
            book.end(self.name, began, wire.JobOutcome.FAILED, error=error)
            log.error("the maintenance job %s failed: %s", self.name, error)
            if isinstance(failure, StoreFailed):
                raise  # this incarnation cannot write any more
        else:
            outcome = wire.JobOutcome.SKIPPED if report is None else wire.JobOutcome.DONE
            book.end(self.name, began, outcome, report)

    def _again_in(self, seconds: float, context: Context[JobProtocol]) -> None:
        context.set_timer("run", self.fleet.jobs.due_in(self.name, seconds), Tick())

    async def keep(self, *writes: Write, events: tuple[Event, ...] = ()) -> None:
        assert self._context is not None
        await self.commit(Decision(reply=None, writes=writes, events=events), self._context)

    async def _write_down(self, before: wire.Job, asked: bool, by: Caller | None) -> None:
        job = self.fleet.jobs[self.name]
        title = _news(before, job) or (f"maintenance job {job.name} ran" if asked else None)
        if title is None:
            await self.keep(stored(job))
            return
        moment = self.moment()
        note, told = audit(
            moment,
            f"server-maintenance-{job.name}-{moment.ms}",
            title,
            body=job.last_error
            or ", ".join(f"{name}: {value}" for name, value in (job.report or {}).items())
            or None,
            meta=job.name,
            icon="ti-broom" if job.last_outcome is not wire.JobOutcome.FAILED else "ti-alert-triangle",
            view="activity",
            metadata={"job": job.name, "outcome": job.last_outcome, **(job.report or {})},
            by=by,
        )
        await self.keep(stored(job), note, events=(told,))


def _news(before: wire.Job, job: wire.Job) -> str | None:
    """What a run by the clock is on record for."""
    was, now = before.last_outcome, job.last_outcome
    if now is wire.JobOutcome.FAILED:
        return (
            None
            if was is now and before.last_error == job.last_error
            else f"maintenance job {job.name} failed"
        )
    if was is wire.JobOutcome.FAILED:
        return f"maintenance job {job.name} works again"
    removed = (job.report or {}).get("removed")
    return f"maintenance job {job.name} removed {removed}" if removed and job.name != "trim-events" else None


def book_of(fleet: Fleet) -> JobBook:
    known = (
        wire.Job(name=name, about=job.about, every_ms=round(job.every * 1000)) for name, job in JOBS.items()
    )
    return JobBook(fleet.system, fleet.store, known)


def keepers(fleet: Fleet) -> list[str]:
    """The jobs that have an actor of their own."""
    return [name for name, job in JOBS.items() if job.work is not None]


def list_jobs(fleet: Fleet) -> list[wire.Job]:
    return list(fleet.jobs)


def find_job(fleet: Fleet, name: str) -> wire.Job:
    """Raises `NotFound`."""
    try:
        return fleet.jobs[name]
    except KeyError:
        raise NotFound(f"no such job; there are {', '.join(JOBS)}") from None


async def run_job(fleet: Fleet, name: str, by: Caller | None) -> wire.Job:
    """The job after a run now, which may have failed. Raises `NotFound`."""
    find_job(fleet, name)
    if name != REAPER:
        return await fleet.keepers[name].ask(RunJob(by))
    with suppress(*FAILURES):
        await fleet.maintenance.ask(Reap(by))
    return find_job(fleet, name)


def backed_up_at(fleet: Fleet) -> wire.Instant | None:
    job = fleet.jobs["backup"]
    return None if job.last_outcome is wire.JobOutcome.SKIPPED else job.last_good_at


async def verify(fleet: Fleet, noted: str | None = None) -> wire.AuditVerdict:
    """Whether the audit is as it was written; `noted` is a link it once had. Raises `ValueError` if it cannot be one."""
    heads = [chain.Head.read(noted)] if noted is not None else []
    return told(await fleet.store.verify_audit(heads))


def told(verdict: chain.Verdict) -> wire.AuditVerdict:
    """The verdict as everybody reads it."""
    return wire.AuditVerdict(
        ok=verdict.ok,
        records=verdict.records,
        anchor=str(verdict.anchor),
        head=str(verdict.head),
        damages=[
            wire.AuditDamage(kind=each.kind, what=each.what, link=each.link, record=each.record)
            for each in verdict.damages
        ],
    )
