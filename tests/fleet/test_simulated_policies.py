"""Policies under every schedule: a policy never has two live agents for one slot, and in the end it has the one it should.

Persons start, stop, restart and move it; its sessions die; daemons are killed, and whole machines start again; hosts take commands
late, twice and out of order, and what they say, or are answered, is lost; agents register late, also when they are dead
already; the server crashes and starts again, and its wall clock is set.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from playedhosts import Disk, PlayedHost, PlayedSession, registration
from policykit import add_host, put_policy, state

from relay import wire
from relay.actors import ActorError, Refusal, Unavailable, open_system, virtual_wall
from relay.fleet import Fleet, agents, open_fleet
from relay.fleet.policies import Exited, Restart, Start, Stop, find_policy_state
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

S = wire.PolicyStatus
HOSTS = ("h1", "h2")
RESTART = {"mode": "always", "delayMs": 2_000, "maxDelayMs": 10_000, "quarantineAfter": 0}
TROUBLE = (ActorError, Unavailable, trio.TooSlowError, Refusal)


class World:
    """Everybody who has to do with the policy P."""

    def __init__(self, sim: Sim, store: Store) -> None:
        self.sim = sim
        self.store = store
        self.fleet: Fleet
        self.disks = {name: Disk() for name in HOSTS}
        self.sessions: list[PlayedSession] = []
        self.seen: Counter[str] = Counter()
        self.true_wall = virtual_wall()
        self.ahead = 0.0
        self.calm = False
        self.newest = 0
        self.nursery: trio.Nursery

    def wall(self) -> float:
        """What the server's wall clock shows."""
        return self.true_wall() + self.ahead

    def alive(self) -> list[PlayedSession]:
        return [session for session in self.sessions if session.alive]

    def started(self, session: PlayedSession) -> None:
        self.seen["started"] += 1
        assert session.epoch >= self.newest, "what was over was started"
        self.newest = session.epoch
        self.sessions.append(session)
        self.nursery.start_soon(self._lead_a_life, session)

    async def _lead_a_life(self, session: PlayedSession) -> None:
        """It registers, perhaps so late that it is dead by then, gives signs of life, and may die."""
        await self.sim.pause(6)
        register = registration(session.launch)
        while await self.ask(self.fleet.agents[session.launch.agent_id], register) is None and session.alive:
            await trio.sleep(2)
        if not session.alive:
            self.seen["late"] += 1
        while session.alive:
            await trio.sleep(30)
            if not self.calm and self.sim.choose(4) == 1:
                session.alive = False
                self.seen["died"] += 1
            if session.alive:
                await self.ask(self.fleet.agents[session.launch.agent_id], agents.Heartbeat())

    async def ask(self, ref: Any, message: Any) -> Any:
        with trio.move_on_after(30):
            try:
                return await ref.ask(message) or True
            except TROUBLE:
                return None

    async def persons(self) -> None:
        for _ in range(6):
            policy = self.fleet.policies["P"]
            if self.sim.choose(10) == 1:
                self.ahead += (-7_200.0, 7_200.0)[self.sim.choose(2)]
                self.seen["set"] += 1
            match self.sim.choose(7):
                case 0 | 1:
                    await self.ask(policy, Start())
                case 2 | 3:
                    await self.stop_and_start(policy)
                case 4:
                    await self.ask(policy, Restart())
                case 5:
                    await self.say(HOSTS[self.sim.choose(2)])
                case 6:
                    await self.say(HOSTS[self.sim.choose(2)])
                    await self.stop_and_start(policy)
            await self.sim.pause(20)

    async def stop_and_start(self, policy: Any) -> None:
        await self.ask(policy, Stop())
        await self.sim.pause(8)
        await self.ask(policy, Start())

    async def say(self, host: str) -> None:
        """What the policy says, and where it is to run."""
        while True:
            try:
                with trio.fail_after(30):
                    await put_policy(self.fleet, orchestratorId=host, restart=RESTART)
                return
            except TROUBLE:
                await trio.sleep(1)

    async def daemon(self, name: str) -> None:
        """The host's daemon, killed now and then."""
        while True:
            disk = self.disks[name]
            host = PlayedHost(self.sim, name, disk, lambda: self.fleet, self.started, lambda: not self.calm)
            with trio.move_on_after(20 + 20 * self.sim.choose(3) if not self.calm else 10_000):
                await host.run()
            self.seen["killed"] += 1
            if not self.calm and self.sim.choose(5) == 1:
                self.seen["booted"] += 1
                disk.booted()
            await self.sim.pause(10)

    async def server(self, lives: int) -> None:
        """The lives of the server, one after the other; the last one goes on."""
        for life in range(lives):
            async with (
                open_system(wall=self.wall) as system,
                open_fleet(system, self.store) as self.fleet,
            ):
                if life == 0:
                    await self.say("h1")
                    for name in HOSTS:
                        self.nursery.start_soon(self.daemon, name)
                await self.persons()
        self.calm = True

    async def until(self, what: Any) -> None:
        with trio.fail_after(600):
            while not what():
                await trio.sleep(1)

    def state(self) -> wire.PolicyState | None:
        return find_policy_state(self.store, "P")

    def settled(self) -> bool:
        """One agent runs, and it is the policy's."""
        state, there = self.state(), self.alive()
        if state is None or state.status is not S.RUNNING or len(there) != 1:
            return False
        return there[0].launch.spawn_request_id == state.spawn_request_id

    async def end_well(self) -> None:
        """Without further trouble the policy has the agent it should have, and after a stop none."""
        async with open_system(wall=self.wall) as system, open_fleet(system, self.store) as self.fleet:
            while self.state() is None or not self.settled():
                await self.ask(self.fleet.policies["P"], Start())
                with trio.move_on_after(60):
                    await self.until(self.settled)
                if (now := self.state()) is not None and now.status is S.STOPPING and now.last_error:
                    await self.ask(self.fleet.policies["P"], Stop())  # its host could not end it: once more
                    await trio.sleep(20)
            while self.alive() or (state := self.state()) is None or state.status is not S.STOPPED:
                await self.ask(self.fleet.policies["P"], Stop())
                with trio.move_on_after(60):
                    await self.until(lambda: not self.alive())
                await trio.sleep(20)
            self.nursery.cancel_scope.cancel()


