"""Tasks: reported, claimed, worked on, left behind, and their claims together with those on their messages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import System
from relay.fleet import Conflict, Fleet, Forbidden, Invalid, NotFound, agents, messages, open_fleet, tasks
from relay.fleet._machine import NONE
from relay.fleet._task_book import THOSE
from relay.fleet._task_rules import GRACE, MOVES, reports
from relay.store import Owner, Store, Write

TERM = messages.CLAIM_TERM
A = wire.AgentStatus
S = wire.TaskStatus


async def register(fleet: Fleet, name: str, **card: Any) -> None:
    await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name, **card)))


async def leave(fleet: Fleet, name: str, how: Any = None) -> None:
    await fleet.agents[name].ask(how or agents.SetStatus(A.OFFLINE))
    await heard(fleet)


async def heard(fleet: Fleet) -> None:
    """What the post office was told has been done, and is durable."""
    await fleet.post_office.ask(messages.SendMany(()))


async def report(fleet: Fleet, target: str = "a1", source: str = "ci", **event: Any) -> wire.Ingested:
    asked = wire.IntegrationEvent(**{"title": "build broken", **event}, target=target)
    return await fleet.post_office.ask(tasks.Ingest(source, asked))


async def claim(fleet: Fleet, number: int, agent: str) -> wire.TaskClaim:
    return await fleet.post_office.ask(tasks.ClaimTask(number, agent))


async def claim_message(fleet: Fleet, number: int, agent: str) -> wire.Claim:
    return await fleet.post_office.ask(messages.Claim(number, agent))


async def renew_message(fleet: Fleet, number: int, agent: str) -> wire.Claim:
    return await fleet.post_office.ask(messages.Renew(number, agent))


async def set_status(
    fleet: Fleet, number: int, status: str, agent: str | None = None, **more: Any
) -> wire.Task:
    asked = wire.SetTaskStatus(status=S(status), agent_id=agent, **more)
    return await fleet.post_office.ask(tasks.SetTaskStatus(number, asked))


async def expire(fleet: Fleet, missed: float = 0.0) -> tasks.Released:
    return await fleet.post_office.ask(tasks.ReleaseExpired(missed))


async def reopen(fleet: Fleet) -> tuple[int, ...]:
    return await fleet.post_office.ask(tasks.ReleaseOrphaned())


def look(fleet: Fleet, number: int) -> wire.Task:
    return tasks.get_task(fleet.store, number)


def letter(fleet: Fleet, number: int) -> wire.Message:
    return messages.get_message(fleet.store, number)


def told(log: Log) -> list[str]:
    """What was told of messages and tasks."""
    return [kind for kind in log.types() if not kind.startswith("agent.")]


@pytest.fixture
async def pair(fleet: Fleet) -> Fleet:
    """Two agents, a1 and a2, both with tag t; maintenance is done by hand."""
    await fleet.system.stop(fleet.maintenance)
    fleet.absence.look((), again_in=math.inf)
    for name in ("a1", "a2"):
        await register(fleet, name, tags=["t"])
    return fleet


# -- reports of integrations


@pytest.mark.spec("M-111", "TSK-2", "TSK-3", "M-I37")
async def test_a_task_comes_with_the_message_that_hands_it_over(pair: Fleet, log: Log) -> None:
    made = await report(
        pair, body="line 3", channel="c", metadata={"run": 7}, severity=wire.TaskSeverity.CRITICAL
    )
    task, message = made.task, made.message
    assert made.created
    assert message is not None
    assert (task.id, task.source, task.status, task.message_id) == (1, "ci", S.OPEN, message.id)
    assert (message.from_, message.to, message.kind) == ("ci", "a1", wire.MessageKind.TASK)
    assert message.payload == {"taskId": 1, "severity": "critical"}
    assert (message.subject, message.body, message.channel) == ("build broken", "line 3", "c")
    assert message.claimable
    assert look(pair, 1) == task
    told = log.events("message.new", "task.created")
    assert [event["type"] for event in told] == ["message.new", "task.created"]
    assert (told[1]["source"], told[1]["subject"], told[1]["data"]) == ("server", "1", wire.to_json(task))
    (entry,) = tasks.task_events(pair.store, 1)
    assert (entry.type, entry.status, entry.metadata) == ("created", S.OPEN, {"run": 7})


@pytest.mark.spec("M-115", "MSG-46", "H-03")
async def test_a_task_for_a_policy_without_an_agent_waits_in_its_queue(pair: Fleet, log: Log) -> None:
    made = await report(pair, "policy:p")
    assert made.message is not None
    assert made.message.delivery_status is wire.DeliveryStatus.QUEUED
    assert [event["type"] for event in log.events("message.new", "message.queued")] == ["message.queued"]


async def test_a_task_reaches_an_agent_that_is_offline(pair: Fleet) -> None:
    await leave(pair, "a1")
    made = await report(pair)
    assert [found.id for found in messages.list_messages(pair.store, for_="a1")] == [made.task.message_id]


@pytest.mark.spec("INT-7", "O-35")
async def test_a_report_with_a_known_key_changes_the_task(pair: Fleet, log: Log) -> None:
    first = await report(pair, key="k", body="old", metadata={"a": 1})
    again = await report(pair, key="k", title="still broken", severity=wire.TaskSeverity.WARNING)
    assert (again.created, again.message, again.task.id) == (False, None, first.task.id)
    assert (again.task.title, again.task.body, again.task.metadata) == ("still broken", "old", {"a": 1})
    assert again.task.message_id == first.task.message_id
    assert [e["type"] for e in log.events("task.created", "task.updated")] == ["task.created", "task.updated"]
    assert (await report(pair, source="other", key="k")).created
    assert (await report(pair)).created


@pytest.mark.spec("INT-7")
async def test_reports_of_one_key_at_the_same_time_are_one_task(pair: Fleet) -> None:
    made: list[wire.Ingested] = []

    async def one() -> None:
        made.append(await report(pair, key="k"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert {each.task.id for each in made} == {1}
    assert sum(each.created for each in made) == 1
    assert messages.latest_id(pair.store) == 1


@pytest.mark.spec("O-35")
async def test_a_report_opens_a_task_that_has_ended_with_a_new_message(pair: Fleet) -> None:
    first = await report(pair, key="k")
    await set_status(pair, 1, "done", "a1")
    again = await report(pair, key="k")
    assert (again.created, again.task.status) == (False, S.OPEN)
    assert again.message is not None
    assert again.task.message_id == again.message.id != first.task.message_id
    assert (await claim_message(pair, again.message.id, "a1")).ok


async def test_a_report_may_say_how_the_task_is(pair: Fleet, log: Log) -> None:
    ended = await report(pair, key="k", status=S.DONE)
    assert (ended.task.status, ended.message) == (S.DONE, None)
    same = await report(pair, key="k", status=S.DONE)
    assert (same.task.status, same.message) == (S.DONE, None)
    await report(pair, key="l")
    await claim(pair, 2, "a1")
    assert (await report(pair, key="l", status=S.CANCELED)).task.claimed_by is None
    assert letter(pair, 1).claimed_by is None
    before = log.events()
    for status in (S.CLAIMED, S.ORPHANED, S.BLOCKED):
        with pytest.raises(Invalid, match="status"):
            await report(pair, status=status)
    with pytest.raises(Invalid, match="canceled"):
        await report(pair, key="l", status=S.BLOCKED)
    assert log.events() == before


async def test_a_task_that_goes_to_somebody_else_is_handed_over_again(pair: Fleet) -> None:
    await report(pair, key="k")
    moved = await report(pair, "a2", key="k")
    assert moved.message is not None
    assert (moved.task.target, moved.message.to) == ("a2", "a2")


async def test_a_task_without_an_address_is_refused_and_nothing_is_kept(pair: Fleet, log: Log) -> None:
    before = log.events()
    with pytest.raises(Invalid):
        await report(pair, "pool:p", key="k")
    assert log.events() == before
    assert tasks.list_tasks(pair.store) == []
    assert (await report(pair, key="k")).created


# -- one claim on the task and on its message


@pytest.mark.spec("M-I6", "MSG-29a")
async def test_who_claims_the_message_claims_the_task(pair: Fleet, log: Log) -> None:
    await report(pair, "tag:t")
    held = await claim_message(pair, 1, "a1")
    task = look(pair, 1)
    assert (task.status, task.claimed_by, task.claim_expires_at) == (S.CLAIMED, "a1", held.claim_expires_at)
    told = log.events("message.claimed", "task.updated")
    assert [event["type"] for event in told] == ["message.claimed", "task.updated"]
    with pytest.raises(Conflict, match="a1"):
        await claim(pair, 1, "a2")
    assert [entry.type for entry in tasks.task_events(pair.store, 1)] == ["created", "claimed"]


@pytest.mark.spec("M-I6", "MSG-29a")
async def test_who_claims_the_task_claims_the_message(pair: Fleet, log: Log) -> None:
    await report(pair, "tag:t")
    held = await claim(pair, 1, "a1")
    message = letter(pair, 1)
    assert held.task == look(pair, 1)
    assert (message.claimed_by, message.claim_expires_at) == ("a1", held.claim_expires_at)
    assert [event["source"] for event in log.events("message.claimed")] == ["a1"]
    with pytest.raises(Conflict, match="a1"):
        await claim_message(pair, 1, "a2")


@pytest.mark.spec("M-I6", "MSG-29a")
@pytest.mark.parametrize("renew", [claim, claim_message, renew_message])
async def test_to_renew_one_claim_renews_both_and_is_not_announced(pair: Fleet, log: Log, renew: Any) -> None:
    await report(pair)
    await claim(pair, 1, "a1")
    before = told(log)
    await trio.sleep(300)
    held = await renew(pair, 1, "a1")
    assert look(pair, 1).claim_expires_at == letter(pair, 1).claim_expires_at == held.claim_expires_at
    assert held.claim_expires_at == pytest.approx(pair.system.wall() + TERM, abs=1)
    assert told(log) == before


@pytest.mark.spec("M-I6")
async def test_every_message_that_hands_a_task_over_shares_its_claim(pair: Fleet) -> None:
    await report(pair, "tag:t")
    asked = wire.SendMessage(from_="lead", to="a2", body="yours", payload={"taskId": 1}, claimable=True)
    second = (await pair.post_office.ask(messages.Send(asked))).message.id
    await claim_message(pair, second, "a2")
    assert (look(pair, 1).claimed_by, letter(pair, 1).claimed_by) == ("a2", "a2")
    with pytest.raises(Conflict):
        await claim_message(pair, 1, "a1")
    await trio.sleep(TERM - 1)
    await renew_message(pair, 1, "a2")
    assert letter(pair, second).claim_expires_at == letter(pair, 1).claim_expires_at
    await set_status(pair, 1, "done", "a2")
    assert letter(pair, second).claimed_by is None


@pytest.mark.spec("R-43", "C-1")
@pytest.mark.parametrize("number", [99, "1", 1.5, True])
async def test_a_message_of_no_task_is_claimed_alone(pair: Fleet, number: Any) -> None:
    await report(pair)
    asked = wire.SendMessage(from_="x", to="a2", body="x", payload={"taskId": number}, claimable=True)
    message = (await pair.post_office.ask(messages.Send(asked))).message.id
    assert (await claim_message(pair, message, "a2")).ok
    assert look(pair, 1).claimed_by is None


@pytest.mark.spec("TSK-5")
@pytest.mark.parametrize("end", ["done", "failed", "canceled"])
async def test_an_end_frees_both_claims_and_the_message_cannot_be_claimed_again(
    pair: Fleet, end: str
) -> None:
    await report(pair, "tag:t")
    await claim_message(pair, 1, "a1")
    task = await set_status(pair, 1, end, "a1")
    assert (task.status, task.claimed_by, task.claim_expires_at) == (S(end), None, None)
    assert letter(pair, 1).claimed_by is None
    for agent in ("a1", "a2"):
        with pytest.raises(Conflict, match=end):
            await claim_message(pair, 1, agent)
        with pytest.raises(Conflict, match=end):
            await claim(pair, 1, agent)
    with pytest.raises(Conflict):
        await renew_message(pair, 1, "a1")


@pytest.mark.spec("MSG-29b")
async def test_a_task_is_claimed_by_whom_it_is_for(pair: Fleet) -> None:
    await report(pair)
    with pytest.raises(Forbidden):
        await claim(pair, 1, "a2")
    with pytest.raises(Forbidden):
        await claim(pair, 1, "ghost")
    with pytest.raises(NotFound):
        await claim(pair, 2, "a1")


async def test_a_task_outlives_its_message(pair: Fleet) -> None:
    await report(pair)
    await claim(pair, 1, "a1")
    await pair.post_office.ask(messages.Delete(1))
    assert (await claim(pair, 1, "a1")).task.claimed_by == "a1"
    assert (await set_status(pair, 1, "in_progress", "a1")).status is S.IN_PROGRESS
    assert (await expire(pair)) == tasks.Released()


# -- reports of agents


@pytest.mark.spec("TSK-5", "TSK-8")
async def test_work_goes_its_way(pair: Fleet, log: Log) -> None:
    await report(pair)
    await claim(pair, 1, "a1")
    for status in ("in_progress", "blocked", "in_progress", "done"):
        said = {"body": f"now {status}", "metadata": {"by": "me"}}
        assert (await set_status(pair, 1, status, "a1", **said)).status == status
    history = tasks.task_events(pair.store, 1)
    assert [(e.type, e.status) for e in history][2:] == [
        ("status", "in_progress"), ("status", "blocked"), ("status", "in_progress"), ("status", "done"),
    ]  # fmt: skip
    assert (history[-1].agent_id, history[-1].body, history[-1].metadata) == ("a1", "now done", {"by": "me"})
    assert [entry.id for entry in history] == sorted(entry.id for entry in history)
    told = [event["data"]["status"] for event in log.events("task.updated")]
    assert told == ["claimed", "in_progress", "blocked", "in_progress", "done"]


@pytest.mark.spec("TSK-6")
async def test_only_its_holder_speaks_of_a_held_task(pair: Fleet, log: Log) -> None:
    await report(pair, "tag:t")
    await claim(pair, 1, "a1")
    before = log.events()
    with pytest.raises(Conflict, match="a1"):
        await set_status(pair, 1, "in_progress", "a2")
    assert log.events() == before
    assert (await set_status(pair, 1, "canceled")).status is S.CANCELED


@pytest.mark.spec("TSK-6")
async def test_whoever_begins_with_an_open_task_holds_it(pair: Fleet) -> None:
    await report(pair)
    task = await set_status(pair, 1, "in_progress", "a2")
    assert (task.claimed_by, letter(pair, 1).claimed_by) == ("a2", "a2")
    with pytest.raises(Conflict):
        await claim_message(pair, 1, "a1")
    await report(pair)
    assert (await set_status(pair, 2, "in_progress", "a script")).claimed_by is None
    await report(pair)
    with pytest.raises(Invalid, match="agentId"):
        await set_status(pair, 3, "claimed", "a script")


@pytest.mark.spec("TSK-7", "O-26")
async def test_an_end_is_final_and_its_repeat_is_nothing_new(pair: Fleet, log: Log) -> None:
    await report(pair)
    done = await set_status(pair, 1, "done", "a1")
    before = log.events()
    assert await set_status(pair, 1, "done", "a2", body="again") == done
    for status in (*S,):
        if status is not S.DONE:
            with pytest.raises(Conflict, match="done"):
                await set_status(pair, 1, status, "a1")
    assert log.events() == before
    assert len(tasks.task_events(pair.store, 1)) == 2


async def test_a_holder_may_give_a_task_back(pair: Fleet, log: Log) -> None:
    await report(pair, "tag:t")
    await claim_message(pair, 1, "a1")
    task = await set_status(pair, 1, "open", "a1")
    assert (task.status, task.claimed_by, letter(pair, 1).claimed_by) == (S.OPEN, None, None)
    assert len(log.events("message.claim.released")) == 1
    assert (await claim_message(pair, 1, "a2")).ok


@pytest.mark.parametrize("before", list(S))
async def test_no_move_but_those_of_the_table(pair: Fleet, before: S) -> None:
    assert MOVES.keys() == {NONE, *S}
    way: dict[S, tuple[S, ...]] = {
        S.OPEN: (), S.CLAIMED: (S.CLAIMED,), S.IN_PROGRESS: (S.IN_PROGRESS,), S.BLOCKED: (S.IN_PROGRESS, S.BLOCKED),
        S.ORPHANED: (S.CLAIMED,), S.DONE: (S.DONE,), S.FAILED: (S.FAILED,), S.CANCELED: (S.CANCELED,),
    }  # fmt: skip
    for after in S:
        number = (await report(pair)).task.id
        for step in way[before]:
            await set_status(pair, number, step, "a1")
        if before is S.ORPHANED:
            await leave(pair, "a1")
            await register(pair, "a1", status=A.IDLE)
        assert look(pair, number).status is before
        if reports(after) in MOVES[before]:
            assert (await set_status(pair, number, after, "a1")).status is after
        else:
            with pytest.raises(Conflict, match=before):
                await set_status(pair, number, after, "a1")


# -- claims that are over


@pytest.mark.spec("M-I5", "TSK-9", "MSG-29")
async def test_a_claim_that_is_over_is_released_once(pair: Fleet, log: Log) -> None:
    await report(pair)
    await claim(pair, 1, "a1")
    await set_status(pair, 1, "in_progress", "a1")
    await trio.sleep(TERM - 1)
    assert await expire(pair) == tasks.Released()
    await trio.sleep(2)
    before = len(log.events())
    assert await expire(pair) == tasks.Released((1,), (1,))
    assert [event["type"] for event in log.events()[before:]] == ["message.claim.released", "task.updated"]
    task = look(pair, 1)
    assert (task.status, task.claimed_by, letter(pair, 1).claimed_by) == (S.OPEN, None, None)
    assert tasks.task_events(pair.store, 1)[-1].type == "released"
    assert await expire(pair) == tasks.Released()


@pytest.mark.spec("MSG-29")
async def test_a_claim_on_an_ordinary_message_is_released_too(pair: Fleet, log: Log) -> None:
    asked = wire.SendMessage(from_="x", to="a1", body="x", claimable=True)
    await pair.post_office.ask(messages.Send(asked))
    await claim_message(pair, 1, "a1")
    await trio.sleep(TERM + 1)
    assert await expire(pair) == tasks.Released((1,), ())
    (event,) = log.events("message.claim.released")
    assert (event["source"], event["subject"], event["data"]) == ("server", "1", {"messageId": 1})
    with pytest.raises(Conflict):
        await renew_message(pair, 1, "a1")


@pytest.mark.spec("O-19", "M-I6")
async def test_a_claim_that_is_over_and_not_released_goes_to_whoever_is_first(pair: Fleet) -> None:
    await report(pair, "tag:t")
    await claim_message(pair, 1, "a1")
    await set_status(pair, 1, "in_progress", "a1")
    await trio.sleep(TERM + 1)
    assert (await claim_message(pair, 1, "a2")).ok
    assert (look(pair, 1).claimed_by, look(pair, 1).status) == ("a2", S.CLAIMED)
    await trio.sleep(TERM + 1)
    assert (await set_status(pair, 1, "in_progress", "a1")).claimed_by == "a1"
    assert letter(pair, 1).claimed_by == "a1"
    await trio.sleep(TERM + 1)
    assert (await renew_message(pair, 1, "a1")).ok
    assert await expire(pair) == tasks.Released()


async def test_time_that_the_server_missed_is_given_to_every_claim(pair: Fleet) -> None:
    await report(pair)
    await report(pair, "a2")
    await claim(pair, 1, "a1")
    await claim(pair, 2, "a2")
    asked = wire.SendMessage(from_="x", to="a1", body="x", claimable=True)
    await pair.post_office.ask(messages.Send(asked))
    await claim_message(pair, 3, "a1")
    await leave(pair, "a2")
    await trio.sleep(TERM + 1)
    assert await expire(pair, missed=700.0) == tasks.Released()
    assert await reopen(pair) == ()
    await trio.sleep(700)
    assert await expire(pair) == tasks.Released((1, 2, 3), (1,))
    assert await reopen(pair) == (2,)


async def test_much_that_is_over_is_released_by_and_by(pair: Fleet) -> None:
    for _ in range(tasks.AT_ONCE + 1):
        number = (await report(pair)).task.id
        await claim(pair, number, "a1")
    await trio.sleep(TERM + 10)
    found = [await expire(pair) for _ in range(3)]
    assert [len(each.task_ids) for each in found] == [tasks.AT_ONCE, 1, 0]
    assert [number for each in found for number in each.message_ids] == list(range(1, tasks.AT_ONCE + 2))


# -- holders who are gone


@pytest.mark.spec("TSK-13", "AGT-18")
@pytest.mark.parametrize("how", [agents.SetStatus(A.OFFLINE), agents.Remove()])
async def test_what_its_holder_leaves_behind_is_orphaned(pair: Fleet, log: Log, how: Any) -> None:
    for target in ("a1", "a1", "a1", "a2"):
        await report(pair, target)
    await claim(pair, 1, "a1")
    await set_status(pair, 2, "in_progress", "a1")
    await claim(pair, 4, "a2")
    await leave(pair, "a1", how)
    found = [look(pair, number).status for number in (1, 2, 3, 4)]
    assert found == [S.ORPHANED, S.ORPHANED, S.OPEN, S.CLAIMED]
    assert (look(pair, 2).claimed_by, look(pair, 2).orphaned_from) == ("a1", S.IN_PROGRESS)
    assert tasks.task_events(pair.store, 1)[-1].type == "orphaned"
    assert [e["subject"] for e in log.events("task.updated")][-2:] == ["1", "2"]


@pytest.mark.spec("TSK-10", "O-28", "M-I40", "M-232")
async def test_an_orphaned_task_is_opened_when_the_grace_is_over(pair: Fleet, log: Log) -> None:
    await report(pair, "tag:t")
    await claim_message(pair, 1, "a1")
    await leave(pair, "a1")
    assert await reopen(pair) == ()
    with pytest.raises(Conflict, match="orphaned"):
        await claim(pair, 1, "a2")
    await trio.sleep(GRACE - 1)
    assert await reopen(pair) == ()
    await trio.sleep(2)
    before = len(log.events())
    assert await reopen(pair) == (1,)
    assert [event["type"] for event in log.events()[before:]] == ["message.claim.released", "task.updated"]
    assert (look(pair, 1).status, look(pair, 1).claimed_by) == (S.OPEN, None)
    assert await reopen(pair) == ()
    assert (await claim_message(pair, 1, "a2")).ok


@pytest.mark.spec("O-28")
async def test_an_orphaned_task_is_opened_when_its_claim_is_over_if_that_is_earlier(pair: Fleet) -> None:
    await report(pair, "tag:t")
    await claim_message(pair, 1, "a1")
    await trio.sleep(TERM - 10)
    await leave(pair, "a1")
    await trio.sleep(11)
    assert await expire(pair) == tasks.Released((1,), ())
    assert await reopen(pair) == (1,)


@pytest.mark.spec("TSK-13")
async def test_a_former_holder_takes_its_task_back(pair: Fleet) -> None:
    for take_back in (set_status, claim_message, renew_message, claim):
        made = await report(pair, "a1")
        number, message = made.task.id, made.task.message_id
        assert message is not None
        await set_status(pair, number, "in_progress", "a1")
        await leave(pair, "a1")
        assert look(pair, number).status is S.ORPHANED
        await register(pair, "a1", status=A.IDLE)
        with pytest.raises(Conflict):
            await set_status(pair, number, "in_progress", "a2")
        if take_back is set_status:
            await set_status(pair, number, "blocked", "a1")
        else:
            await take_back(pair, number if take_back is claim else message, "a1")
        task = look(pair, number)
        assert task.status is (S.BLOCKED if take_back is set_status else S.IN_PROGRESS)
        assert (task.claimed_by, task.orphaned_at) == ("a1", None)
        assert letter(pair, message).claimed_by == "a1"
        await set_status(pair, number, "done", "a1")


@pytest.mark.spec("TSK-13")
async def test_a_source_cannot_bring_back_the_holder_of_an_orphaned_task(pair: Fleet) -> None:
    await report(pair, key="k")
    await claim(pair, 1, "a1")
    await leave(pair, "a1")
    await report(pair, key="k", status=S.BLOCKED)
    assert (look(pair, 1).status, look(pair, 1).claimed_by) == (S.ORPHANED, "a1")
    await register(pair, "a1")
    await claim(pair, 1, "a1")
    assert look(pair, 1).status is S.BLOCKED


@pytest.mark.spec("M-I39")
async def test_a_task_is_never_taken_from_a_holder_who_is_back(pair: Fleet) -> None:
    await report(pair)
    await claim(pair, 1, "a1")
    await leave(pair, "a1")
    await register(pair, "a1", status=A.IDLE)
    await trio.sleep(GRACE + 1)
    assert await reopen(pair) == ()
    await trio.sleep(TERM)
    await pair.agents["a1"].ask(agents.Heartbeat(None, A.IDLE, None))
    assert await reopen(pair) == (1,)


@pytest.mark.spec("M-I39")
async def test_who_is_back_before_its_leaving_is_heard_of_keeps_its_tasks(pair: Fleet) -> None:
    await report(pair)
    await claim(pair, 1, "a1")
    pair.post_office.tell(tasks.Left("a1"))
    await heard(pair)
    assert look(pair, 1).status is S.CLAIMED


async def test_the_person_at_the_terminal_is_never_gone(pair: Fleet) -> None:
    await report(pair, "user")
    await claim(pair, 1, "user")
    assert await reopen(pair) == ()
    assert look(pair, 1).status is S.CLAIMED


@pytest.mark.spec("M-I6")
async def test_a_message_that_is_older_than_its_task_by_the_clock_stands_for_it(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        await register(fleet, "a1", tags=["t"])
        for key in "abc":  # each is a millisecond later than the one before, whatever the clock says
            number = (await report(fleet, "tag:t", key=key)).task.id
    async with open_fleet(system, store) as fleet:
        message = (await report(fleet, key="c")).message
        assert message is not None
        assert (message.created_at or 0) < (look(fleet, number).created_at or 0)
        await claim_message(fleet, message.id, "a1")
        assert look(fleet, number).claimed_by == "a1"


async def test_much_that_was_left_behind_is_orphaned_by_and_by(system: System, store: Store) -> None:
    many = tasks.AT_ONCE + 1
    async with open_fleet(system, store) as fleet:
        await register(fleet, "a1")
        for _ in range(many):
            await claim(fleet, (await report(fleet)).task.id, "a1")
        await forget(store, "a1")
    async with open_fleet(system, store) as fleet:
        await fleet.system.idle()
        left = tasks.list_tasks(store, status=S.ORPHANED, limit=500)
        assert [task.id for task in reversed(left)] == list(range(1, many + 1))
        assert all(len(tasks.task_events(store, task.id)) == 3 for task in left)


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        (f"{tasks.IS_HELD} and claimed_by = ?", "tasks_by_holder"),
        (f"{tasks.IS_HELD} and {tasks.HOLDER_NOT_THERE}", "tasks_by_holder"),
        (f"{tasks.IS_HELD} and {tasks.IS_OVER}", "tasks_claim_due"),
        (tasks.GIVEN_UP, "tasks_by_status"),
        ("channel = ?", "tasks_by_channel"),
    ],
)
async def test_tasks_are_looked_for_by_an_index(store: Store, condition: str, index: str) -> None:
    plan = [
        str(row[-1])
        for row in store.rows(
            f"explain query plan {THOSE.format(condition)}", *"???"[: 1 + condition.count("?")]
        )
    ]
    assert f"USING INDEX {index} " in plan[0]
    assert not any(step.startswith("SCAN") for step in plan)


async def forget(store: Store, name: str) -> None:
    """The agent is deleted, and nobody hears of it."""
    done = trio.Event()
    store.stage([Write("delete from agents where id = ?", (name,))], [], Owner(), lambda error: done.set())
    await done.wait()


@pytest.mark.spec("M-I40")
async def test_what_nobody_told_of_is_found_at_the_start_and_by_maintenance(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        for name in ("a1", "a2"):
            await register(fleet, name)
            await claim(fleet, (await report(fleet, name)).task.id, name)
    await forget(store, "a1")
    async with open_fleet(system, store) as fleet:
        await heard(fleet)
        assert (look(fleet, 1).status, look(fleet, 2).status) == (S.ORPHANED, S.CLAIMED)
        await forget(store, "a2")
        assert await reopen(fleet) == ()
        assert look(fleet, 2).status is S.ORPHANED


# -- looking


@pytest.mark.spec("TSK-12", "O-27")
async def test_tasks_are_listed_newest_first_and_filtered(pair: Fleet) -> None:
    await report(pair, channel="c")
    await report(pair, "a2", source="other")
    await claim(pair, 2, "a2")

    def listed(**filters: Any) -> list[int]:
        return [task.id for task in tasks.list_tasks(pair.store, **filters)]

    assert listed() == [2, 1]
    assert listed(limit=1) == [2]
    assert listed(status=S.OPEN) == listed(source="ci") == listed(target="a1") == listed(channel="c") == [1]
    assert listed(claimed_by="a2") == listed(status=S.CLAIMED, source="other") == [2]
    assert listed(status=S.OPEN, source="other") == []


async def test_what_is_not_there_is_not_found(pair: Fleet) -> None:
    for look_for in (tasks.get_task, tasks.task_events):
        with pytest.raises(NotFound, match="task"):
            look_for(pair.store, 1)
    with pytest.raises(NotFound, match="task"):
        await set_status(pair, 1, "done")


@pytest.mark.spec("M-238", "TSK-11")
async def test_a_stream_hears_of_the_tasks_for_its_agent(pair: Fleet, store: Store) -> None:
    await register(pair, "a3", tags=["x"])
    matcher = pair.matcher("a3", 0)
    await report(pair, "a2")
    await report(pair, "tag:x")
    await claim(pair, 2, "a3")
    found = [event for event in await store.events.read_after(0, 500) if matcher(event)]
    told = [(event.type, event.subject) for event in found if event.type.startswith("task.")]
    assert told == [("task.created", "2"), ("task.updated", "2")]
