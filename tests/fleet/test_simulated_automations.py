"""Automations under every schedule of actors, crashes, commits that fail, servers that start again: no run is dispatched
twice, and none is lost.

What is judged are the tables, the event log, and what clients were answered.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Refusal, Unavailable, open_system
from relay.fleet import (
    Fleet,
    agents,
    automations,
    commands,
    maintenance,
    open_fleet,
    orchestrators,
    tasks,
)
from relay.fleet._automation_rows import find_row, going_on
from relay.fleet._automation_rules import MOVES
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

S = wire.RunStatus
TROUBLE = (ActorError, Unavailable, trio.TooSlowError)
MADE = {
    "letters": (60, wire.MessageAction(to="user", body="x"), wire.Overlap.SKIP),
    "refused": (70, wire.MessageAction(to="gone", body="x"), wire.Overlap.SKIP),
    "work": (80, wire.TaskAction(target="user", title="t"), wire.Overlap.SKIP),
    "hands": (90, wire.SpawnAction(provider=wire.Provider.CLAUDE), wire.Overlap.ALLOW),
}
BY_HAND = ("errand", "listener")
EVENTS = wire.EventSchedule(event="task.created")


class World:
    """Everybody who has to do with automations."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.answered: list[str] = []

    async def ask(self, ref: Any, message: Any) -> Any:
        """None when nobody knows what came of it, or it was refused."""
        with trio.move_on_after(60):
            try:
                return await ref.ask(message)
            except (*TROUBLE, Refusal):
                return None

    async def surely(self, ref: Any, message: Any) -> None:
        while await self.ask(ref, message) is None:
            await trio.sleep(1)

    async def make(self) -> None:
        await self.surely(self.fleet.agents["gone"], agents.Register(wire.RegisterAgent(id="gone")))
        await self.surely(self.fleet.agents["gone"], agents.SetStatus(wire.AgentStatus.OFFLINE))
        for name, (seconds, action, overlap) in MADE.items():
            schedule = wire.IntervalSchedule(seconds=seconds)
            await self._one(name, schedule, action, overlap)
        await self._one("errand", wire.ManualSchedule(), MADE["work"][1], wire.Overlap.SKIP)
        await self._one("listener", EVENTS, MADE["letters"][1], wire.Overlap.SKIP)

    async def _one(self, name: str, schedule: Any, action: Any, overlap: wire.Overlap) -> None:
        asked = wire.NewAutomation(name=name, schedule=schedule, action=action, overlap=overlap)
        while find_row(self.fleet.store, name) is None:
            await self.ask(self.fleet.automations[name], automations.Create(asked))

    async def host(self) -> None:
        card = wire.RegisterOrchestrator(id="h1", hostname="h1", base_dir="/base")
        for _ in range(6):
            await self.ask(self.fleet.orchestrators["h1"], orchestrators.Register(card))
            await trio.sleep(40)

    async def begin(self) -> None:
        names = (*MADE, *BY_HAND, "errand")
        for _ in range(4):
            await self.sim.pause(60)
            name = names[self.sim.choose(len(names))]
            done = await self.ask(self.fleet.automations[name], automations.RunNow())
            if done is not None:
                self.answered.append(done.run.id)

    async def report(self) -> None:
        for number in range(4):
            await self.sim.pause(40)
            event = wire.IntegrationEvent(title=f"{number}", target="user")
            await self.ask(self.fleet.post_office, tasks.Ingest("ci", event))

    async def finish(self) -> None:
        """End what runs have begun, well or badly."""
        for _ in range(10):
            await self.sim.pause(40)
            for run in automations.list_runs(self.fleet.store, status="running"):
                if self.sim.choose(2):
                    await self._end(run)

    async def _end(self, run: wire.AutomationRun) -> None:
        if run.task_id is not None:
            how = (wire.TaskStatus.DONE, wire.TaskStatus.FAILED)[self.sim.choose(2)]
            asked = wire.SetTaskStatus(status=how)
            await self.ask(self.fleet.post_office, tasks.SetTaskStatus(run.task_id, asked))
        if run.command_id is not None:
            how = (wire.CommandStatus.SUCCEEDED, wire.CommandStatus.FAILED)[self.sim.choose(2)]
            await self.ask(self.fleet.commands[run.command_id], commands.Patch(wire.PatchCommand(status=how)))

    async def upkeep(self) -> None:
        for _ in range(2):
            await self.sim.pause(90)
            await self.ask(self.fleet.maintenance, maintenance.Reap())


def check(store: Store, answered: list[str]) -> list[wire.AutomationRun]:
    found = automations.list_runs(store, limit=500)
    runs = {run.id: run for run in found}
    assert set(answered) <= runs.keys(), "what was answered is there"
    check_dispatch(store, runs)
    check_schedules(store, found[::-1])
    check_events(store, found)
    check_told(Log(store), runs)
    return found


