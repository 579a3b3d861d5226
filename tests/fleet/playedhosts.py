"""Hosts of simulations: they take commands as the daemon does, keep sessions that are played, and have real fences.

A session is a process that starts, registers when it comes to it, and dies. It outlives the daemon; so does what is on the
host's disk. Everything may take its time, or be done twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Refusal, Unavailable
from relay.fleet import Fleet, agents, commands, orchestrators
from relay.orchestrator._problems import Refused
from relay.orchestrator.session import Launch
from relay.orchestrator.slots import GRACE, Fence, Slot, Slots
from relay.testing import Sim

__all__ = ["Disk", "PlayedHost", "PlayedSession"]

C = wire.CommandStatus
LOST, UNANSWERED = 1, 2
TROUBLE = (ActorError, Unavailable, trio.TooSlowError, Refusal)


@attrs.define(eq=False)
class PlayedSession:
    """One process, of a policy's agent."""

    launch: Launch
    epoch: int
    alive: bool = True


class Disk:
    """What a host still knows when its daemon starts again."""

    def __init__(self) -> None:
        self.fences: dict[str, Fence] = {}
        self.sessions: dict[str, PlayedSession] = {}
        self.exits: list[wire.ExitedAgent] = []

    def read(self, policy: str) -> Fence:
        return self.fences.get(policy, Fence())

    def write(self, policy: str, fence: Fence) -> None:
        self.fences[policy] = fence

    def booted(self) -> None:
        """The machine was started again: nothing that ran does any more, and what is on the disk is there."""
        for session in self.sessions.values():
            session.alive = False


