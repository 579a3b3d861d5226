"""Commands of recipes under every schedule: whoever sees how a command is sees the run as that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from fleetlog import Log
from recipekit import begin, host

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Conflict, Fleet, NotFound, commands, open_fleet
from relay.store import open_store
from relay.testing import Faults, Sim, simulate

C = wire.CommandStatus
S = wire.StepStatus

SEEN_AS: Mapping[C, frozenset[S]] = {
    C.ACCEPTED: frozenset({S.RUNNING}),
    C.RUNNING: frozenset({S.RUNNING}),
    C.SUCCEEDED: frozenset({S.SUCCEEDED}),
    C.FAILED: frozenset({S.FAILED}),
    C.TIMED_OUT: frozenset({S.HELD}),
    C.CANCELED: frozenset({S.FAILED, S.HELD}),
}
"""What a step is when its command is seen so. Both of those that were asked for are begun before their time is over."""


class Hosts:
    """Whoever carries the spawns out, or calls them off."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.repeated = 0

    async def ask(self, key: str, message: Any) -> None:
        while True:
            try:
                await self.fleet.commands[key].ask(message)
                return
            except (Conflict, NotFound):
                return
            except (ActorError, Unavailable, trio.TooSlowError):
                self.repeated += 1
                await trio.sleep(1)

    async def report(self, key: str, status: C) -> None:
        await self.ask(key, commands.Patch(wire.PatchCommand(status=status)))

    async def carry_out(self, key: str) -> None:
        for status in (C.ACCEPTED, C.RUNNING)[self.sim.choose(2) :]:
            await self.report(key, status)
            await self.sim.pause(5)
        match self.sim.choose(4):
            case 0:
                await self.report(key, C.SUCCEEDED)
            case 1:
                await self.report(key, C.FAILED)
            case 2:
                await self.ask(key, commands.Cancel())


@pytest.mark.spec("M-I17", "REC-12", "CMD-6")
@simulate(
    runs=60,
    faults=Faults(
        crash=0.03, delay=0.03, named={"store.commit": 0.05}, most=6, only=("commands/*", "recipes/*")
    ),
)
async def test_a_run_is_seen_no_later_than_its_commands(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        while True:
            try:
                await host(fleet)
                made = await begin(fleet)
                break
            except (ActorError, Unavailable):
                await trio.sleep(1)
        await system.stop(fleet.maintenance)  # what nobody ends, its own timer does
        await fleet.keepers.stop()
        hosts = Hosts(sim, fleet)
        sim.sometimes(lambda: hosts.repeated > 0, "something was asked again")
        async with trio.open_nursery() as nursery:
            for command in made.commands:
                nursery.start_soon(hosts.carry_out, command.id)
        await trio.sleep(3_600)
        mine = {command.id for command in made.commands}
        steps: dict[str, S] = {}
        for event in Log(store).events():
            if event["type"] == "recipe.instance.changed":
                steps |= {
                    step["commandId"]: S(step["status"])
                    for step in event["data"]["instance"]["steps"]
                    if "commandId" in step
                }
            elif event["type"].startswith("command.") and event["subject"] in mine:
                status = C(event["data"]["command"]["status"])
                assert status is C.PENDING or steps[event["subject"]] in SEEN_AS[status], (status, steps)
        assert all(commands.get_command(store, key).status.final for key in mine)