@pytest.mark.spec("M-I12", "M-I19", "M-197", "POL-21", "ORC-12", "O-25")
@simulate(
    runs=50,
    faults=Faults(
        crash=0.01,
        delay=0.02,
        named={"store.commit": 0.02},
        most=6,
        only=("policies/*", "commands/*", "orchestrators/*", "agents/*"),
    ),
)
async def test_a_policy_never_has_two_live_agents_for_one_slot(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store:
        world = World(sim, store)
        sim.always(lambda: len(world.alive()) <= 1, "one live agent")
        sim.sometimes(lambda: world.seen["started"] > 2, "agents were started")
        sim.sometimes(lambda: world.seen["died"] > 0, "agents died")
        sim.sometimes(lambda: world.seen["late"] > 0, "dead agents registered")
        sim.sometimes(lambda: world.seen["killed"] > 0, "daemons were killed")
        sim.sometimes(lambda: world.seen["booted"] > 0, "machines were started again")
        sim.sometimes(lambda: world.seen["set"] > 0, "the clock was set")
        sim.sometimes(lambda: any(disk.exits for disk in world.disks.values()), "exits were to be reported")
        with trio.fail_after(10_000):
            async with trio.open_nursery() as world.nursery:
                await world.server(2)
                await world.end_well()


@pytest.mark.spec("M-I19", "POL-13")
@simulate(runs=5, faults=Faults(delay=0.05, only=("policies/*", "commands/*")))
async def test_a_policy_that_is_moved_leaves_by_way_of_the_host_that_has_its_agent(sim: Sim) -> None:
    """It was stopped on one host and restarted on another, and is to go back to the first: that is for the other to do."""
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        for name in HOSTS:
            await add_host(fleet, name)
        await put_policy(fleet)
        started = await fleet.policies["P"].ask(Start())
        await fleet.policies["P"].ask(Stop())
        await fleet.policies["P"].ask(Exited(started.correlation_id or "", "it went", well=True))
        await put_policy(fleet, orchestratorId="h2")
        await fleet.policies["P"].ask(Restart())
        await put_policy(fleet, orchestratorId="h1")
        await sim.pause(3)
        last = await fleet.policies["P"].ask((Restart(), Stop())[sim.choose(2)])
        assert (last.target, state(fleet).orchestrator_id) == ("orchestrator-h2", "h2")
