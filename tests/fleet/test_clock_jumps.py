"""Never a bulk expiry: when the server was held up, or the wall clock was set forward, nothing ends that somebody could not
renew, or could not be heard of meanwhile. What the maintenance run ends itself is in `test_maintenance`, hand-overs are in
`test_deliveries`, automations in `test_automation_clocks`, upgrades in `test_upgrades`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from policykit import begin, caught_up, state
from trio.testing import MockClock

from relay import wire
from relay.actors import System, open_system, virtual_wall
from relay.fleet import Conflict, Fleet, agents, commands, maintenance, merges, open_fleet, pairs
from relay.fleet._policy_rules import REGISTERS_WITHIN
from relay.store import open_store

LONG = 100_000.0
REPO = "/r"


@attrs.define
class World:
    """A fleet, and two ways of losing time."""

    fleet: Fleet
    system: System
    clock: MockClock
    how: str
    ahead: float = 0.0

    def lose(self, seconds: float) -> None:
        if self.how == "held up":
            self.clock.jump(seconds)
        else:
            self.ahead += seconds

    async def reap(self) -> wire.Reaped:
        return await self.fleet.maintenance.ask(maintenance.Reap())


@pytest.fixture(params=["held up", "set forward"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    wall = virtual_wall()
    worlds: list[World] = []
    async with (
        open_system(wall=lambda: wall() + sum(each.ahead for each in worlds), seed=1) as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
    ):
        worlds.append(World(fleet, system, clock, request.param))
        yield worlds[0]


@pytest.mark.spec("M-I25", "W-I48", "W-I49")
async def test_the_lease_of_a_merge_lasts_as_much_longer(world: World) -> None:
    """Its command does, too: another one beside it would do the same merge twice."""
    lease = world.fleet.leases[REPO]
    first = await lease.ask(merges.Acquire("w1", "a1", "c1"))
    await trio.sleep(100)
    world.lose(LONG)
    with pytest.raises(Conflict, match="is busy"):
        await lease.ask(merges.Acquire("w2", "a2", "c2"))
    for _ in range(2):
        await world.reap()
        assert merges.find_lease(world.fleet.store, REPO) is not None
    (shown,) = merges.list_leases(world.fleet.store, world.system.wall())
    assert shown.token == first.token
    await trio.sleep(merges.TERM - 200)
    with pytest.raises(Conflict, match="is busy"):
        await lease.ask(merges.Acquire("w2", "a2", "c2"))
    await trio.sleep(110)
    assert merges.find_lease(world.fleet.store, REPO) is None
    assert (await lease.ask(merges.Acquire("w2", "a2", "c2"))).token > first.token


@pytest.mark.spec("M-I25", "POL-21")
async def test_an_agent_of_a_policy_has_as_much_longer_to_register(world: World) -> None:
    fleet = world.fleet
    await begin(fleet)
    assert state(fleet).status is wire.PolicyStatus.STARTING
    done = wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED)
    for command in commands.list_commands(fleet.store):
        await fleet.commands[command.id].ask(commands.Patch(done))
    await trio.sleep(10)
    world.lose(LONG)
    await world.reap()
    await caught_up(fleet)
    assert state(fleet).status is wire.PolicyStatus.STARTING
    await trio.sleep(REGISTERS_WITHIN + 40)
    await caught_up(fleet)
    assert state(fleet).status is wire.PolicyStatus.FAILED


@pytest.mark.spec("M-I25", "PAR-5")
async def test_an_invitation_to_a_pair_lasts_as_much_longer(world: World) -> None:
    fleet = world.fleet
    for name in ("a1", "a2"):
        await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name)))
    asked = wire.ProposePair(from_="a1", to="a2", ttl_seconds=600)
    pair = await fleet.pairs["p1"].ask(pairs.Propose(asked))
    await trio.sleep(10)
    world.lose(LONG)
    await world.reap()
    assert pairs.get_pair(fleet.store, pair.id).status is wire.PairStatus.PENDING
