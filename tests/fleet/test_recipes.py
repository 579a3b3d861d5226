"""Runs of recipes: start, steps, failures, what is held, stop, restart."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from fleetlog import Log
from recipekit import (
    BASE,
    begin,
    come,
    host,
    known,
    recipe,
    report,
    result_of,
    settled,
    spawn_all,
    step,
)

from relay import wire
from relay.actors import System
from relay.fleet import (
    Caller,
    Conflict,
    Fleet,
    Invalid,
    NotFound,
    agents,
    commands,
    config,
    messages,
    open_fleet,
    orchestrators,
    recipes,
    tasks,
)
from relay.store import Store

C = wire.CommandStatus
R = wire.RecipeStatus
S = wire.StepStatus
T = wire.TaskStatus
Word = wire.StepDecision
SPAWN_REQUEST = re.compile(r"sp_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
async def fleet(fleet: Fleet) -> Fleet:
    """With a host."""
    await host(fleet)
    return fleet


async def running(fleet: Fleet) -> str:
    run = (await begin(fleet)).instance.id
    await spawn_all(fleet, run)
    return run


async def finish(fleet: Fleet, run: str, key: str, agent: str, status: T = T.DONE) -> None:
    number = step(fleet, run, key).task_id
    assert number is not None
    await fleet.post_office.ask(tasks.ClaimTask(number, agent))
    said = wire.SetTaskStatus(status=status, agent_id=agent, body="that is it")
    await fleet.post_office.ask(tasks.SetTaskStatus(number, said))
    await settled()


async def stop(fleet: Fleet, run: str) -> wire.RecipeStarted:
    return await fleet.recipes[run].ask(recipes.Stop("me"))


async def decide(fleet: Fleet, run: str, key: str, word: Word) -> wire.RecipeInstance:
    asked = wire.DecideStep(decision=word, decided_by="me")
    return await fleet.recipes[run].ask(recipes.Decide(key, asked))


@pytest.mark.spec("M-211", "REC-6", "REC-7")
async def test_a_start_is_a_run_and_a_spawn_for_each_role(fleet: Fleet, log: Log) -> None:
    seen = len(log.events())
    made = await begin(fleet, started_by="ada")
    run = made.instance
    assert (run.status, run.recipe_name, run.started_by, run.cwd) == (R.STARTING, "pair", "ada", BASE)
    assert known(fleet, run.id) == run
    assert [(each.id, each.kind, each.status) for each in run.steps] == [
        ("spawn:writer", "spawn", "asked"),
        ("spawn:reader", "spawn", "asked"),
        ("write", "task", "waiting"),
        ("say", "message", "waiting"),
        ("read", "task", "waiting"),
    ]
    assert [command.type for command in made.commands] == ["agent.spawn"] * 2
    writer, reader = (command.params for command in made.commands)
    assert made.commands[0].target == "orchestrator-h1"
    assert made.commands[0].correlation_id == writer["spawnRequestId"] == run.steps[0].spawn_request_id
    assert writer["prompt"] == f"write to tag:{run.id}/reader"
    assert writer["tags"] == [f"{run.id}/writer", "w"]
    assert (writer["recipeInstanceId"], writer["recipeRole"]) == (run.id, "writer")
    assert (writer["cwd"], reader["cwd"]) == (BASE, f"{BASE}/docs")
    assert all(SPAWN_REQUEST.fullmatch(each["spawnRequestId"]) for each in (writer, reader))
    told = log.events()[seen:]
    assert [event["type"] for event in told] == [
        "command.requested",
        "command.requested",
        "recipe.instance.changed",
        "activity.created",
    ]
    assert [event["subject"] for event in told[:2]] == [command.id for command in made.commands]
    (record,) = log.audits("server-recipe-start-")
    assert record["clientId"] == f"server-recipe-start-{run.id}"
    assert (record["icon"], record["view"], record["body"], record["meta"]) == (
        "ti-play",
        "activity",
        "pair",
        run.id,
    )
    assert record["metadata"] == {
        "recipeInstanceId": run.id,
        "commands": [command.id for command in made.commands],
    }


async def test_whoever_started_stopped_or_decided_is_on_record(fleet: Fleet, log: Log) -> None:
    by = Caller("ada", "admin", "j1")
    start = recipes.Start(recipe(), wire.StartRecipe(name="pair"), "h1", by)
    run = (await fleet.recipes["rcp_1"].ask(start)).instance.id
    await fleet.recipes[run].ask(recipes.Stop("me", by))
    for record in log.audits("server-recipe-"):
        assert record["metadata"]["authSub"] == "ada"


async def test_a_start_that_is_said_again_is_the_same_run(fleet: Fleet) -> None:
    start = recipes.Start(recipe(), wire.StartRecipe(name="pair"), "h1")
    first = await fleet.recipes["rcp_1"].ask(start)
    again = await fleet.recipes["rcp_1"].ask(start)
    assert (again.instance, again.commands) == (first.instance, [])
    assert len(commands.list_commands(fleet.store)) == 2


@pytest.mark.spec("O-39", "M-I17")
async def test_a_run_runs_once_all_its_agents_do(fleet: Fleet, log: Log) -> None:
    made = await begin(fleet)
    run = made.instance.id
    first, second = made.commands
    await report(fleet, first.id, C.ACCEPTED)
    assert (known(fleet, run).status, step(fleet, run, "spawn:writer").status) == (R.STARTING, S.RUNNING)
    await report(fleet, first.id, C.SUCCEEDED, result=result_of(made.instance.steps[0]))
    assert (known(fleet, run).status, step(fleet, run, "spawn:writer").agent_id) == (
        R.STARTING,
        "agent-writer",
    )
    await report(fleet, second.id, C.SUCCEEDED)
    assert known(fleet, run).status is R.RUNNING
    order = [
        (event["type"], event["data"]["instance"]["status"] if "recipe" in event["type"] else "")
        for event in log.events()
        if event["type"].startswith(("recipe.", "command.s", "command.a"))
    ]
    assert order[1:5] == [
        ("recipe.instance.changed", "starting"),
        ("command.accepted", ""),
        ("recipe.instance.changed", "starting"),
        ("command.succeeded", ""),
    ]
    assert order[5:7] == [("recipe.instance.changed", "running"), ("command.succeeded", "")]


@pytest.mark.spec("O-39", "M-214")
@pytest.mark.parametrize("status", [C.FAILED, C.REJECTED, C.CANCELED])
async def test_a_run_fails_when_an_agent_cannot_be_started(fleet: Fleet, status: C) -> None:
    made = await begin(fleet)
    run = made.instance.id
    await report(fleet, made.commands[0].id, status, error="no head room")
    failed = known(fleet, run)
    assert (failed.status, failed.error) == (R.FAILED, "spawn:writer: no head room")
    await report(fleet, made.commands[1].id, C.SUCCEEDED)
    assert known(fleet, run).status is R.FAILED
    await settled()
    assert step(fleet, run, "write").status is S.WAITING


@pytest.mark.spec("M-I17")
async def test_whoever_sees_the_event_sees_the_run_moved(fleet: Fleet) -> None:
    made = await begin(fleet)
    run, last = made.instance.id, fleet.events.last_id
    seen: list[R] = []

    async def watch() -> None:
        after = last
        while not seen:
            for event in await fleet.events.read_after(after, 10):
                after = event.id
                if event.type == "command.failed":
                    seen.append(known(fleet, run).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await report(fleet, made.commands[0].id, C.FAILED)
    assert seen == [R.FAILED]


async def test_a_command_that_is_not_the_runs_changes_nothing(fleet: Fleet) -> None:
    run = (await begin(fleet)).instance
    for target in (run.id, "rcp_none", ""):
        asked = wire.NewCommand(
            type="agent.spawn", source="x", target="h1", params={"recipeInstanceId": target}
        )
        command = await commands.create_command(fleet, asked)
        await report(fleet, command.id, C.FAILED, error="mine")
    assert known(fleet, run.id) == run


async def test_steps_are_given_out_in_their_order_and_once(fleet: Fleet) -> None:
    run = await running(fleet)
    assert known(fleet, run).status is R.RUNNING
    (written,) = tasks.list_tasks(fleet.store)
    assert (written.source, written.target, written.title) == (f"recipe:{run}", f"tag:{run}/writer", "a page")
    assert written.body == f"write in {BASE}"
    assert step(fleet, run, "write").status is S.ASKED
    await fleet.post_office.ask(tasks.ClaimTask(written.id, "agent-writer"))
    await settled()
    assert (step(fleet, run, "write").status, step(fleet, run, "write").agent_id) == (
        S.RUNNING,
        "agent-writer",
    )
    assert step(fleet, run, "say").status is S.WAITING
    await finish(fleet, run, "write", "agent-writer")
    assert [each.status for each in known(fleet, run).steps] == [*[S.SUCCEEDED] * 4, S.ASKED]
    (said,) = [
        each for each in messages.list_messages(fleet.store, for_="agent-reader") if each.kind == "chat"
    ]
    assert (said.id, said.body) == (step(fleet, run, "say").message_id, f"run {run}")
    await finish(fleet, run, "read", "agent-reader")
    assert {each.status for each in known(fleet, run).steps} == {S.SUCCEEDED}
    assert known(fleet, run).status is R.RUNNING
    assert len(tasks.list_tasks(fleet.store)) == 2


async def test_what_the_post_office_could_not_take_is_given_out_later(fleet: Fleet) -> None:
    """Also if nothing else is expected of anybody, so that only the run itself can go on."""
    made = await begin(fleet)
    await fleet.system.stop(fleet.post_office)
    for command in made.commands:
        await report(fleet, command.id, C.SUCCEEDED)
    await settled()
    run = made.instance.id
    assert (known(fleet, run).status, step(fleet, run, "write").status) == (R.RUNNING, S.WAITING)
    fleet.post_office = await fleet.system.spawn(messages.PostOffice, fleet, name="post-office-again")
    await trio.sleep(10)
    assert step(fleet, run, "write").status is S.ASKED


async def test_a_task_that_was_done_before_the_run_knew_of_it_is_not_given_out_again(fleet: Fleet) -> None:
    """As after a crash between the post office's commit and the run's, with an agent that was quick."""
    run = (await begin(fleet)).instance.id
    await come(fleet, run, "writer")
    event = wire.IntegrationEvent(title="a page", target=f"tag:{run}/writer", key=f"{run}:write:1")
    given = await fleet.post_office.ask(tasks.Ingest(f"recipe:{run}", event, once=True))
    await fleet.post_office.ask(tasks.ClaimTask(given.task.id, "agent-writer"))
    said = wire.SetTaskStatus(status=T.DONE, agent_id="agent-writer")
    await fleet.post_office.ask(tasks.SetTaskStatus(given.task.id, said))
    await spawn_all(fleet, run)
    assert (step(fleet, run, "write").status, step(fleet, run, "write").task_id) == (
        S.SUCCEEDED,
        given.task.id,
    )
    assert len(tasks.list_tasks(fleet.store)) == 2, "and the next one is given out"


@pytest.mark.parametrize("status", [T.FAILED, T.CANCELED])
async def test_a_run_fails_with_one_of_its_tasks(fleet: Fleet, status: T) -> None:
    run = await running(fleet)
    await finish(fleet, run, "write", "agent-writer", status)
    assert known(fleet, run).status is R.FAILED
    assert known(fleet, run).error == "write: that is it"
    assert step(fleet, run, "say").status is S.WAITING


async def lose(fleet: Fleet, agent: str) -> None:
    await fleet.agents[agent].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    await settled()


async def held_task(fleet: Fleet) -> str:
    run = await running(fleet)
    number = step(fleet, run, "write").task_id
    assert number is not None
    await fleet.post_office.ask(tasks.ClaimTask(number, "agent-writer"))
    await lose(fleet, "agent-writer")
    return run


async def test_a_task_whose_agent_is_gone_waits_for_a_person_and_for_nobody_else(fleet: Fleet) -> None:
    run = await held_task(fleet)
    assert (known(fleet, run).status, step(fleet, run, "write").status) == (R.HELD, S.HELD)
    assert "agent-writer has the task and is gone" in (known(fleet, run).error or "")
    number = step(fleet, run, "write").task_id
    assert number is not None
    other = wire.RegisterAgent(id="other", tags=[f"{run}/writer"], status=wire.AgentStatus.IDLE)
    await fleet.agents["other"].ask(agents.Register(other))
    for _ in range(5):
        await trio.sleep(300)
        await fleet.agents["other"].ask(agents.Heartbeat())
        with pytest.raises(Conflict):
            await fleet.post_office.ask(tasks.ClaimTask(number, "other"))
    assert tasks.get_task(fleet.store, number).status is T.ORPHANED


async def test_a_run_goes_on_when_the_agent_of_a_held_task_is_back(fleet: Fleet) -> None:
    run = await held_task(fleet)
    await come(fleet, run, "writer")
    number = step(fleet, run, "write").task_id
    assert number is not None
    await fleet.post_office.ask(tasks.ClaimTask(number, "agent-writer"))
    await settled()
    assert (known(fleet, run).status, known(fleet, run).error) == (R.RUNNING, None)
    await finish(fleet, run, "write", "agent-writer")
    assert step(fleet, run, "read").status is S.ASKED


async def test_a_task_that_nobody_holds_any_more_is_taken_by_nobody_else(fleet: Fleet) -> None:
    """Its agent is there, and has not renewed its claim."""
    run = await running(fleet)
    number = step(fleet, run, "write").task_id
    assert number is not None
    await fleet.post_office.ask(tasks.ClaimTask(number, "agent-writer"))
    other = wire.RegisterAgent(id="other", tags=[f"{run}/writer"], status=wire.AgentStatus.IDLE)
    for name in ("agent-writer", "other"):
        await fleet.agents[name].ask(agents.Register(attrs_of(other, name)))
    for _ in range(16):
        await trio.sleep(60)
        for name in ("agent-writer", "other"):
            await fleet.agents[name].ask(agents.Heartbeat())
        with pytest.raises(Conflict):
            await fleet.post_office.ask(tasks.ClaimTask(number, "other"))
    assert tasks.get_task(fleet.store, number).status is T.ORPHANED
    assert step(fleet, run, "write").status is S.HELD


def attrs_of(card: wire.RegisterAgent, name: str) -> wire.RegisterAgent:
    return wire.RegisterAgent(id=name, tags=card.tags, status=card.status)


async def test_a_person_has_a_task_done_again(fleet: Fleet) -> None:
    run = await held_task(fleet)
    before = step(fleet, run, "write").task_id
    await decide(fleet, run, "write", Word.RETRY)
    await come(fleet, run, "writer")
    await settled()
    again = step(fleet, run, "write")
    assert before is not None
    assert (again.status, again.attempt, again.earlier_task_id) == (S.ASKED, 2, before)
    assert again.task_id not in (None, before)
    assert tasks.get_task(fleet.store, before).status is T.CANCELED
    with pytest.raises(Conflict):
        await fleet.post_office.ask(tasks.ClaimTask(before, "agent-writer"))
    await finish(fleet, run, "write", "agent-writer")
    assert step(fleet, run, "read").status is S.ASKED


@pytest.mark.parametrize(
    ("word", "status", "run_status", "task"),
    [(Word.SUCCEEDED, S.SUCCEEDED, R.RUNNING, T.DONE), (Word.FAILED, S.FAILED, R.FAILED, T.FAILED)],
)
async def test_a_person_says_what_came_of_a_task(
    fleet: Fleet, log: Log, word: Word, status: S, run_status: R, task: T
) -> None:
    run = await held_task(fleet)
    after = await decide(fleet, run, "write", word)
    assert after.status is run_status
    await settled()
    decided = step(fleet, run, "write")
    assert (decided.status, decided.decided_by) == (status, "me")
    assert decided.task_id is not None
    assert tasks.get_task(fleet.store, decided.task_id).status is task
    assert step(fleet, run, "read").status is (S.ASKED if word is Word.SUCCEEDED else S.WAITING)
    (record,) = log.audits("server-recipe-decide-")
    assert (record["body"], record["metadata"]["step"]) == (word, "write")


async def held_spawn(fleet: Fleet) -> wire.RecipeStarted:
    """The host has begun to start the writer, and is never heard of again."""
    made = await begin(fleet)
    await report(fleet, made.commands[1].id, C.SUCCEEDED)
    await report(fleet, made.commands[0].id, C.RUNNING)
    await report(fleet, made.commands[0].id, C.TIMED_OUT)
    return made


@pytest.mark.spec("O-39")
async def test_a_start_that_was_begun_and_timed_out_waits_for_a_person(fleet: Fleet) -> None:
    made = await held_spawn(fleet)
    run = made.instance.id
    held = step(fleet, run, "spawn:writer")
    assert (known(fleet, run).status, held.status, held.outcome_unknown) == (R.HELD, S.HELD, True)
    assert len(commands.list_commands(fleet.store, type="agent.spawn")) == 2


@pytest.mark.spec("O-39")
async def test_a_start_that_nobody_began_fails(fleet: Fleet) -> None:
    made = await begin(fleet)
    await trio.sleep(1_000)
    assert {each.status for each in commands.list_commands(fleet.store)} == {C.TIMED_OUT}
    assert known(fleet, made.instance.id).status is R.FAILED
    assert list(known(fleet, made.instance.id).stops) == []


async def test_a_host_that_is_never_heard_of_again_holds_up_the_run(fleet: Fleet) -> None:
    made = await begin(fleet)
    await fleet.commands[made.commands[0].id].ask(commands.Claim("h1/1"))
    await trio.sleep(2_000)
    assert commands.get_command(fleet.store, made.commands[0].id).status is C.TIMED_OUT
    assert step(fleet, made.instance.id, "spawn:writer").status is S.HELD


async def test_a_start_is_tried_again_with_the_same_spawn_request(fleet: Fleet) -> None:
    made = await held_spawn(fleet)
    run = made.instance.id
    assert (await decide(fleet, run, "spawn:writer", Word.RETRY)).status is R.STARTING
    again = step(fleet, run, "spawn:writer")
    assert (again.attempt, again.status) == (2, S.ASKED)
    assert again.command_id not in (None, made.commands[0].id)
    command = commands.get_command(fleet.store, again.command_id or "")
    before = made.commands[0]
    assert command.correlation_id == before.correlation_id
    assert {**command.params, "requestedAt": 0} == {**before.params, "requestedAt": 0}
    await report(fleet, command.id, C.SUCCEEDED)
    assert known(fleet, run).status is R.RUNNING


@pytest.mark.parametrize(("word", "status"), [(Word.SUCCEEDED, R.RUNNING), (Word.FAILED, R.FAILED)])
async def test_a_person_says_what_came_of_a_start(fleet: Fleet, word: Word, status: R) -> None:
    made = await held_spawn(fleet)
    run = made.instance.id
    assert (await decide(fleet, run, "spawn:writer", word)).status is status
    assert {each.role for each in (await stop(fleet, run)).instance.stops} == {"writer", "reader"}


async def test_only_what_is_held_is_decided(fleet: Fleet) -> None:
    made = await held_spawn(fleet)
    run = made.instance.id
    with pytest.raises(NotFound):
        await decide(fleet, run, "nothing", Word.RETRY)
    with pytest.raises(NotFound):
        await decide(fleet, "rcp_none", "spawn:writer", Word.RETRY)
    for key in ("spawn:reader", "write"):
        with pytest.raises(Conflict, match="only what is held"):
            await decide(fleet, run, key, Word.SUCCEEDED)
    await stop(fleet, run)
    with pytest.raises(Conflict):
        await decide(fleet, run, "spawn:writer", Word.RETRY)


@pytest.mark.spec("M-215", "REC-10", "O-39")
async def test_a_run_that_is_stopped_shuts_down_what_it_started(fleet: Fleet, log: Log) -> None:
    run = await running(fleet)
    made = await stop(fleet, run)
    assert (made.instance.status, made.instance.stopped_by) == (R.STOPPING, "me")
    assert [command.type for command in made.commands] == ["agent.shutdown"] * 2
    first = made.commands[0]
    assert (first.target, first.params["agentId"]) == ("orchestrator-h1", "agent-writer")
    assert first.params["spawnRequestId"] == step(fleet, run, "spawn:writer").spawn_request_id
    (record,) = log.audits("server-recipe-stop-")
    assert record["clientId"].startswith(f"server-recipe-stop-{run}-")
    assert (record["icon"], record["meta"], record["body"]) == ("ti-player-stop", run, "pair")
    assert record["metadata"]["commands"] == [command.id for command in made.commands]
    await settled()
    assert [each.status for each in known(fleet, run).steps[2:]] == [S.CANCELED] * 3
    assert [each.status for each in tasks.list_tasks(fleet.store)] == [T.CANCELED]
    assert known(fleet, run).status is R.STOPPING
    await report(fleet, first.id, C.SUCCEEDED)
    assert known(fleet, run).status is R.STOPPING
    await report(fleet, made.commands[1].id, C.FAILED, error="it would not end")
    assert known(fleet, run).status is R.STOPPED
    assert [(each.ended, each.error) for each in known(fleet, run).stops] == [
        (True, None),
        (True, "it would not end"),
    ]


@pytest.mark.spec("REC-11", "O-39", "H-16")
async def test_what_cannot_be_stopped(fleet: Fleet) -> None:
    with pytest.raises(NotFound):
        await stop(fleet, "zz")
    run = await running(fleet)
    made = await stop(fleet, run)
    with pytest.raises(Invalid, match="stopping"):
        await stop(fleet, run)
    await settled()
    for command in made.commands:
        await report(fleet, command.id, C.SUCCEEDED)
    with pytest.raises(Invalid, match="stopped"):
        await stop(fleet, run)
    assert len(commands.list_commands(fleet.store, type="agent.shutdown")) == 2


@pytest.mark.spec("O-39")
async def test_a_failed_run_can_be_stopped(fleet: Fleet) -> None:
    made = await begin(fleet)
    run = made.instance.id
    await report(fleet, made.commands[0].id, C.FAILED)
    await report(fleet, made.commands[1].id, C.SUCCEEDED)
    stopped = await stop(fleet, run)
    assert [each.role for each in stopped.instance.stops] == ["reader"]
    await settled()
    await report(fleet, stopped.commands[0].id, C.SUCCEEDED)
    assert known(fleet, run).status is R.STOPPED


async def test_a_run_without_agents_is_stopped_at_once(fleet: Fleet) -> None:
    made = await begin(fleet)
    for command in made.commands:
        await report(fleet, command.id, C.REJECTED)
    assert (await stop(fleet, made.instance.id)).commands == []
    await settled()
    assert known(fleet, made.instance.id).status is R.STOPPED


@pytest.mark.spec("M-215", "O-39")
async def test_what_nobody_has_begun_is_taken_back_and_who_comes_late_is_shut_down(fleet: Fleet) -> None:
    made = await begin(fleet)
    run = made.instance.id
    writer, reader = made.commands
    await report(fleet, writer.id, C.RUNNING)
    stopped = await stop(fleet, run)
    assert len(stopped.commands) == 2
    await settled()
    assert commands.get_command(fleet.store, reader.id).status is C.CANCELED
    assert step(fleet, run, "spawn:reader").status is S.CANCELED
    for command in stopped.commands:
        await report(fleet, command.id, C.FAILED, error="no such session")
    assert known(fleet, run).status is R.STOPPING, "the writer may still come"
    await report(fleet, writer.id, C.SUCCEEDED, result=result_of(made.instance.steps[0]))
    late = known(fleet, run).stops[-1]
    assert (late.role, late.ended, known(fleet, run).status) == ("writer", False, R.STOPPING)
    assert commands.get_command(fleet.store, late.command_id).params["agentId"] == "agent-writer"
    await report(fleet, late.command_id, C.SUCCEEDED)
    assert known(fleet, run).status is R.STOPPED


async def test_an_order_to_shut_down_of_which_nothing_is_heard_is_given_again(fleet: Fleet) -> None:
    run = await running(fleet)
    stopped = await stop(fleet, run)
    await settled()
    await report(fleet, stopped.commands[0].id, C.SUCCEEDED)
    await fleet.commands[stopped.commands[1].id].ask(commands.Claim("h1/1"))
    await trio.sleep(2_000)
    assert commands.get_command(fleet.store, stopped.commands[1].id).status is C.TIMED_OUT
    again = known(fleet, run).stops[-1]
    assert (again.role, again.ended, known(fleet, run).status) == ("reader", False, R.STOPPING)
    await fleet.commands[again.command_id].ask(commands.Cancel())
    assert known(fleet, run).status is R.STOPPED, "a person has called it off"


@pytest.mark.spec("REC-5", "REC-8")
async def test_where_a_run_can_be_started(fleet: Fleet) -> None:
    await host(fleet, "h2", providers=[wire.Provider.CLAUDE])
    hosts = orchestrators.list_orchestrators(fleet.store)

    def chosen(made: wire.Recipe | None = None, **asked: Any) -> str:
        start = wire.StartRecipe(name="pair", **asked)
        return recipes.fitting_host(made or recipe(), start, hosts, recipes.anywhere).id

    solo = recipe(roles=[{"role": "r", "provider": "claude"}], steps=[])
    assert chosen() == "h1"
    assert chosen(solo, orchestrator_id="h2") == "h2"
    for wrong, why in (
        ({"orchestrator_id": "h3"}, "there is no host h3"),
        ({"orchestrator_id": "h2"}, "does not have the provider codex"),
        ({"cwd": "/tmp"}, "outside the base directory"),
        ({"cwd": "/srv/../tmp"}, "outside the base directory"),
        ({"cwd": "srv"}, "outside the base directory"),
    ):
        with pytest.raises(Invalid, match=why):
            chosen(**wrong)
    with pytest.raises(Invalid, match="outside the base directory"):
        chosen(recipe(roles=[{"role": "r", "provider": "claude", "cwd": "../.."}], steps=[]))
    await fleet.orchestrators["h1"].ask(orchestrators.Remove())
    hosts = orchestrators.list_orchestrators(fleet.store)
    assert chosen(solo) == "h2"
    with pytest.raises(Invalid, match="no host can do it: host h2 does not have"):
        chosen()
    with pytest.raises(Invalid, match="there is no host; start an orchestrator"):
        hosts = []
        chosen()


@pytest.mark.spec("REC-5")
async def test_a_start_that_is_refused_leaves_nothing(fleet: Fleet, log: Log) -> None:
    about = {"about": "what to do"}
    long = [{"role": "r", "provider": "claude", "prompt": "{{input}}" * 3}]
    wide = [{"id": "s", "to": "r", "body": "{{input}}" * 60}]
    solo = [{"role": "r", "provider": "claude"}]
    before = (len(log.events()), recipes.list_instances(fleet.store))
    for made, asked in (
        (recipe(input=about), {}),
        (recipe(), {"input": "anything"}),
        (recipe(), {"cwd": "/tmp"}),
        (recipe(input=about, roles=long, steps=[]), {"input": "x" * 2_000}),
        (recipe(input=about, roles=solo, steps=wide), {"input": "x" * 2_000}),
    ):
        with pytest.raises(Invalid):
            await begin(fleet, made, **asked)
    assert (len(log.events()), recipes.list_instances(fleet.store)) == before
    assert commands.list_commands(fleet.store) == []


async def test_what_is_given_goes_into_prompts_and_steps(fleet: Fleet) -> None:
    made = recipe(
        input={"about": "what", "default": "the parser"},
        roles=[{"role": "r", "provider": "claude", "prompt": "{{ input }} {{recipe}} {x} {{input}}"}],
        steps=[{"id": "s", "to": "r", "subject": "{{input}}", "body": "{{role.r}}"}],
    )
    usual = await begin(fleet, made)
    assert usual.commands[0].params["prompt"] == "the parser pair {x} the parser"
    assert usual.instance.steps[1].body == f"tag:{usual.instance.id}/r"
    given = await begin(fleet, made, input="{{cwd}} " + "\N{ROCKET}" * 200)
    assert given.commands[0].params["prompt"].startswith("{{cwd}} \N{ROCKET}")
    assert wire.length(given.instance.steps[1].subject or "") <= 240
    assert known(fleet, given.instance.id) == given.instance


async def test_a_directory_has_one_name(fleet: Fleet) -> None:
    made = await begin(fleet, cwd=f"{BASE}//a/../b/.")
    assert made.instance.cwd == f"{BASE}/b"
    assert [command.params["cwd"] for command in made.commands] == [f"{BASE}/b", f"{BASE}/b/docs"]
    assert made.instance.steps[2].body == f"write in {BASE}/b"


@pytest.mark.spec("REC-9", "M-216")
async def test_runs_are_listed(fleet: Fleet) -> None:
    first, second = [(await begin(fleet)).instance.id for _ in range(2)]
    await stop(fleet, first)
    assert [each.id for each in recipes.list_instances(fleet.store)] == [second, first]
    assert [each.id for each in recipes.list_instances(fleet.store, status="stopping")] == [first]
    assert recipes.list_instances(fleet.store, status="bogus") == []
    assert [each.id for each in recipes.list_instances(fleet.store, limit=1)] == [second]
    with pytest.raises(NotFound):
        recipes.get_instance(fleet.store, "zz")


async def test_a_run_survives_the_server(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await host(fleet)
        run = await running(fleet)
        number = step(fleet, run, "write").task_id
        assert number is not None
    async with open_fleet(system, store) as fleet:
        await fleet.post_office.ask(tasks.ClaimTask(number, "agent-writer"))
        await finish(fleet, run, "write", "agent-writer")
        await stop(fleet, run)
    async with open_fleet(system, store) as fleet:
        await settled()
        for command in known(fleet, run).stops:
            await report(fleet, command.command_id, C.SUCCEEDED)
        assert known(fleet, run).status is R.STOPPED
        assert len(tasks.list_tasks(fleet.store)) == 2


async def test_what_happened_while_the_run_was_not_looking_counts(system: System, store: Store) -> None:
    """As after a crash between the post office's commit and what it tells."""
    async with open_fleet(system, store) as fleet:
        await host(fleet)
        run = await running(fleet)
        number = step(fleet, run, "write").task_id
        assert number is not None
        await fleet.recipes.stop()
        for status in (T.CLAIMED, T.DONE):
            said = wire.SetTaskStatus(status=status, agent_id="agent-writer")
            await fleet.post_office.ask(tasks.SetTaskStatus(number, said))
        assert step(fleet, run, "write").status is S.ASKED
    async with open_fleet(system, store) as fleet:
        await settled()
        assert step(fleet, run, "write").status is S.SUCCEEDED
        assert step(fleet, run, "read").status is S.ASKED


