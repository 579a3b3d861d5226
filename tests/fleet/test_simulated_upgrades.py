"""Upgrades of a host under every schedule: rival requests, contacts of any version, executors that give up, people who cancel,
crashes, commits that fail, restarts. Each upgrade comes out once, and its command with it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Conflict, Fleet, NotFound, commands, open_fleet, orchestrators
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

U, C = wire.UpgradeStatus, wire.CommandStatus
NO = (Conflict, NotFound)
TROUBLE = (ActorError, Unavailable, trio.TooSlowError)
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")
GAVE_UP = (C.FAILED, C.REJECTED, C.CANCELED)


class World:
    """Whoever asks for upgrades of host h1, the host, whoever installs, and whoever cancels."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.host = fleet.orchestrators["h1"]

    async def once(self, ref: Any, message: Any) -> Any:
        """What comes of it; None if it was refused, or is unknown."""
        try:
            return await ref.ask(message)
        except (*NO, *TROUBLE):
            return None

    async def surely(self, message: Any) -> Any:
        while (answer := await self.once(self.host, message)) is None:
            await trio.sleep(1)
        return answer

    def version(self) -> str:
        return VERSIONS[self.sim.choose(len(VERSIONS))]

    async def ask(self) -> None:
        for _ in range(3):
            await self.sim.pause(200)
            asked = wire.UpgradeOrchestrator(action="upgrade", target_version=self.version(), force=True)
            await self.once(self.host, orchestrators.Upgrade(asked))

    async def beat(self) -> None:
        for _ in range(4):
            await self.sim.pause(200)
            version = self.version()
            if self.sim.choose(3):
                beat = wire.OrchestratorHeartbeat(version=version)
                await self.once(self.host, orchestrators.Heartbeat(beat))
            else:
                await self.once(self.host, orchestrators.Register(card(version)))

    async def install(self) -> None:
        """Somebody takes the newest command, gives up, or says nothing more; or a person cancels it."""
        for _ in range(4):
            await self.sim.pause(150)
            found = [each for each in upgrades(self.fleet.store) if not each.status.final]
            if not found:
                continue
            ref = self.fleet.commands[found[self.sim.choose(len(found))].id]
            match self.sim.choose(5):
                case 0:
                    await self.once(ref, commands.Cancel())
                case 1 | 2:
                    status = (C.FAILED, C.REJECTED)[self.sim.choose(2)]
                    await self.once(ref, commands.Patch(wire.PatchCommand(status=status, error="no room")))
                case _:
                    await self.once(ref, commands.Patch(wire.PatchCommand(status=C.RUNNING)))


def card(version: str) -> wire.RegisterOrchestrator:
    return wire.RegisterOrchestrator(id="h1", hostname="h", base_dir="/base", version=version)


def upgrades(store: Store) -> list[wire.Command]:
    return commands.list_commands(store, type="orchestrator.upgrade", limit=500)


def check(store: Store) -> dict[str, list[dict[str, Any]]]:
    """The course of each upgrade, by its command, as it was told; and that it is what the tables and the audit say."""
    log = Log(store)
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in log.events("orchestrator.status"):
        upgrade = event["data"].get("upgrade")
        if upgrade is None:
            continue
        course = told[upgrade["commandId"]]
        if not course or course[-1] != upgrade:
            course.append(upgrade)
    for course in told.values():
        assert course[0]["status"] == "pending"
        assert len(course) <= 2, f"it came out more than once: {course}"
    ends: dict[str, list[str]] = defaultdict(list)
    for name in ("upgraded", "upgrade-failed"):
        for audit in log.audits(f"server-orchestrator-{name}-h1-"):
            ends[audit["metadata"]["commandId"]].append(name)
    for key, course in told.items():
        wanted = {"succeeded": ["upgraded"], "failed": ["upgrade-failed"], "pending": []}[
            course[-1]["status"]
        ]
        assert ends[key] == wanted, "one record in the audit for each end"
    by_id = {each.id: each for each in upgrades(store)}
    for key, course in told.items():
        end, command = course[-1], by_id[key]
        if end["status"] == "pending":
            continue
        assert command.status.final, "what came out has ended for its executor, too"
        if end["status"] == "succeeded":
            assert command.status is not C.PENDING
        elif "minutes after" in end["error"]:
            assert end["settledAt"] - end["requestedAt"] > 300_000
            assert f"reports version {end['desiredVersion']}" not in end["error"], "it had arrived"
        else:
            assert command.status in GAVE_UP, "only its own executor gives it up"
    return told


@pytest.mark.spec("M-I45", "W-I29", "W-I30", "W-I31", "W-I32")
@simulate(
    runs=60,
    faults=Faults(
        crash=0.04,
        delay=0.03,
        named={"store.commit": 0.04},
        most=6,
        only=("orchestrators/*", "commands/*"),
    ),
)
async def test_an_upgrade_comes_out_once(sim: Sim) -> None:
    ends: set[str] = set()
    for status in ("succeeded", "failed"):
        sim.sometimes(lambda status=status: status in ends, f"an upgrade {status}")
    async with open_system() as system, open_store(None, system) as store:
        async with open_fleet(system, store) as fleet:
            world = World(sim, fleet)
            await world.surely(orchestrators.Register(card(VERSIONS[0])))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.ask)
                nursery.start_soon(world.beat)
                nursery.start_soon(world.beat)
                nursery.start_soon(world.install)
            for version in VERSIONS[1:]:
                asked = wire.UpgradeOrchestrator(action="upgrade", target_version=version, force=True)
                await world.surely(orchestrators.Upgrade(asked))
        async with open_fleet(system, store) as fleet:
            await trio.sleep(20)
            host = orchestrators.get_orchestrator(store, "h1")
            assert host.upgrade is not None
            alive = [each.id for each in upgrades(store) if not each.status.final]
            assert set(alive) <= {host.upgrade.command_id}, "what was replaced has been given up"
            await World(sim, fleet).surely(orchestrators.Register(card(VERSIONS[-1])))
            await trio.sleep(20)
        told = check(store)
        ends.update(course[-1]["status"] for course in told.values())
        host = orchestrators.get_orchestrator(store, "h1")
        assert host.upgrade is not None
        assert host.upgrade.status is not U.PENDING, "the host has what was wanted"
