"""What is known of the maintenance jobs: when each ran last, how that went, and when it comes round again.

The book lives as long as the fleet, so that a job that fails, for want of room on the disk for instance, is known to have
failed. What a job's actor can write down outlives the server, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from relay import wire
from relay.actors import System
from relay.store import Store, Write

from ._records import text_of

__all__ = ["JobBook", "stored"]

Outcome = wire.JobOutcome

TIMES_LATE = 3  # intervals without success after which a job that must succeed is late


class JobBook:
    """By the name of the job."""

    def __init__(self, system: System, store: Store, jobs: Iterable[wire.Job]) -> None:
        self._system = system
        kept = {
            name: wire.decode(wire.Job, record)
            for name, record in store.rows("select * from maintenance_jobs")
        }
        self._jobs = {job.name: _resumed(job, kept.get(job.name)) for job in jobs}
        self._began = system.wall()

    def __getitem__(self, name: str) -> wire.Job:
        """Raises `KeyError`."""
        return self._jobs[name]

    def __iter__(self) -> Iterator[wire.Job]:
        return iter(self._jobs.values())

    def begin(self, name: str) -> None:
        self._jobs[name] = attrs.evolve(self[name], running=True)

    def end(
        self,
        name: str,
        began: float,
        outcome: wire.JobOutcome,
        report: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """`began` is the moment, on the system's own clock, at which the run began."""
        now = self._system.wall()
        seconds = self._system.now() - began
        self._jobs[name] = attrs.evolve(
            self[name],
            running=False,
            last_run_at=wire.Instant(now - seconds),
            last_duration_ms=max(0, round(seconds * 1000)),
            last_outcome=outcome,
            last_error=error,
            last_good_at=self[name].last_good_at if outcome is Outcome.FAILED else wire.Instant(now),
            report=dict(report) if report else None,
        )

    def interrupted(self, name: str) -> None:
        """Its actor starts anew, so nothing of it is going on."""
        self._jobs[name] = attrs.evolve(self[name], running=False)

    def due_in(self, name: str, seconds: float) -> float:
        """Notes when it comes round again; the answer is as long."""
        at = wire.Instant(self._system.wall() + seconds)
        self._jobs[name] = attrs.evolve(self[name], next_run_at=at)
        return seconds

    def alarms(self) -> list[str]:
        """What needs somebody's care."""
        return [told for job in self if (told := self._alarm(job))]

    def _alarm(self, job: wire.Job) -> str | None:
        if job.last_outcome is Outcome.FAILED:
            return f"the maintenance job {job.name} failed"
        since = max(job.last_good_at or 0.0, self._began)
        late = self._system.wall() - since > TIMES_LATE * job.every_ms / 1000
        return f"the maintenance job {job.name} has not run for long" if late else None


def stored(job: wire.Job) -> Write:
    record = text_of(wire.to_json(attrs.evolve(job, running=False, next_run_at=None)))
    return Write("insert or replace into maintenance_jobs (name, record) values (?, ?)", (job.name, record))


def _resumed(job: wire.Job, kept: wire.Job | None) -> wire.Job:
    if kept is None:
        return job
    return attrs.evolve(kept, about=job.about, every_ms=job.every_ms, running=False, next_run_at=None)