def check_dispatch(store: Store, runs: dict[str, wire.AutomationRun]) -> None:
    """Each run has made one thing, or nothing, as it says."""
    made: Counter[str] = Counter()
    for sql in (
        "select record ->> '$.meta.automationRunId' from messages where record ->> '$.kind' = 'chat'",
        "select record ->> '$.metadata.automationRunId' from tasks",
        "select record ->> '$.params.automationRunId' from commands",
    ):
        made.update(key for (key,) in store.rows(sql) if key is not None)
    for key, run in runs.items():
        refused = run.status is S.SKIPPED or not (run.message_id or run.task_id or run.command_id)
        assert made.pop(key, 0) == (0 if refused else 1), run
        assert not (refused and run.status in (S.RUNNING, S.SUCCEEDED)), run
    assert not made, "nothing is made by no run"
    for name in (*MADE, *BY_HAND):
        assert all(action is None for _, action in going_on(store, name)), "nothing waits to be dispatched"
    for run in runs.values():
        if run.status is S.RUNNING:
            ended = (
                "select 1 from {} where id = ? and record ->> '$.status' in ('done', 'succeeded', 'failed')"
            )
            assert store.row(ended.format("tasks"), run.task_id) is None, "a run ends with its task"
            assert store.row(ended.format("commands"), run.command_id) is None, "a run ends with its command"


def check_schedules(store: Store, runs: list[wire.AutomationRun]) -> None:
    """Each time of a schedule that was taken up has one run, and no time is left out but those that were missed."""
    for name, (seconds, _, _) in MADE.items():
        mine = [run for run in runs if run.automation_id == name and run.due_at is not None]
        record = automations.get_automation(store, name)
        assert record.created_at is not None
        expected = {round(record.created_at) + seconds + early for early in (-1, 0, 1)}
        for run in mine:
            assert round(run.due_at or 0) in expected, f"{name}: a time was left out, or taken twice"
            after = (run.due_at or 0) + seconds, (run.started_at or 0) + seconds
            expected = {round(at) + early for at in after for early in (-1, 0, 1)}
        assert round(record.next_run_at or 0) in expected, f"{name}: a time was taken up without a run"


def check_events(store: Store, runs: list[wire.AutomationRun]) -> None:
    """Every event is in one run, or waits; the runs of the automation itself cause none of them."""
    row = find_row(store, "listener")
    assert row is not None
    counted = sum(run.event.count for run in runs if run.event is not None)
    counted += row.waiting.count if row.waiting is not None else 0
    since = store.row("select id from events where type = 'automation.created' and subject = 'listener'")
    assert since is not None
    happened = store.rows("select data from events where type = 'task.created' and id > ?", since[0])
    own = [
        data
        for (data,) in happened
        if (orjson.loads(data).get("metadata") or {}).get("automationId") == "listener"
    ]
    assert own == []
    assert counted == len(happened), "an event was lost, or counted twice"


def check_told(log: Log, runs: dict[str, wire.AutomationRun]) -> None:
    told: dict[str, list[dict[str, Any]]] = {}
    for event in log.events("automation.run"):
        told.setdefault(event["subject"], []).append(event["data"]["run"])
    assert told.keys() == runs.keys()
    for key, path in told.items():
        statuses = [S(run["status"]) for run in path]
        assert path[-1] == wire.to_json(runs[key]), "what was told last is how it is"
        assert [status.final for status in statuses[:-1]] == [False] * (len(statuses) - 1), statuses
        assert len(statuses) <= 2
        for before, after in pairwise(statuses):
            assert after in MOVES[before].values()


@pytest.mark.spec("AUT-5", "AUT-6", "AUT-8", "AUT-10", "AUT-12", "O-37")
@simulate(
    runs=40,
    faults=Faults(
        crash=0.04,
        delay=0.03,
        named={"store.commit": 0.03},
        most=8,
        only=("automations/*", "triggers", "post-office"),
    ),
)
async def test_no_run_is_dispatched_twice_and_none_is_lost(sim: Sim) -> None:
    seen: Counter[S] = Counter()
    for status in S:
        sim.sometimes(lambda status=status: seen[status] > 0, f"a run was {status}")
    answered: list[str] = []
    async with open_system() as system, open_store(None, system) as store:
        for life in range(2):
            async with open_fleet(system, store) as fleet:
                world = World(sim, fleet)
                if not life:
                    await world.make()
                async with trio.open_nursery() as nursery:
                    for part in (world.host, world.begin, world.report, world.finish, world.upkeep):
                        nursery.start_soon(part)
                answered += world.answered
                await trio.sleep(130)
                if life:
                    seen.update(run.status for run in check(store, answered))
            await sim.pause(200)
