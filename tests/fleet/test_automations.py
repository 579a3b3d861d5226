"""Automations: schedules, runs, what they do and how they end."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import System
from relay.fleet import (
    Caller,
    Fleet,
    Invalid,
    NotFound,
    agents,
    automations,
    commands,
    open_fleet,
    orchestrators,
    tasks,
)
from relay.store import Store

S = wire.RunStatus
MANUAL = wire.ManualSchedule()
MESSAGE = wire.MessageAction(to="user", body="hello")
TASK = wire.TaskAction(target="a1", title="sweep")
SPAWN = wire.SpawnAction(provider=wire.Provider.CLAUDE, label="night", prompt="look")
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


async def make(
    fleet: Fleet, schedule: wire.AutomationSchedule, action: wire.AutomationAction = MESSAGE, **rest: Any
) -> wire.Automation:
    asked = wire.NewAutomation(name="one", schedule=schedule, action=action, **rest)
    return await fleet.automations[fleet.system.new_id("auto")].ask(automations.Create(asked))


async def run_now(fleet: Fleet, automation: wire.Automation) -> wire.RunDispatch:
    return await fleet.automations[automation.id].ask(automations.RunNow())


async def change(fleet: Fleet, automation: wire.Automation, **what: Any) -> wire.Automation:
    asked = wire.ChangeAutomation(**what)
    return await fleet.automations[automation.id].ask(automations.Change(asked))


async def host(fleet: Fleet, name: str = "h1", **card: Any) -> None:
    asked = wire.RegisterOrchestrator(id=name, hostname=name, base_dir="/base", **card)
    await fleet.orchestrators[name].ask(orchestrators.Register(asked))


def runs(fleet: Fleet, **which: Any) -> list[wire.AutomationRun]:
    return automations.list_runs(fleet.store, limit=500, **which)[::-1]


def known(fleet: Fleet, automation: wire.Automation) -> wire.Automation:
    return automations.get_automation(fleet.store, automation.id)


async def settled() -> None:
    """The clock moves on when nobody has anything left to do."""
    await trio.sleep(1)


@pytest.mark.spec("M-220", "AUT-1")
async def test_an_automation_is_made_and_announced(fleet: Fleet, log: Log) -> None:
    asked = wire.NewAutomation(name="one", schedule=MANUAL, action=MESSAGE)
    by = Caller("operator", "admin", "j1")
    made = await fleet.automations["auto_1"].ask(automations.Create(asked, by))
    assert (made.id, made.enabled, made.overlap, made.created_by) == ("auto_1", True, "skip", "operator")
    assert made.next_run_at is None
    assert known(fleet, made) == made
    assert automations.list_automations(fleet.store) == [made]
    (event,) = log.events("automation.created")
    assert (event["source"], event["subject"]) == ("server", made.id)
    assert event["data"] == {"automation": wire.to_json(made)}
    (record,) = log.audits("server-automation-")
    assert record["metadata"] == {
        "automationId": "auto_1",
        "authSub": "operator",
        "authRole": "admin",
        "authJti": "j1",
    }


@pytest.mark.spec("AUT-3")
async def test_an_automation_is_changed_in_what_is_named(fleet: Fleet, log: Log) -> None:
    made = await make(fleet, wire.IntervalSchedule(seconds=60))
    after = await change(fleet, made, name="two")
    assert (after.name, after.schedule, after.next_run_at) == ("two", made.schedule, made.next_run_at)
    after = await change(fleet, made, enabled=False)
    assert (after.enabled, after.next_run_at) == (False, None)
    after = await change(fleet, made, schedule=wire.IntervalSchedule(seconds=120), enabled=True)
    assert after.next_run_at == pytest.approx(fleet.system.wall() + 120)
    assert [event["data"]["automation"]["name"] for event in log.events("automation.updated")] == ["two"] * 3
    with pytest.raises(NotFound):
        await fleet.automations["none"].ask(automations.Change(wire.ChangeAutomation(name="x")))


@pytest.mark.spec("M-221", "AUT-5", "AUT-6", "AUT-10")
async def test_a_message_is_sent_now(fleet: Fleet, log: Log) -> None:
    made = await make(fleet, MANUAL)
    done = await run_now(fleet, made)
    assert done.message is not None
    assert (done.message.to, done.message.body, done.message.from_) == (
        "user",
        "hello",
        f"automation:{made.id}",
    )
    assert (done.run.status, done.run.trigger, done.run.message_id) == (
        S.SUCCEEDED,
        "manual",
        done.message.id,
    )
    assert done.run.finished_at is not None
    assert done.automation.last_run_at == done.run.started_at
    assert runs(fleet) == [done.run]
    assert log.types()[-2:] == ["message.new", "automation.run"]
    (event,) = log.events("automation.run")
    assert (event["source"], event["subject"]) == ("server", done.run.id)
    assert event["data"] == {
        "automation": wire.to_json(done.automation),
        "run": wire.to_json(done.run),
    }


@pytest.mark.spec("M-221", "AUT-6", "TSK-1")
async def test_a_task_is_made_and_its_end_is_that_of_the_run(fleet: Fleet, log: Log) -> None:
    made = await make(fleet, MANUAL, TASK)
    for status, end in (("done", S.SUCCEEDED), ("failed", S.FAILED), ("canceled", S.FAILED)):
        done = await run_now(fleet, made)
        assert done.task is not None
        assert done.message is not None
        assert (done.run.status, done.run.task_id) == (S.RUNNING, done.task.id)
        assert done.task.metadata == {"automationId": made.id, "automationRunId": done.run.id}
        assert log.types()[-3:] == ["message.new", "task.created", "automation.run"]
        assert log.events("automation.run")[-1]["data"]["task"] == wire.to_json(done.task)
        asked = wire.SetTaskStatus(status=wire.TaskStatus(status))
        await fleet.post_office.ask(tasks.SetTaskStatus(done.task.id, asked))
        await settled()
        last = runs(fleet)[-1]
        assert (last.id, last.status) == (done.run.id, end)
        assert log.events("automation.run")[-1]["data"]["run"] == wire.to_json(last)
        assert log.events("automation.run")[-1]["data"]["task"]["status"] == status


@pytest.mark.spec("M-221", "AUT-6", "AUT-9")
async def test_an_agent_is_spawned_and_its_command_ends_the_run(fleet: Fleet, log: Log) -> None:
    await host(fleet)
    made = await make(fleet, MANUAL, SPAWN)
    for status, end in (
        ("succeeded", S.SUCCEEDED),
        ("failed", S.FAILED),
        ("rejected", S.FAILED),
        ("canceled", S.FAILED),
    ):
        done = await run_now(fleet, made)
        command = done.command
        assert command is not None
        assert (command.type, command.target, done.run.command_id) == (
            "agent.spawn",
            "orchestrator-h1",
            command.id,
        )
        assert (command.params["automationId"], command.params["automationRunId"]) == (made.id, done.run.id)
        assert (command.params["label"], command.params["prompt"]) == ("night", "look")
        assert command.correlation_id == command.params["spawnRequestId"]
        assert done.run.status is S.RUNNING
        assert log.types()[-2:] == ["command.requested", "automation.run"]
        change_ = wire.PatchCommand(
            status=wire.CommandStatus(status), error="why" if status == "failed" else None
        )
        await fleet.commands[command.id].ask(commands.Patch(change_))
        await settled()
        last = runs(fleet)[-1]
        assert (last.status, last.error) == (
            end,
            None if end is S.SUCCEEDED else "why" if status == "failed" else f"its command was {status}",
        )


@pytest.mark.spec("AUT-5", "AUT-9")
async def test_a_spawn_that_nobody_carries_out_fails_in_the_end(fleet: Fleet) -> None:
    await host(fleet)
    made = await make(fleet, MANUAL, SPAWN)
    await run_now(fleet, made)
    await trio.sleep(2 * HOUR)
    (run,) = runs(fleet)
    assert (run.status, run.error) == (S.FAILED, "its command was timed_out")


@pytest.mark.spec("AUT-5", "M-I29")
async def test_what_cannot_be_dispatched_fails_and_is_told_why(fleet: Fleet, log: Log) -> None:
    await fleet.agents["gone"].ask(agents.Register(wire.RegisterAgent(id="gone")))
    await fleet.agents["gone"].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    await host(fleet, providers=[wire.Provider.CODEX])
    for action, why in (
        (wire.MessageAction(to="gone", body="x"), "gone is offline"),
        (wire.MessageAction(to="pool:p", body="x"), "a pool is no address"),
        (wire.TaskAction(target="channel:none", title="x"), "none"),
        (SPAWN, "does not have the provider claude"),
        (wire.SpawnAction(provider=wire.Provider.CODEX, orchestrator_id="h2"), "there is no host h2"),
        (wire.SpawnAction(provider=wire.Provider.CODEX, cwd="/etc"), "outside the base directory"),
    ):
        made = await make(fleet, MANUAL, action)
        with pytest.raises(Invalid, match=why):
            await run_now(fleet, made)
        (run,) = runs(fleet, automation_id=made.id)
        assert run.status is S.FAILED
        assert why in (run.error or "")
        assert log.types()[-1] == "automation.run"
    with pytest.raises(NotFound):
        await fleet.automations["none"].ask(automations.RunNow())


@pytest.mark.spec("M-223", "AUT-4")
async def test_an_automation_is_removed_with_the_runs_that_go_on(fleet: Fleet, log: Log) -> None:
    made = await make(fleet, wire.IntervalSchedule(seconds=60), TASK)
    await run_now(fleet, made)
    await fleet.automations[made.id].ask(automations.Remove())
    assert log.types()[-2:] == ["automation.run", "automation.deleted"]
    assert log.events("automation.deleted")[0]["data"] == {"automationId": made.id}
    (run,) = runs(fleet)
    assert (run.status, run.error) == (S.FAILED, "the automation was removed")
    with pytest.raises(NotFound):
        await fleet.automations[made.id].ask(automations.Remove())
    await trio.sleep(HOUR)
    assert runs(fleet) == [run]


@pytest.mark.spec("AUT-8", "AUT-11")
async def test_an_interval_goes_on_while_it_is_enabled(fleet: Fleet) -> None:
    made = await make(fleet, wire.IntervalSchedule(seconds=600))
    begun = fleet.system.wall()
    await trio.sleep(HOUR + 1)
    assert [round(run.started_at - begun) for run in runs(fleet)] == [600, 1200, 1800, 2400, 3000, 3600]
    assert {run.trigger for run in runs(fleet)} == {"schedule"}
    assert all(run.due_at == pytest.approx(run.started_at, abs=0.01) for run in runs(fleet))
    await change(fleet, made, enabled=False)
    await trio.sleep(HOUR)
    assert len(runs(fleet)) == 6
    assert (await run_now(fleet, made)).run.status is S.SUCCEEDED


@pytest.mark.spec("O-37")
async def test_once_is_once(fleet: Fleet) -> None:
    made = await make(fleet, wire.OnceSchedule(at=fleet.system.wall() + HOUR))
    await trio.sleep(HOUR - 1)
    assert runs(fleet) == []
    await trio.sleep(DAY)
    assert len(runs(fleet)) == 1
    assert known(fleet, made).next_run_at is None
    await change(fleet, made, enabled=False)
    with pytest.raises(Invalid, match="is over"):
        await change(fleet, made, enabled=True)


@pytest.mark.spec("AUT-10", "O-37")
async def test_a_run_that_is_due_while_one_goes_on_is_skipped_or_not(fleet: Fleet, log: Log) -> None:
    made = await make(fleet, wire.IntervalSchedule(seconds=60), TASK)
    await trio.sleep(200)
    assert [run.status for run in runs(fleet)] == [S.RUNNING, S.SKIPPED, S.SKIPPED]
    assert len(log.events("task.created")) == 1
    assert len(log.events("automation.run")) == 3
    assert known(fleet, made).last_run_at == runs(fleet)[0].started_at
    assert (await run_now(fleet, made)).run.status is S.RUNNING, "by hand it always begins"
    await change(fleet, made, overlap=wire.Overlap.ALLOW)
    await trio.sleep(120)
    assert [run.status for run in runs(fleet)[-2:]] == [S.RUNNING, S.RUNNING]


@pytest.mark.spec("AUT-12")
async def test_what_was_missed_while_the_server_was_down_is_made_up_for_once(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        hourly = await make(
            fleet, wire.CronSchedule(expression="0 * * * *"), wire.MessageAction(to="user", body="h")
        )
        every = await make(fleet, wire.IntervalSchedule(seconds=600), wire.MessageAction(to="user", body="i"))
        once = await make(
            fleet, wire.OnceSchedule(at=system.wall() + HOUR), wire.MessageAction(to="user", body="o")
        )
    await trio.sleep(10 * HOUR)
    async with open_fleet(system, store) as fleet:
        begun = fleet.system.wall()
        await settled()
        for made in (hourly, every, once):
            (run,) = runs(fleet, automation_id=made.id)
            assert run.status is S.SUCCEEDED
            assert run.due_at is not None
            assert run.due_at < begun - HOUR
        assert known(fleet, every).next_run_at == pytest.approx(begun + 600, abs=1)
        assert known(fleet, once).next_run_at is None
        assert begun < known(fleet, hourly).next_run_at <= begun + HOUR
        await trio.sleep(HOUR)
        assert len(runs(fleet, automation_id=hourly.id)) == 2


@pytest.mark.spec("AUT-10", "AUT-12")
async def test_runs_that_went_on_when_the_server_ended_are_followed_to_their_ends(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        await host(fleet)
        made = await make(fleet, MANUAL, SPAWN, overlap=wire.Overlap.ALLOW)
        first, second = await run_now(fleet, made), await run_now(fleet, made)
    async with open_fleet(system, store) as fleet:
        assert first.command is not None
        assert second.command is not None
        done = wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED)
        await fleet.commands[first.command.id].ask(commands.Patch(done))
        await settled()
        assert [run.status for run in runs(fleet)] == [S.SUCCEEDED, S.RUNNING]
        await fleet.automations.stop()
        await fleet.commands[second.command.id].ask(commands.Patch(done))
    async with open_fleet(system, store) as fleet:
        await settled()
        assert [run.status for run in runs(fleet)] == [S.SUCCEEDED, S.SUCCEEDED]