async def alone(fleet: Fleet) -> None:
    """Nothing else rings while time passes."""
    await fleet.system.stop(fleet.maintenance)
    await fleet.keepers.stop()


async def pass_by(fleet: Fleet, seconds: float, *there: str) -> None:
    """Time passes; the agents that are `there` are heard."""
    for _ in range(int(seconds / 60)):
        await trio.sleep(60)
        for name in there:
            await fleet.agents[name].ask(agents.Heartbeat())


async def go(fleet: Fleet, agent: str, how: str) -> None:
    if how == "removed":
        await fleet.agents[agent].ask(agents.Remove())
    elif how == "exited":
        report = wire.ExitedAgent(agent_id=agent, detected_at=wire.Instant(fleet.system.wall()))
        await fleet.agents[agent].ask(agents.Exited(report))
    elif how == "offline":
        await lose(fleet, agent)


@pytest.mark.parametrize("how", ["offline", "removed", "exited", "silent"])
async def test_a_step_whose_agent_goes_before_it_takes_it_is_held_for_a_person(
    fleet: Fleet, how: str
) -> None:
    if how != "silent":
        await alone(fleet)
    run = await running(fleet)
    await go(fleet, "agent-writer", how)
    await pass_by(fleet, 240, "agent-reader")
    assert (known(fleet, run).status, step(fleet, run, "write").status) == (R.RUNNING, S.ASKED)
    await pass_by(fleet, 420, "agent-reader")
    held = step(fleet, run, "write")
    assert (known(fleet, run).status, held.status) == (R.HELD, S.HELD)
    gone = "agent agent-writer was removed" if how == "removed" else "agent agent-writer is offline"
    assert (held.error or "").startswith(gone)
    assert f"relay recipes decide {run} write retry|succeeded|failed" in (held.error or "")
    assert held.error in (known(fleet, run).error or "")


