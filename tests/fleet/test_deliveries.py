"""The delivery ladder: handing over, settling, what time and crashes do, dead letters."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import System
from relay.fleet import Conflict, Fleet, NotFound, agents, deliveries, messages, open_fleet, tasks
from relay.fleet._delivery_rules import MOST_ATTEMPTS, MOST_IN_HAND, VISIBLE
from relay.store import Owner, Store, Write

End, R, A = wire.Outcome, wire.Rung, wire.AgentStatus


async def register(fleet: Fleet, name: str, **card: Any) -> None:
    await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name, **card)))


async def send(fleet: Fleet, to: str = "a1", from_: str = "b1", **rest: Any) -> int:
    asked = wire.SendMessage(**{"body": "x", **rest}, from_=from_, to=to)
    return (await fleet.post_office.ask(messages.Send(asked))).message.id


async def take(fleet: Fleet, agent: str = "a1", **asked: Any) -> list[wire.HandOver]:
    return list((await fleet.deliveries[agent].ask(deliveries.Take(**asked))).deliveries)


async def settle(
    fleet: Fleet, handed: wire.HandOver, outcome: wire.Outcome = End.CONFIRMED, agent: str = "a1", **more: Any
) -> wire.AckResult:
    ack = wire.Ack(message_id=handed.message_id, token=handed.token, outcome=outcome, **more)
    (result,) = await fleet.deliveries[agent].ask(deliveries.Ack((ack,)))
    return result


def rung(fleet: Fleet, number: int, agent: str = "a1") -> wire.Rung:
    (found,) = [each for each in deliveries.message_progress(fleet.store, number) if each.agent_id == agent]
    return found.rung


@pytest.fixture
async def office(fleet: Fleet) -> Fleet:
    """Agent a1, in session s1; and b1, who writes to it."""
    await register(fleet, "a1", instance_id="s1", tags=["t"])
    await register(fleet, "b1")
    return fleet


# -- handing over


async def test_a_message_climbs_rung_by_rung_and_each_step_is_told(office: Fleet, log: Log) -> None:
    number = await send(office)
    assert rung(office, number) is R.ROUTED
    (handed,) = await take(office, instance="s1")
    assert (handed.message.id, handed.token, handed.attempt) == (number, 1, 1)
    assert handed.visible_until - handed.handed_at == VISIBLE
    assert rung(office, number) is R.HANDED
    result = await settle(office, handed, evidence="turn 7")
    assert (result.ok, result.rung) == (True, R.CONFIRMED)
    assert messages.get_message(office.store, number).read_by == ["a1"]
    reply = await send(office, "b1", "a1", reply_to=number)
    await office.system.idle()
    (end,) = deliveries.message_progress(office.store, number)
    assert (end.rung, end.reply_id, end.evidence) == (R.REPLIED, reply, "turn 7")
    assert end.handed_at is not None and end.confirmed_at is not None and end.replied_at is not None
    told = [
        (e["type"], e["data"]["messageIds"], e["data"]["rung"])
        for e in log.events()
        if "delivery." in e["type"]
    ]
    assert told == [
        ("delivery.handed", [number], "handed"),
        ("delivery.confirmed", [number], "confirmed"),
        ("delivery.replied", [number], "replied"),
    ]


async def test_what_is_in_hand_read_or_not_for_the_agent_is_not_handed_over(office: Fleet) -> None:
    first = await send(office)
    assert [each.message_id for each in await take(office)] == [first]
    assert await take(office) == []
    second = await send(office, "tag:t")
    await office.post_office.ask(messages.MarkRead(second, "a1"))
    await send(office, "b1", "a1")
    await send(office, "tag:t", "a1")
    await send(office, kind=wire.MessageKind.SESSION)
    await send(office, "policy:p")
    await send(office, "label:l")
    assert await take(office) == []
    await office.agents["a1"].ask(agents.SetLabel("l"))
    assert len(await take(office)) == 1


async def test_a_batch_is_bounded_in_number_and_bytes_and_in_the_order_of_ids(office: Fleet) -> None:
    sent = [await send(office, ["a1", "tag:t"][number % 2], body="x" * 100) for number in range(7)]
    assert [each.message_id for each in await take(office, limit=3)] == sent[:3]
    assert [each.message_id for each in await take(office, most_bytes=700)] == sent[3:5]
    assert [each.message_id for each in await take(office, most_bytes=1)] == sent[5:6]


async def test_what_an_agent_has_in_hand_is_bounded(office: Fleet) -> None:
    for _ in range(MOST_IN_HAND + 5):
        await send(office)
    handed = [each for _ in range(MOST_IN_HAND // 100) for each in await take(office)]
    assert len(handed) == MOST_IN_HAND
    assert await take(office) == []
    for each in handed[:3]:
        await settle(office, each)
    assert len(await take(office)) == 3


async def test_nobody_and_a_session_that_is_over_are_handed_nothing(office: Fleet) -> None:
    with pytest.raises(NotFound):
        await take(office, "nobody")
    with pytest.raises(Conflict, match="another session"):
        await take(office, instance="s0")
    await send(office, "user")
    assert len(await take(office, "user")) == 1


@pytest.mark.spec("R-I6", "M-I3")
async def test_a_claimable_message_is_claimed_with_the_hand_over(office: Fleet) -> None:
    await register(office, "a2", tags=["t"])
    first, second = [await send(office, "tag:t", claimable=True) for _ in range(2)]
    (handed,) = await take(office, limit=1)
    assert (handed.message_id, handed.message.claimed_by) == (first, "a1")
    assert handed.message.claim_expires_at is not None
    assert [each.message_id for each in await take(office, "a2")] == [second]
    assert await take(office) == []


# -- settling


async def test_what_another_has_taken_is_not_handed_to_the_next_when_the_claim_is_over(
    office: Fleet, log: Log
) -> None:
    """The work is under way, or done; nobody says that a claim on a plain message is given back."""
    await register(office, "a2", tags=["t"])
    number = await send(office, "tag:t", claimable=True)
    (handed,) = await take(office)
    await settle(office, handed)
    assert await take(office, "a2") == []
    await trio.sleep(messages.CLAIM_TERM + 60)
    assert await take(office, "a2") == []
    assert rung(office, number, "a2") is R.EXPIRED
    (told,) = log.events("delivery.expired")
    assert told["data"] == {
        "agentId": "a2",
        "messageIds": [number],
        "rung": "expired",
        "error": "a1 has taken it",
    }
    assert (await office.post_office.ask(messages.Claim(number, "a2"))).ok
    await office.post_office.ask(messages.MarkRead(number, "a2"))
    await office.system.idle()
    assert rung(office, number, "a2") is R.CONFIRMED


async def test_a_message_whose_task_has_ended_is_handed_to_nobody_and_asked_for_once(
    office: Fleet, log: Log
) -> None:
    for end in ("done", "canceled"):
        event = wire.IntegrationEvent(title="broken", target="a1", key=end)
        task = (await office.post_office.ask(tasks.Ingest("ci", event))).task.id
        await office.post_office.ask(
            tasks.SetTaskStatus(task, wire.SetTaskStatus(status=wire.TaskStatus(end)))
        )
    handed = await office.deliveries["a1"].ask(deliveries.Take())
    assert handed == deliveries.Handed((), again_in=None)
    assert [rung(office, number) for number in (1, 2)] == [R.EXPIRED, R.EXPIRED]
    again = wire.IntegrationEvent(title="broken again", target="a1", key="done")
    message = (await office.post_office.ask(tasks.Ingest("ci", again))).message
    assert message is not None
    assert [each.message_id for each in await take(office)] == [message.id]


async def test_a_task_that_was_left_goes_to_the_next_though_another_had_its_message(office: Fleet) -> None:
    await register(office, "a2", tags=["t"])
    event = wire.IntegrationEvent(title="broken", target="tag:t")
    await office.post_office.ask(tasks.Ingest("ci", event))
    (handed,) = await take(office)
    await settle(office, handed)
    await trio.sleep(messages.CLAIM_TERM + 60)
    assert [each.message_id for each in await take(office, "a2")] == [handed.message_id]


async def test_an_acknowledgement_needs_the_last_token(office: Fleet, log: Log) -> None:
    number = await send(office)
    (first,) = await take(office, instance="s1", holding=frozenset())
    (second,) = await take(office, instance="s1", holding=frozenset())
    assert (second.token, second.attempt) == (2, 1)
    before = log.types()
    for outcome in End:
        result = await settle(office, first, outcome)
        assert (result.ok, result.error, result.rung) == (False, "stale", R.HANDED)
    assert log.types() == before
    assert (await settle(office, second)).ok
    assert (await settle(office, second)).ok
    assert log.types().count("delivery.confirmed") == log.types().count("message.read") == 1
    assert (await settle(office, second, End.REFUSED)).error == "stale"
    unknown = wire.HandOver(
        message_id=99, token=1, attempt=1, handed_at=0, visible_until=0, message=first.message
    )
    assert (await settle(office, unknown)).error == "unknown"
    assert rung(office, number) is R.CONFIRMED


async def test_a_refusal_of_several_counts_against_none_and_they_go_alone(office: Fleet) -> None:
    sent = [await send(office) for _ in range(3)]
    for handed in await take(office):
        await settle(office, handed, End.REFUSED, error="no")
    for number in sent:
        (handed,) = await take(office)
        assert (handed.message_id, handed.attempt) == (number, 1)
        await settle(office, handed)


async def test_after_eight_attempts_a_message_is_dead_and_others_are_not_held_up(
    office: Fleet, log: Log
) -> None:
    number = await send(office)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        (handed,) = await take(office)
        assert handed.attempt == attempt
        result = await settle(office, handed, End.REFUSED, error="I will not")
        assert await take(office) == []
        await trio.sleep(min(30, 2 ** (attempt - 1)))
    assert result.rung is R.DEAD
    await trio.sleep(3600)
    assert await take(office) == []
    (letter,) = deliveries.dead_letters(office.store)
    assert (letter.message_id, letter.agent_id, letter.error, letter.attempt) == (
        number,
        "a1",
        "I will not",
        8,
    )
    assert letter.message is not None and letter.message.body == "x"
    (record,) = log.audits(f"server-message-{number}-dead-a1")
    assert "I will not" in record["body"] and record["agentId"] == "a1"
    assert log.events("delivery.dead")[0]["data"]["error"] == "I will not"
    await office.agents["a1"].ask(agents.Heartbeat())
    other = await send(office)
    assert [each.message_id for each in await take(office)] == [other]


async def test_whoever_took_it_may_say_when_to_try_again(office: Fleet) -> None:
    await send(office)
    (handed,) = await take(office)
    await settle(office, handed, End.REFUSED, retry_ms=0)
    assert len(await take(office)) == 1


async def test_two_deaths_of_the_agent_are_enough(office: Fleet) -> None:
    number = await send(office)
    for expected in (R.ROUTED, R.DEAD):
        (handed,) = await take(office)
        assert (await settle(office, handed, End.DIED, error="it ended", retry_ms=0)).rung is expected
    assert rung(office, number) is R.DEAD


@pytest.mark.parametrize("outcome", [End.BUSY, End.RETURNED])
async def test_being_busy_or_given_back_is_no_failure(office: Fleet, outcome: wire.Outcome) -> None:
    await send(office)
    for _ in range(3 * MOST_ATTEMPTS):
        (handed,) = await take(office, instance="s1", holding=frozenset())
        assert handed.attempt == 1
        assert (await settle(office, handed, outcome)).ok


async def test_a_late_confirmation_counts_as_long_as_nobody_else_was_handed_the_message(
    office: Fleet,
) -> None:
    number = await send(office)
    (handed,) = await take(office)
    await settle(office, handed, End.REFUSED)
    assert (await settle(office, handed)).rung is R.CONFIRMED
    assert deliveries.message_progress(office.store, number)[0].error is None


async def test_a_dead_message_that_is_confirmed_after_all_is_confirmed(office: Fleet) -> None:
    number = await send(office)
    for _ in range(2):
        (handed,) = await take(office)
        await settle(office, handed, End.DIED, retry_ms=0)
    assert (await settle(office, handed)).rung is R.CONFIRMED
    assert deliveries.dead_letters(office.store) == []
    assert messages.get_message(office.store, number).read_by == ["a1"]


async def test_a_dead_message_is_redelivered_from_the_first_attempt_on(office: Fleet, log: Log) -> None:
    number = await send(office)
    for _ in range(2):
        (handed,) = await take(office)
        await settle(office, handed, End.DIED, retry_ms=0)
    await office.deliveries["a1"].ask(deliveries.Redeliver(number))
    assert log.types()[-1] == "delivery.redelivered"
    assert (await settle(office, handed)).error == "stale"
    with pytest.raises(Conflict, match="not dead"):
        await office.deliveries["a1"].ask(deliveries.Redeliver(number))
    (again,) = await take(office)
    assert (again.message_id, again.attempt) == (number, 1)


# -- what others say, and time


async def test_a_read_mark_is_a_confirmation_and_needs_no_hand_over(office: Fleet) -> None:
    handed, polled = await send(office), await send(office)
    await take(office, limit=1)
    for number in (handed, polled):
        await office.post_office.ask(messages.MarkRead(number, "a1"))
    await office.system.idle()
    for number in (handed, polled):
        (found,) = deliveries.message_progress(office.store, number)
        assert (found.rung, found.evidence) == (R.CONFIRMED, "read")
        assert found.confirmed_at is not None
    assert (await send(office, "b1", "a1", reply_to=polled)) > polled
    assert rung(office, polled) is R.REPLIED


async def test_a_busy_agent_has_it_for_as_long_as_it_takes(office: Fleet) -> None:
    await office.agents["a1"].ask(agents.SetStatus(A.BUSY))
    await send(office)
    (handed,) = await take(office)
    for _ in range(20):
        await trio.sleep(VISIBLE)
        await office.agents["a1"].ask(agents.Heartbeat())
        assert await take(office) == []
    assert (await settle(office, handed)).ok


@pytest.mark.spec("M-I3", "M-I6")
@pytest.mark.parametrize("says_so", [False, True])
async def test_a_claim_lasts_as_long_as_the_hand_over_that_it_came_with(office: Fleet, says_so: bool) -> None:
    """Of a plain message and of a task, whether the taker says that it is busy or its session is heard of."""
    await register(office, "a2", tags=["t"])
    await send(office, "tag:t", claimable=True)
    await office.post_office.ask(tasks.Ingest("ci", wire.IntegrationEvent(title="broken", target="tag:t")))
    gone = await send(office, "tag:t", claimable=True)
    handed = await take(office, instance=None if says_so else "s1")
    await office.post_office.ask(messages.Delete(gone))
    until = office.system.now() + messages.CLAIM_TERM + 2 * VISIBLE
    while office.system.now() < until:
        await trio.sleep(VISIBLE / 2)
        if says_so:
            await settle(office, handed[0], End.BUSY)
            await settle(office, handed[1], End.BUSY)
        await office.agents["a1"].ask(agents.Heartbeat())
    assert await take(office, "a2") == []
    for number in (1, 2):
        assert messages.get_message(office.store, number).claimed_by == "a1"
    assert tasks.get_task(office.store, 1).claimed_by == "a1"
    assert (await settle(office, handed[0])).ok


async def test_a_session_that_is_heard_of_has_it_and_one_that_is_not_loses_it(office: Fleet) -> None:
    await send(office)
    (handed,) = await take(office, instance="s1")
    for _ in range(10):
        await trio.sleep(VISIBLE)
        await office.agents["a1"].ask(agents.Heartbeat(instance="s1"))
        assert await take(office, instance="s1") == []
    await trio.sleep(4 * VISIBLE)
    await office.agents["a1"].ask(agents.Heartbeat(instance="s1"))
    (again,) = await take(office, instance="s1")
    assert (again.token, again.attempt) == (2, 1)
    assert (await settle(office, handed)).error == "stale"


async def test_whoever_says_that_it_is_busy_has_another_minute_from_then_on(office: Fleet) -> None:
    await send(office)
    (handed,) = await take(office)
    for _ in range(5):
        await trio.sleep(VISIBLE - 1)
        assert (await settle(office, handed, End.BUSY)).ok
    assert await take(office) == []
    await trio.sleep(VISIBLE + 2)
    assert [again.token for again in await take(office)] == [2]


async def test_whoever_names_no_session_has_a_minute(office: Fleet) -> None:
    number = await send(office)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        (handed,) = await take(office)
        assert handed.attempt == attempt
        await trio.sleep(VISIBLE)
        await office.agents["a1"].ask(agents.Heartbeat())
        await trio.sleep(30)
    assert rung(office, number) is R.DEAD
    assert "60 s" in str(deliveries.dead_letters(office.store)[0].error)


async def test_a_new_session_is_handed_at_once_what_the_former_one_had(office: Fleet) -> None:
    await send(office)
    (handed,) = await take(office, instance="s1")
    await register(office, "a1", instance_id="s2")
    (again,) = await take(office, instance="s2")
    assert (again.token, again.attempt) == (2, 1)
    assert (await settle(office, handed)).error == "stale"


async def test_a_batch_that_never_arrived_is_handed_over_again(office: Fleet) -> None:
    sent = [await send(office) for _ in range(3)]
    await take(office, instance="s1")
    again = await take(office, instance="s1", holding=frozenset(sent[:1]))
    assert [each.message_id for each in again] == sent[1:]


async def test_a_deleted_message_is_gone_from_the_ladder(office: Fleet) -> None:
    number = await send(office)
    (handed,) = await take(office)
    await office.post_office.ask(messages.Delete(number))
    assert (await settle(office, handed)).error == "unknown"
    assert office.store.rows("select * from deliveries") == []
    with pytest.raises(NotFound):
        deliveries.message_progress(office.store, number)


async def test_nobody_keeps_looking_at_a_hand_over_whose_message_is_gone(office: Fleet) -> None:
    """If somebody did, without a pause, the clock of this test would never get on."""
    number = await send(office)
    await take(office)
    await office.post_office.ask(messages.Delete(number))
    await trio.sleep(2 * VISIBLE)
    assert rung(office, await send(office)) is R.ROUTED
    assert len(await take(office)) == 1


async def test_a_jump_of_the_wall_clock_ends_no_hand_over(system: System, office: Fleet) -> None:
    await send(office)
    (handed,) = await take(office)
    before = system.wall
    system.wall = lambda: before() + 86_400.0  # type: ignore[method-assign]
    await trio.sleep(VISIBLE / 2)
    assert await take(office) == []
    assert (await settle(office, handed)).ok


async def test_after_a_restart_a_hand_over_stands_and_what_was_evident_meanwhile_is_made_up(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        await register(fleet, "a1", instance_id="s1")
        numbers = [await send(fleet) for _ in range(3)]
        handed = await take(fleet, instance="s1")
    moment = round(system.wall() * 1000)
    mark = "insert into message_reads (agent_id, message_id, at) values ('a1', ?, ?)"
    store.stage((Write(mark, (numbers[1], moment)),), (), Owner(), lambda error: None)
    async with open_fleet(system, store) as fleet:
        await fleet.system.idle()
        assert [row for (row,) in store.rows("select rung from deliveries order by message_id")] == [
            "handed",
            "confirmed",
            "handed",
        ]
        assert await take(fleet, instance="s1", holding=frozenset(numbers)) == []
        assert (await settle(fleet, handed[0])).ok


async def test_recipients_of_a_shared_address_are_those_who_are_there(office: Fleet) -> None:
    await register(office, "a2", tags=["t"], capabilities=["c"], label="l")
    await register(office, "a3", tags=["t"])
    await office.agents["a3"].ask(agents.SetStatus(A.OFFLINE))

    async def who(to: str) -> list[str]:
        number = await send(office, to)
        return [each.agent_id for each in deliveries.message_progress(office.store, number)]

    assert await who("tag:t") == ["a1", "a2"]
    assert await who("cap:c") == await who("label:l") == ["a2"]
    assert await who("broadcast") == ["a1", "a2"]
    assert await who("user") == ["user"]
    assert await who("nobody") == await who("tag:none") == await who("policy:p") == []
    number = await send(office, "tag:t")
    progress = deliveries.message_progress(office.store, number)
    assert not deliveries.reached(progress, R.HANDED, one=True)
    await take(office, limit=100)
    progress = deliveries.message_progress(office.store, number)
    assert deliveries.reached(progress, R.HANDED, one=True)
    assert not deliveries.reached(progress, R.HANDED, one=False)
    assert deliveries.reached([], R.STORED, one=False)
    assert not deliveries.reached([], R.ROUTED, one=False)


async def test_a_long_history_is_not_looked_through_again(office: Fleet, log: Log) -> None:
    """Redelivered, released and relabelled: whatever opens again below is found all the same."""
    dead = await send(office)
    for _ in range(2):
        (handed,) = await take(office)
        await settle(office, handed, End.DIED, retry_ms=0)
    labelled = await send(office, "label:l")
    for _ in range(5):
        await send(office)
    for handed in await take(office):
        await settle(office, handed)
    assert await take(office) == []
    await office.deliveries["a1"].ask(deliveries.Redeliver(dead))
    assert [each.message_id for each in await take(office)] == [dead]
    await office.agents["a1"].ask(agents.SetLabel("l"))
    assert [each.message_id for each in await take(office)] == [labelled]


async def test_mail_that_is_released_late_is_found_below_what_came_since(office: Fleet) -> None:
    queued = await send(office, "policy:p")
    await send(office)
    (handed,) = await take(office)
    await settle(office, handed)
    assert await take(office) == []
    release = "update messages set delivery = 'available', resolved_to = 'a1' where id = ?"
    office.store.stage((Write(release, (queued,), 1),), (), Owner(), lambda error: None)
    await office.system.idle()
    await trio.sleep(1)
    assert [each.message_id for each in await take(office)] == [queued]
