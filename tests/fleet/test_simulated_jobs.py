"""Maintenance jobs under every schedule: crashes, commits that fail, a wall clock that jumps, and many who ask. The chain of the
audit is whole at every moment, whatever was trimmed; nothing goes before its time; of one job one run goes on.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Fleet, NotFound, agents, config, jobs, open_fleet
from relay.fleet._contact import HELD_UP
from relay.store import open_store
from relay.store.chain import Head, verify
from relay.testing import Faults, Sim, simulate

DAY = 86_400.0
JUMPS = (3 * DAY, -3 * DAY, 0.0)
FAULTS = Faults(
    crash=0.02,
    delay=0.01,
    longest=10.0,
    named={"store.commit": 0.03},
    most=8,
    only=("agents/*", "jobs/*", "activity"),
)
SUSPENDED = (DAY / 2, DAY, 0.0)  # seconds
ASKED_FOR = ("trim-audit", "trim-events", "verify-audit", "purge-tokens")


def suspend(seconds: float) -> None:
    """The whole machine, for so long."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.jump(seconds)


class Keepers:
    """Agents that are on record, people who ask for jobs, and a witness who noted heads of the chain."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.written: dict[int, float] = {}  # when a record was first seen, on the server's own clock
        self.noted: list[Head] = []
        self.removed = 0

    async def live(self, name: str) -> None:
        for number in range(6):
            asked = agents.SetTags([f"t{number}"])
            for message in (agents.Register(wire.RegisterAgent(id=name)), asked):
                try:
                    await self.fleet.agents[name].ask(message)
                except (ActorError, Unavailable, NotFound):
                    continue
            await self.sim.pause(300)

    async def ask(self) -> None:
        for _ in range(5):
            name = ASKED_FOR[self.sim.choose(len(ASKED_FOR))]
            try:
                ran = await jobs.run_job(self.fleet, name, None)
            except (ActorError, Unavailable):
                continue
            assert name != "verify-audit" or ran.last_outcome is wire.JobOutcome.DONE, ran.last_error
            await self.sim.pause(300)

    async def watch(self) -> None:
        while True:
            self.look()
            await trio.sleep(20)

    def look(self) -> None:
        """At what is committed, as nobody writes while this looks."""
        store, now = self.fleet.store, self.fleet.system.now()
        verdict = verify(store.rows, self.noted)
        assert verdict.ok, verdict.damages
        self.noted = [*self.noted[-20:], verdict.head]
        counts = "select (select count(*) from activity) - (select count(*) from audit_chain)"
        assert store.row(counts) == (0,)
        there = {number for (number,) in store.rows("select id from activity")}
        for number in self.written.keys() - there:
            age = now - self.written.pop(number)
            assert age + 20 + HELD_UP >= DAY, f"record {number} went after {age} s"
            self.removed += 1
        for number in there:
            self.written.setdefault(number, now)
        assert store.check() == []


@pytest.mark.spec("M-I26", "M-I25", "M-I32", "SYS-15")
@simulate(runs=20, faults=FAULTS)
async def test_the_chain_is_whole_and_nothing_goes_before_its_time(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        keepers = Keepers(sim, fleet)
        sim.sometimes(lambda: keepers.removed > 0, "records went")
        settings: dict[str, Any] = {"auditDays": 1, "eventDays": 1}
        while config.find_entry(store, "maintenance", "retention") is None:
            try:
                await config.set_value(fleet, "maintenance", "retention", settings, None)
            except (ActorError, Unavailable):
                await trio.sleep(1)
        async with trio.open_nursery() as watching:
            watching.start_soon(keepers.watch)
            async with trio.open_nursery() as nursery:
                for name in ("a1", "a2"):
                    nursery.start_soon(keepers.live, name)
                for _ in range(2):
                    nursery.start_soon(keepers.ask)
                for _ in range(5):
                    await sim.pause(300)
                    suspend(SUSPENDED[sim.choose(len(SUSPENDED))])
                    sim.jump_wall(JUMPS[sim.choose(len(JUMPS))])
                await trio.sleep(40)
            watching.cancel_scope.cancel()
        keepers.look()