async def test_an_agent_that_is_started_again_under_its_name_keeps_its_step(fleet: Fleet, log: Log) -> None:
    await alone(fleet)
    run = await running(fleet)
    await go(fleet, "agent-writer", "exited")
    await pass_by(fleet, 240, "agent-reader")
    await come(fleet, run, "writer")
    await pass_by(fleet, 240, "agent-reader", "agent-writer")
    await go(fleet, "agent-writer", "exited")
    await pass_by(fleet, 240, "agent-reader")
    told = log.events("recipe.instance.changed")
    assert [event for event in told if event["data"]["instance"]["status"] == R.HELD] == []


async def test_a_run_goes_on_when_somebody_is_there_for_a_held_step(fleet: Fleet, log: Log) -> None:
    await alone(fleet)
    run = await running(fleet)
    await go(fleet, "agent-writer", "removed")
    await pass_by(fleet, 900, "agent-reader")
    told = [event["data"]["instance"]["status"] for event in log.events("recipe.instance.changed")]
    assert told.count(R.HELD) == 1, "that is said once"
    await come(fleet, run, "writer")
    await pass_by(fleet, 60)
    assert (known(fleet, run).status, step(fleet, run, "write").status) == (R.RUNNING, S.ASKED)
    assert known(fleet, run).error is None
    await finish(fleet, run, "write", "agent-writer")
    assert step(fleet, run, "write").status is S.SUCCEEDED


