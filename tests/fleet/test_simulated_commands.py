"""Commands under every schedule: rival claimants, late reports, cancels, expiry, crashes, commits that fail."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Conflict, Fleet, NotFound, commands, open_fleet
from relay.fleet.commands import MOVES
from relay.store import open_store
from relay.testing import Faults, Sim, simulate

S = wire.CommandStatus
LIFE = 60_000  # ms


class People:
    """Whoever carries commands out, and whoever calls them off."""

    def __init__(self, sim: Sim, fleet: Fleet, key: str) -> None:
        self.sim = sim
        self.fleet = fleet
        self.key = key
        self.ref = fleet.commands[key]
        self.tokens: dict[int, set[str]] = defaultdict(set)
        self.ended: list[wire.CommandStatus] = []
        self.late = 0
        self.concluded = 0
        self.repeated = 0

    async def ask(self, message: Any) -> Any:
        while True:
            try:
                return await self.ref.ask(message)
            except (ActorError, Unavailable):
                self.repeated += 1
                await trio.sleep(1)

    async def carry_out(self, name: str) -> None:
        token = await self.ask(commands.Claim(name))
        if token is None:
            return
        self.tokens[token].add(name)
        for status in (S.RUNNING, (S.SUCCEEDED, S.FAILED)[self.sim.choose(2)]):
            await self.sim.pause(LIFE / 1000 * 0.7)
            await self.report(wire.PatchCommand(status=status, token=token, result={"by": name}))

    async def report(self, change: wire.PatchCommand) -> None:
        newest = max(self.tokens)
        before = commands.get_command(self.fleet.store, self.key)
        try:
            told = await self.ask(commands.Patch(change))
        except Conflict:
            self.late += 1
            return
        assert change.token is not None
        assert before.status.final or change.token >= newest, "whoever claimed it later is the one to report"
        if told.status.final:
            self.ended.append(told.status)

    async def call_off(self) -> None:
        await self.sim.pause(LIFE / 1000)
        if self.sim.choose(2):
            try:
                await self.ask(commands.Cancel())
            except NotFound:
                self.late += 1

    async def conclude(self) -> None:
        """Relay finds out by itself, and asks until it is answered."""
        await self.sim.pause(LIFE / 1000)
        if self.sim.choose(2):
            end = (S.SUCCEEDED, S.FAILED)[self.sim.choose(2)]
            told = await self.ask(commands.Conclude(end, {"by": "relay"}))
            self.concluded += told.result == {"by": "relay"}
            self.ended.append(told.status)


@pytest.mark.spec("M-I14", "M-I15", "M-I16", "CMD-11", "CMD-14")
@simulate(
    runs=100,
    faults=Faults(crash=0.03, delay=0.03, named={"store.commit": 0.05}, most=6, only=("commands/*",)),
)
async def test_a_command_ends_once_and_every_change_is_told_once(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        term = LIFE // 2 if sim.choose(2) else None
        asked = wire.NewCommand(type="t", source="s", target="a1", ttl_ms=LIFE, execution_ms=term)
        while True:
            try:
                key = (await commands.create_command(fleet, asked)).id
                break
            except (ActorError, Unavailable):
                await trio.sleep(1)
        people = People(sim, fleet, key)
        sim.sometimes(lambda: people.late > 0, "somebody was too late")
        sim.sometimes(lambda: people.repeated > 0, "something was asked again")
        sim.sometimes(lambda: people.concluded > 0, "relay found out by itself")
        async with trio.open_nursery() as nursery:
            for name in ("h1", "h1", "h2"):
                nursery.start_soon(people.carry_out, name)
            nursery.start_soon(people.call_off)
            nursery.start_soon(people.conclude)
        await trio.sleep(LIFE / 1000 + 100)
        ended = commands.get_command(store, key)
        sim.sometimes(lambda: ended.outcome_unknown is True, "nobody knows what was done")
        told = [event for event in Log(store).events() if event["subject"] == key]
        path = [S(event["data"]["command"]["status"]) for event in told]
        assert path[0] is S.PENDING
        for before, after in pairwise(path):
            assert after is before or after in MOVES[before].values(), path
        assert [status.final for status in path].count(True) == 1
        assert ended.status is path[-1]
        begun = any(status in (S.ACCEPTED, S.RUNNING) for status in path)
        assert (ended.outcome_unknown is True) is (begun and path[-1] in (S.TIMED_OUT, S.CANCELED))
        assert set(people.ended) <= {path[-1]}
        assert all(len(names) == 1 for names in people.tokens.values()), "a token has one claimant"
        assert len({tuple(names) for names in people.tokens.values()}) <= 1, "only who has it claims it again"