class PlayedHost:
    """One life of a host's daemon. `started` is called with each session that begins to run. While it is `lossy`, some of what
    it says does not arrive, and some answers do not."""

    def __init__(
        self,
        sim: Sim,
        name: str,
        disk: Disk,
        fleet: Callable[[], Fleet],
        started: Callable[[PlayedSession], None],
        lossy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.sim = sim
        self.name = name
        self.disk = disk
        self.fleet = fleet
        self.live = disk.sessions
        self.slots: Slots[PlayedSession] = Slots(disk, self)  # type: ignore[arg-type]
        self._started = started
        self.lossy = lossy
        self._taken: set[str] = set()
        self._told: list[str] | None = None

    async def run(self) -> None:
        """Until cancelled, which is how a daemon ends."""
        async with trio.open_nursery() as nursery:
            there = None
            while True:
                greeting = (
                    self._card() if there is None else orchestrators.Heartbeat(wire.OrchestratorHeartbeat())
                )
                there = await self._greet(greeting)
                await self._report()
                for command in await self._found():
                    if command.id not in self._taken:
                        self._taken.add(command.id)
                        nursery.start_soon(self._take, command)
                await trio.sleep(4)

    async def ask(self, what: Callable[[Fleet], Awaitable[Any]]) -> Any:
        """None when nobody knows what came of it, or it was refused."""
        fate = self.sim.choose(80) if self.lossy() else 0
        with trio.move_on_after(30):
            try:
                answer = await what(self.fleet()) if fate != LOST else None
            except TROUBLE:
                return None
            return answer if fate != UNANSWERED else None
        return None

    async def _greet(self, greeting: Any) -> Any:
        return await self.ask(lambda fleet: fleet.orchestrators[self.name].ask(greeting))

    def _card(self) -> orchestrators.Register:
        return orchestrators.Register(
            wire.RegisterOrchestrator(id=self.name, hostname=self.name, base_dir="/base")
        )

    async def _found(self) -> list[wire.Command]:
        target = f"orchestrator-{self.name}"
        listed = commands.list_commands(self.fleet().store, target=target)
        open_ = [command for command in listed if not command.status.final]
        return open_[::-1] if self.sim.choose(3) == 1 else open_

    # -- commands

    async def _take(self, command: wire.Command) -> None:
        await self.sim.pause(8)
        token = await self.ask(lambda fleet: fleet.commands[command.id].ask(commands.Claim(self.name)))
        if token is None:
            self._taken.discard(command.id)
            return
        # What was taken before it was canceled is begun all the same, and perhaps late: that is what the fences are for.
        if self.sim.choose(3) == 1:
            await self.sim.pause(30)
        outcome = await self._done(command)
        if self.sim.choose(3) == 1:
            await self.sim.pause(15)
            outcome = await self._done(command)  # as after a crash between the deed and its outcome
        await self.sim.pause(5)
        report = attrs.evolve(outcome, token=token)
        await self.ask(lambda fleet: fleet.commands[command.id].ask(commands.Patch(report)))
        self._taken.discard(command.id)

    async def _done(self, command: wire.Command) -> wire.PatchCommand:
        try:
            if command.type == "agent.spawn":
                await self._spawn(command.params)
            elif command.type == "agent.restart":
                await self._restart(command.params)
            else:
                await self._shutdown(command.params)
        except Refused as refused:
            return wire.PatchCommand(status=C.FAILED, error=str(refused))
        return wire.PatchCommand(status=C.SUCCEEDED, result={})

    async def _spawn(self, params: Mapping[str, Any]) -> None:
        slot = Slot.read(params)
        await self.slots.enter(slot)
        if params["spawnRequestId"] in {each.launch.spawn_request_id for each in self.live.values()}:
            return
        await self.sim.pause(10)
        if self.sim.choose(6) == 1:
            raise Refused("no such program")
        self.slots.check(slot)
        self._start(params)

    def _start(self, params: Mapping[str, Any]) -> None:
        request = params["spawnRequestId"]
        name = f"{self.name}-{request}"
        if name in self.live:
            return
        launch = Launch(
            name=name, agent_id=name, provider="claude", cwd="/", label=None, approval_mode="guarded",
            spawn_request_id=request, policy_name=params["policyName"], workspace={}, environment={},
        )  # fmt: skip
        session = self.live[name] = PlayedSession(launch, params["policyEpoch"])
        self._started(session)

    async def _restart(self, params: Mapping[str, Any]) -> None:
        slot = Slot.read(params)
        assert slot is not None
        await self.slots.enter(slot)
        for session in [each for each in self.live.values() if each.launch.spawn_request_id == slot.request]:
            if not await self.stop(session, GRACE):
                raise Refused("could not be stopped")
        await self._spawn(params["restartSpawn"])

    async def _shutdown(self, params: Mapping[str, Any]) -> None:
        slot = Slot.read(params)
        assert slot is not None
        if self.slots.vacate(slot):
            await self.slots.clear(slot, GRACE, all_=True)

    # -- sessions

    async def stop(self, session: PlayedSession, grace: float) -> bool:
        """It takes a while, and may not work."""
        await self.sim.pause(grace / 2)
        if self.sim.choose(8) == 1:
            return False
        session.alive = False
        if self.live.get(session.launch.name) is session:
            del self.live[session.launch.name]
        return True

    async def vacated(self, session: PlayedSession) -> bool:
        return not session.alive

    async def _report(self) -> None:
        """Who is here, and who died unasked."""
        for session in [each for each in self.live.values() if not each.alive]:
            del self.live[session.launch.name]
            self.disk.exits.append(_exited(session.launch))
        exits = list(self.disk.exits)
        here = list(self.live)
        if not exits and here == self._told:
            return
        roster = wire.Roster(agents=[_entry(each.launch) for each in self.live.values()], exited_agents=exits)
        ask = orchestrators.ReportRoster(roster)
        if await self.ask(lambda fleet: fleet.orchestrators[self.name].ask(ask)) is not None:
            self._told = here
            self.disk.exits = [each for each in self.disk.exits if each not in exits]


def _entry(launch: Launch) -> wire.ManagedAgent:
    return wire.ManagedAgent(
        agent_id=launch.agent_id, policy_name=launch.policy_name, spawn_request_id=launch.spawn_request_id
    )


def _exited(launch: Launch) -> wire.ExitedAgent:
    return wire.ExitedAgent(
        agent_id=launch.agent_id, policy_name=launch.policy_name, spawn_request_id=launch.spawn_request_id
    )


def registration(launch: Launch) -> agents.Register:
    meta = {"policyName": launch.policy_name, "spawnRequestId": launch.spawn_request_id}
    return agents.Register(wire.RegisterAgent(id=launch.agent_id, meta=meta))
