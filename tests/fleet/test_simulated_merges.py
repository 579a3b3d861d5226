"""Merge leases under every schedule: paused hosts, crashing actors, late reports, lost answers, jumping clocks.

The hosts land on a repository that keeps the newest fencing token it has seen, as the real ones do in git. A host may
sleep at any point, also longer than its lease lasts, and does not know it.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from repositories import REPORTS, Hosts

from relay import wire
from relay.actors import ActorError, open_system
from relay.fleet import Conflict, Fleet, NotFound, commands, merges, open_fleet, workspaces
from relay.store import open_store
from relay.testing import Faults, Sim, simulate

TERM = merges.TERM
REPOSITORIES = {"w1": "/home/u/repo", "w2": "/home/u/repo", "w3": "/home/u/other"}
CRASHING = ("leases/*", "workspaces/*", "commands/*")


@attrs.define
class Repository:
    """What is fenced: it lands only for a token that is newer than all it has landed for."""

    fence: int = 0
    landed: list[int] = attrs.field(factory=list)
    refused: int = 0

    def land(self, token: int) -> bool:
        if token <= self.fence:
            self.refused += 1
            return False
        self.fence = token
        self.landed.append(token)
        return True


class World:
    """Everybody outside of the fleet."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.hosts = Hosts(fleet)
        self.repositories = {root: Repository() for root in REPOSITORIES.values()}
        self.tokens: dict[str, list[int]] = {root: [] for root in REPOSITORIES.values()}
        self.holders: dict[str, tuple[wire.Command, float]] = {}

    async def persistently(self, do: Any, *arguments: Any, **more: Any) -> Any:
        """As a client does: again, when the answer was a failure of relay's."""
        while True:
            try:
                return await do(*arguments, **more)
            except ActorError:
                await trio.sleep(1)

    async def ask_for_merges(self, name: str) -> None:
        for _ in range(4):
            await self.persistently(self.hosts.online)
            asked = self.fleet.system.now()
            try:
                acted = await self.hosts.act(name, "merge")
            except (Conflict, ActorError):
                await trio.sleep(TERM / 2)
                continue
            assert acted.command is not None
            self._holds(acted.command, asked)
            await self._carry_out(acted.command)

    def _holds(self, command: wire.Command, asked: float) -> None:
        """The lease went to this command: the one before has ended, or its term is over."""
        root = command.params["repoRoot"]
        if root in self.holders:
            last, since = self.holders[root]
            ended = commands.get_command(self.fleet.store, last.id).status.final
            assert ended or self.fleet.system.now() >= since + TERM, "two hold the lease"
        self.holders[root] = command, asked

    async def _carry_out(self, command: wire.Command) -> None:
        """What a host does with a merge command, however slowly."""
        root, token = command.params["repoRoot"], command.params["leaseToken"]
        self.tokens[root].append(token)
        await self.sim.pause(TERM * 1.5)
        try:
            await self.persistently(self.hosts.patch, command, "running")
        except Conflict:
            return
        await self.sim.pause(TERM * 3)
        landed = self.repositories[root].land(token)
        await self.sim.pause(60)
        result = {"workspaceId": command.correlation_id, "status": "active", "merged": landed}
        end = "succeeded" if landed else "failed"
        try:
            await self.persistently(self.hosts.patch, command, end, result=result)
        except Conflict:
            pass  # it has timed out

    async def disturb(self) -> None:
        """Clocks jump, people cancel."""
        for _ in range(3):
            await trio.sleep([1, 40, 900][self.sim.choose(3)])
            match self.sim.choose(3):
                case 1:
                    self.sim.jump_wall([3600.0, -3600.0][self.sim.choose(2)])
                case 2:
                    for command in self.hosts.commands():
                        if not command.status.final:
                            try:
                                await self.hosts.cancel(command)
                            except (NotFound, ActorError):
                                pass


@pytest.mark.spec("W-I1", "W-I6", "W-I7", "W-I8", "W-I12")
@simulate(runs=60, faults=Faults(crash=0.01, delay=0.01, most=4, only=CRASHING))
async def test_a_paused_holder_never_lands_after_its_successor_and_no_lease_is_left_behind(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        # Commands and leases keep their own time, and nothing is missed here that maintenance would make up for. Hosts are there
        # whenever they ask for something: that they must be is not what is shown.
        await system.stop(fleet.maintenance)
        await fleet.keepers.stop()
        world = World(sim, fleet)
        sim.sometimes(
            lambda: any(one.refused for one in world.repositories.values()), "a stale token was refused"
        )
        await world.persistently(world.hosts.online)
        for name in REPOSITORIES:
            await world.persistently(world.hosts.report, REPORTS[name])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.disturb)
            async with trio.open_nursery() as clients:
                for name in REPOSITORIES:
                    clients.start_soon(world.ask_for_merges, name)
            await trio.sleep(1.1 * TERM)
            nursery.cancel_scope.cancel()
        for root, repository in world.repositories.items():
            assert world.tokens[root] == sorted(set(world.tokens[root])), "tokens only grow"
            assert repository.landed == sorted(set(repository.landed))
        assert all(command.status.final for command in world.hosts.commands())
        assert store.rows("select repo_root from merge_leases") == []
        for row in workspaces.list_workspaces(store):
            assert row.status is not wire.WorkspaceStatus.MERGE_PLANNED
