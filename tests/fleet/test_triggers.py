"""Automations that events begin: which events, how often, and never for ever."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import System
from relay.fleet import Fleet, Invalid, agents, automations, messages, open_fleet, tasks
from relay.fleet._automation_rules import PER_MINUTE
from relay.fleet._trigger_rules import fits
from relay.store import Store

TELL = wire.MessageAction(to="user", body="it happened")


async def on(
    fleet: Fleet, event: str, action: wire.AutomationAction = TELL, enabled: bool = True, **which: Any
) -> str:
    schedule = wire.EventSchedule(event=event, **which)
    asked = wire.NewAutomation(name=event, schedule=schedule, action=action, enabled=enabled)
    return (await fleet.automations[fleet.system.new_id("auto")].ask(automations.Create(asked))).id


async def send(fleet: Fleet, to: str = "user", **rest: Any) -> int:
    asked = wire.SendMessage(from_="somebody", to=to, body="x", **rest)
    return (await fleet.post_office.ask(messages.Send(asked))).message.id


async def ingest(fleet: Fleet, **rest: Any) -> wire.Task:
    event = wire.IntegrationEvent(title="t", target="user", **rest)
    return (await fleet.post_office.ask(tasks.Ingest("ci", event))).task


def runs(fleet: Fleet, key: str) -> list[wire.AutomationRun]:
    return automations.list_runs(fleet.store, automation_id=key, limit=500)[::-1]


async def settled() -> None:
    await trio.sleep(1)


async def test_an_event_begins_a_run_that_names_it(fleet: Fleet, log: Log) -> None:
    key = await on(fleet, "task.created")
    task = await ingest(fleet)
    await settled()
    (run,) = runs(fleet, key)
    assert (run.trigger, run.status) == ("event", "succeeded")
    assert run.event is not None
    assert (run.event.type, run.event.subject, run.event.count) == ("task.created", str(task.id), 1)
    (message,) = [each for each in messages.list_messages(fleet.store) if each.from_ == f"automation:{key}"]
    assert message.meta == {
        "automationId": key,
        "automationRunId": run.id,
        "automationEvent": wire.to_json(run.event),
    }
    await ingest(fleet)
    await settled()
    assert len(runs(fleet, key)) == 2


async def test_only_the_subject_and_the_data_that_are_named(fleet: Fleet) -> None:
    for name in ("a1", "a2"):
        await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name)))
    one = await on(fleet, "agent.status", subject="a2")
    lost = await on(fleet, "agent.status", where={"status": ["offline", "stale"]})
    grave = await on(fleet, "task.created", where={"severity": "critical", "metadata.build.number": 7})
    for name in ("a1", "a2"):
        await fleet.agents[name].ask(agents.SetStatus(wire.AgentStatus.BUSY))
    await fleet.agents["a1"].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    await ingest(fleet, severity=wire.TaskSeverity.CRITICAL, metadata={"build": {"number": 8}})
    await ingest(fleet, severity=wire.TaskSeverity.CRITICAL, metadata={"build": {"number": 7}})
    await ingest(fleet, metadata={"build": {"number": 7}})
    await settled()
    assert [[run.event.subject for run in runs(fleet, key) if run.event] for key in (one, lost)] == [
        ["a2"],
        ["a1"],
    ]
    assert len(runs(fleet, grave)) == 1


@pytest.mark.parametrize(
    ("where", "fit"),
    [
        ({}, True),
        ({"a.b": 1}, True),
        ({"a.b": 1.0}, True),
        ({"a.b": True}, False),
        ({"a.b": "1"}, False),
        ({"a.b": [3, 1]}, True),
        ({"a": 1}, False),
        ({"none": None}, True),
        ({"a.none.deep": None}, True),
        ({"a.b": None}, False),
        ({"list": "y"}, True),
        ({"list": "z"}, False),
        ({"flag": True}, True),
        ({"flag": 1}, False),
        ({"a.b": 1, "flag": False}, False),
    ],
)
def test_which_data_fit(where: dict[str, Any], fit: bool) -> None:
    data = {"a": {"b": 1}, "list": ["x", "y"], "flag": True}
    assert fits(wire.EventSchedule(event="x.y", where=where), "s", data) is fit


async def test_one_that_is_disabled_or_changed_or_gone_hears_no_more(fleet: Fleet) -> None:
    key = await on(fleet, "task.created")

    async def change(**what: Any) -> None:
        await fleet.automations[key].ask(automations.Change(wire.ChangeAutomation(**what)))

    await change(enabled=False)
    await ingest(fleet)
    await settled()
    assert runs(fleet, key) == []
    await change(enabled=True)
    await settled()
    assert runs(fleet, key) == [], "what happened in between is not made up for"
    await ingest(fleet)
    await settled()
    assert len(runs(fleet, key)) == 1
    await change(schedule=wire.EventSchedule(event="message.deleted"))
    await ingest(fleet)
    await fleet.post_office.ask(messages.Delete(await send(fleet)))
    await settled()
    assert [run.event.type for run in runs(fleet, key) if run.event] == ["task.created", "message.deleted"]
    await fleet.automations[key].ask(automations.Remove())
    await fleet.post_office.ask(messages.Delete(await send(fleet)))
    await settled()
    assert len(runs(fleet, key)) == 2


@pytest.mark.parametrize(
    ("event", "action"),
    [
        ("message.new", TELL),
        ("automation.run", TELL),
        ("activity.created", TELL),
        ("task.created", wire.TaskAction(target="user", title="t")),
        ("message.new", wire.TaskAction(target="user", title="t")),
    ],
)
async def test_what_a_run_has_caused_begins_no_other_of_the_same(
    fleet: Fleet, event: str, action: wire.AutomationAction
) -> None:
    key = await on(fleet, event, action)
    await fleet.automations[key].ask(automations.RunNow())
    await trio.sleep(600)
    caused = [run for run in runs(fleet, key) if run.trigger == "event"]
    assert len(caused) <= 1, "activity tells of who has said so, too"
    if event != "activity.created":
        await ingest(fleet)
        await send(fleet)
        await trio.sleep(600)
        assert len(runs(fleet, key)) - len(caused) in (1, 2, 3)


async def test_automations_that_begin_each_other_come_to_an_end(fleet: Fleet) -> None:
    keys = [await on(fleet, "message.new", TELL) for _ in range(3)]
    await send(fleet)
    await trio.sleep(3600)
    counts = [len(runs(fleet, key)) for key in keys]
    chains = [run.chain for key in keys for run in runs(fleet, key)]
    assert all(len(set(chain)) == len(chain) for chain in chains)
    assert sum(counts) == len(chains) <= 15, "at most each order of the three"
    assert max(len(chain) for chain in chains) == 2
    before = len(chains)
    await trio.sleep(3600)
    assert sum(len(runs(fleet, key)) for key in keys) == before


async def test_many_events_begin_few_runs_and_none_is_lost(fleet: Fleet) -> None:
    key = await on(fleet, "message.new")
    for _ in range(50):
        await send(fleet, to="nobody")
    await settled()
    assert len(runs(fleet, key)) == PER_MINUTE
    await trio.sleep(61)
    found = runs(fleet, key)
    assert len(found) == PER_MINUTE + 1
    assert sum(run.event.count for run in found if run.event) == 50
    assert [run.event.count for run in found if run.event][-1] == 50 - PER_MINUTE


async def test_what_happened_before_a_crash_is_not_lost_and_not_done_again(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        key = await on(fleet, "task.created")
        await ingest(fleet)
        await settled()
        await fleet.system.stop(fleet.triggers)
        await ingest(fleet)
        await ingest(fleet)
        assert len(runs(fleet, key)) == 1
    async with open_fleet(system, store) as fleet:
        await settled()
        assert [run.event.count for run in runs(fleet, key) if run.event] == [1, 1, 1]
        waiting = await on(fleet, "message.new")
        for _ in range(20):
            await send(fleet, to="nobody")
        await settled()
    async with open_fleet(system, store) as fleet:
        await trio.sleep(120)
        assert sum(run.event.count for run in runs(fleet, waiting) if run.event) == 20
        assert len(runs(fleet, key)) == 3


async def test_an_event_that_there_cannot_be(fleet: Fleet) -> None:
    with pytest.raises(Invalid, match=r"there is no event tsak.created; did you mean task.created\?"):
        await on(fleet, "tsak.created")