async def test_a_person_decides_on_a_step_that_nobody_took(fleet: Fleet) -> None:
    await alone(fleet)
    run = await running(fleet)
    first = step(fleet, run, "write").task_id
    assert first is not None
    await go(fleet, "agent-writer", "removed")
    await pass_by(fleet, 420, "agent-reader")
    await decide(fleet, run, "write", Word.RETRY)
    await pass_by(fleet, 240, "agent-reader")
    assert step(fleet, run, "write").status is S.ASKED, "it has as much time once more"
    assert tasks.get_task(fleet.store, first).status is T.CANCELED
    await pass_by(fleet, 180, "agent-reader")
    assert step(fleet, run, "write").status is S.HELD
    await decide(fleet, run, "write", Word.SUCCEEDED)
    await settled()
    assert step(fleet, run, "read").status is S.ASKED


async def test_a_message_is_not_sent_to_who_is_gone(fleet: Fleet) -> None:
    await alone(fleet)
    run = await running(fleet)
    await go(fleet, "agent-reader", "removed")
    await finish(fleet, run, "write", "agent-writer")
    assert step(fleet, run, "say").status is S.WAITING
    await pass_by(fleet, 420)
    assert (known(fleet, run).status, step(fleet, run, "say").status) == (R.HELD, S.HELD)
    await come(fleet, run, "reader")
    await pass_by(fleet, 60)
    assert (known(fleet, run).status, step(fleet, run, "say").status) == (R.RUNNING, S.SUCCEEDED)
    sent = [each for each in messages.list_messages(fleet.store) if each.to == f"tag:{run}/reader"]
    assert len(sent) == 2, "it, and the task after it"


@pytest.mark.parametrize("gone", ["agent-writer", "agent-reader"])
async def test_a_run_that_is_held_as_nobody_is_there_can_be_stopped(fleet: Fleet, gone: str) -> None:
    await alone(fleet)
    run = await running(fleet)
    await go(fleet, gone, "removed")
    if gone == "agent-reader":
        await finish(fleet, run, "write", "agent-writer")
    await pass_by(fleet, 420, *({"agent-writer", "agent-reader"} - {gone}))
    assert known(fleet, run).status is R.HELD
    for command in (await stop(fleet, run)).commands:
        await report(fleet, command.id, C.SUCCEEDED)
    await settled()
    assert known(fleet, run).status is R.STOPPED


async def test_who_went_while_the_server_was_down_is_missed(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await host(fleet)
        run = await running(fleet)
        await fleet.recipes.stop()
        await go(fleet, "agent-writer", "removed")
    await trio.sleep(3_600)
    async with open_fleet(system, store) as fleet:
        await alone(fleet)
        await pass_by(fleet, 240, "agent-reader")
        assert step(fleet, run, "write").status is S.ASKED, "it may be on its way back, too"
        await pass_by(fleet, 180, "agent-reader")
        assert step(fleet, run, "write").status is S.HELD
    async with open_fleet(system, store) as fleet:
        await settled()
        assert step(fleet, run, "write").status is S.HELD


async def test_who_had_taken_the_task_and_went_while_the_server_was_down_is_missed(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        await host(fleet)
        run = await running(fleet)
        number = step(fleet, run, "write").task_id
        assert number is not None
        await fleet.post_office.ask(tasks.ClaimTask(number, "agent-writer"))
    await trio.sleep(3_600)
    async with open_fleet(system, store) as fleet:
        await pass_by(fleet, 360, "agent-reader")
        assert step(fleet, run, "write").status is S.HELD
        assert f"relay recipes decide {run} write" in (known(fleet, run).error or "")


async def profile(fleet: Fleet, name: str, **value: Any) -> None:
    await config.set_value(fleet, "agent-profile", name, value, None)


def profiled(**members: Any) -> wire.Recipe:
    return recipe(
        roles=[
            {"role": "writer", "provider": "claude", "profile": "careful", **members},
            {"role": "reader", "provider": "codex"},
        ]
    )


async def test_a_role_is_started_with_its_profile(fleet: Fleet) -> None:
    await profile(fleet, "careful", approvalMode="read-only", model="m", tags=["slow"])
    made = await begin(fleet, profiled())
    writer, reader = (command.params for command in made.commands)
    assert (writer["profile"], writer["model"], writer["approvalMode"]) == ("careful", "m", "read-only")
    assert set(writer["tags"]) == {"slow", f"{made.instance.id}/writer"}
    assert (reader.get("profile"), reader["approvalMode"]) == (None, "guarded")
    other = (await begin(fleet, profiled(model="own", approvalMode="open"))).commands[0].params
    assert (other["model"], other["approvalMode"]) == ("own", "open")


@pytest.mark.spec("REC-5")
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, r"^roles\[0\]\.profile: there is none 'careful'"),
        ({"provider": "codex"}, r"^roles\[0\]\.profile: 'careful' is for agents of codex"),
    ],
)
async def test_a_profile_that_does_not_fit_starts_nothing(
    fleet: Fleet, log: Log, value: dict[str, Any] | None, why: str
) -> None:
    if value is not None:
        await profile(fleet, "careful", **value)
    seen = len(log.events())
    with pytest.raises(Invalid, match=why):
        await begin(fleet, profiled())
    assert (log.events()[seen:], recipes.list_instances(fleet.store)) == ([], [])
    assert commands.list_commands(fleet.store) == []
