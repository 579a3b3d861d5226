"""Messages: sending, finding, claims, read marks."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock

from relay import wire
from relay.actors import System, open_system, virtual_wall
from relay.fleet import (
    Conflict,
    Fleet,
    Forbidden,
    Invalid,
    NotFound,
    Unprocessable,
    agents,
    deliveries,
    maintenance,
    messages,
    open_fleet,
)
from relay.fleet._mailboxes import POLL, POLL_UNREAD
from relay.store import Store, open_store

A = wire.AgentStatus
K = wire.MessageKind


async def register(fleet: Fleet, name: str, **card: Any) -> None:
    await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name, **card)))


async def send(fleet: Fleet, to: str | None = "a2", from_: str = "a1", **rest: Any) -> wire.Message:
    asked = wire.SendMessage(**{"body": "x", **rest}, from_=from_, to=to)
    return (await fleet.post_office.ask(messages.Send(asked))).message


async def claim(fleet: Fleet, number: int, agent: str) -> wire.Claim:
    return await fleet.post_office.ask(messages.Claim(number, agent))


async def renew(fleet: Fleet, number: int, agent: str) -> wire.Claim:
    return await fleet.post_office.ask(messages.Renew(number, agent))


async def mark_read(fleet: Fleet, number: int, agent: str) -> None:
    await fleet.post_office.ask(messages.MarkRead(number, agent))


def inbox(fleet: Fleet, name: str, **query: Any) -> list[int]:
    return [found.id for found in messages.list_messages(fleet.store, for_=name, **query)]


@pytest.fixture
async def pair(fleet: Fleet) -> Fleet:
    """Two agents, a1 and a2, both with tag t, capability c and label l."""
    for name in ("a1", "a2"):
        await register(fleet, name, tags=["t"], capabilities=["c"], label="l")
    return fleet


# -- sending


@pytest.mark.spec("M-050", "MSG-12", "M-I2", "M-I46")
async def test_a_message_is_stored_announced_and_audited(pair: Fleet, log: Log) -> None:
    message = await send(pair, subject="s", payload={"k": 1})
    assert (message.id, message.thread_id, message.kind) == (1, 1, K.CHAT)
    assert message.delivery_status is wire.DeliveryStatus.AVAILABLE
    assert messages.get_message(pair.store, 1) == message
    (event,) = log.events("message.new")
    assert (event["source"], event["subject"]) == ("a1", "1")
    assert event["data"] == wire.to_json(message)
    (record,) = log.audits("server-message-")
    assert (record["clientId"], record["kind"], record["messageId"]) == ("server-message-1", "message", 1)
    assert (await send(pair)).id == 2


@pytest.mark.parametrize(
    ("body", "kind", "word"),
    [({"kind": K.TASK}, "task", "work"), ({"reply_to": 1}, "reply", "reply"), ({}, "message", "message")],
)
async def test_the_audit_says_what_it_is(
    pair: Fleet, log: Log, body: dict[str, Any], kind: str, word: str
) -> None:
    await send(pair)
    await send(pair, **body)
    record = log.audits("server-message-2")[0]
    assert record["kind"] == kind
    assert record["title"].startswith(word)


@pytest.mark.spec("M-051", "MSG-10", "M-I28", "M-I29")
async def test_an_offline_target_refuses_and_nothing_happens(pair: Fleet, log: Log) -> None:
    await pair.agents["a2"].ask(agents.SetStatus(A.OFFLINE))
    before = log.events()
    with pytest.raises(Unprocessable, match="a2"):
        await send(pair)
    assert log.events() == before
    assert messages.latest_id(pair.store) == 0


@pytest.mark.spec("M-052", "M-053", "M-055", "MSG-2", "MSG-10", "MSG-17", "W-33")
async def test_whom_the_offline_rule_does_not_concern(pair: Fleet) -> None:
    await pair.agents["a2"].ask(agents.SetStatus(A.OFFLINE))
    for kind in (K.SYSTEM, K.CONTROL, K.SESSION):
        assert (await send(pair, kind=kind)).kind is kind
    assert (await send(pair, "ghost")).to == "ghost"
    await pair.agents["a2"].ask(agents.SetStatus(A.STALE))
    assert (await send(pair)).to == "a2"


@pytest.mark.spec("M-054", "MSG-11", "W-35")
@pytest.mark.parametrize("to", ["tag:t", "label:l", "cap:c", "broadcast"])
async def test_fan_out_reaches_an_offline_member_later(pair: Fleet, to: str) -> None:
    await pair.agents["a2"].ask(agents.SetStatus(A.OFFLINE))
    message = await send(pair, to)
    assert inbox(pair, "a2") == [message.id]


@pytest.mark.spec("M-I28")
async def test_a_message_stays_when_its_target_goes_offline_afterwards(pair: Fleet) -> None:
    message = await send(pair)
    await pair.agents["a2"].ask(agents.SetStatus(A.OFFLINE))
    assert inbox(pair, "a2") == [message.id]


@pytest.mark.spec("M-056", "M-059", "MSG-7", "O-14")
@pytest.mark.parametrize("body", [{"to": None}, {"to": None, "reply_to": 99}, {"to": "pool:p"}])
async def test_a_message_without_an_address_is_refused(pair: Fleet, log: Log, body: dict[str, Any]) -> None:
    before = log.events()
    with pytest.raises(Invalid):
        await send(pair, **body)
    assert log.events() == before


@pytest.mark.spec("M-057", "MSG-5", "MSG-24")
async def test_a_reply_goes_to_the_sender_in_its_thread_and_channel(pair: Fleet) -> None:
    first = await send(pair, channel="ch")
    reply = await send(pair, None, "a2", reply_to=first.id)
    assert (reply.to, reply.thread_id, reply.channel, reply.reply_to) == ("a1", first.id, "ch", first.id)
    again = await send(pair, None, "a1", reply_to=reply.id, channel="own")
    assert (again.to, again.thread_id, again.channel) == ("a2", first.id, "own")
    await send(pair)
    assert [m.id for m in messages.thread(pair.store, again.id)] == [first.id, reply.id, again.id]
    with pytest.raises(NotFound):
        messages.thread(pair.store, 99)


@pytest.mark.spec("MSG-6")
async def test_an_address_beside_a_reply_wins(pair: Fleet) -> None:
    first = await send(pair, channel="ch")
    reply = await send(pair, "broadcast", "a2", reply_to=first.id)
    assert (reply.to, reply.thread_id, reply.channel) == ("broadcast", first.id, None)
    assert (await send(pair, reply_to=99)).thread_id == 3


@pytest.mark.spec("M-058")
async def test_a_reply_to_a_sender_who_has_gone_is_refused(pair: Fleet) -> None:
    first = await send(pair)
    await pair.agents["a1"].ask(agents.SetStatus(A.OFFLINE))
    with pytest.raises(Unprocessable):
        await send(pair, None, "a2", reply_to=first.id)


@pytest.mark.spec("MSG-19", "MSG-32", "MSG-33")
async def test_a_message_to_a_policy_waits_and_matches_nobody(pair: Fleet, log: Log) -> None:
    message = await send(pair, "policy:p")
    assert message.delivery_status is wire.DeliveryStatus.QUEUED
    assert [event["type"] for event in log.events("message.new", "message.queued")] == ["message.queued"]
    assert inbox(pair, "a2") == []
    status = messages.delivery(pair.store, message.id)
    assert (status.queued_at, status.available_at) == (message.created_at, None)


# -- idempotency


@pytest.mark.spec("M-060", "MSG-13", "MSG-14")
async def test_a_key_names_one_message_of_one_sender(pair: Fleet, log: Log) -> None:
    first = await send(pair, idempotency_key="k")
    assert await send(pair, idempotency_key="k", body="other") == first
    asked = wire.SendMessage(from_="a1", to="a2", body="x", idempotency_key="k")
    assert (await pair.post_office.ask(messages.Send(asked))).new is False
    assert len(log.events("message.new")) == len(log.audits("server-message-")) == 1
    assert (await send(pair, from_="a2", idempotency_key="k")).id != first.id


@pytest.mark.spec("M-061", "M-I1")
async def test_fifty_sends_with_one_key_at_once_are_one_message(pair: Fleet, log: Log) -> None:
    ids: list[int] = []

    async def one(number: int) -> None:
        ids.append((await send(pair, idempotency_key="k", body=str(number))).id)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, number)
    assert ids == [1] * 50
    assert len(log.events("message.new")) == len(log.audits("server-message-")) == 1


@pytest.mark.spec("M-I1", "M-I2")
async def test_a_key_is_known_however_long_ago_and_after_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        first = await send(fleet, idempotency_key="k")
        for _ in range(3 * 256):
            await send(fleet)
        assert await send(fleet, idempotency_key="k") == first
        assert (await send(fleet, None, "a2", reply_to=first.id)).to == "a1"
    async with open_fleet(system, store) as fleet:
        assert await send(fleet, idempotency_key="k") == first
        assert (await send(fleet)).id == messages.latest_id(store) == 3 * 256 + 3


async def test_a_key_is_free_again_when_its_message_was_deleted(pair: Fleet) -> None:
    first = await send(pair, idempotency_key="k")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.post_office.ask, messages.Delete(first.id))
        nursery.start_soon(send, pair)
    assert (await send(pair, idempotency_key="k")).id > first.id


# -- finding


@pytest.mark.spec("M-070", "MSG-22", "MSG-23")
async def test_the_cursor_is_the_newest_id(pair: Fleet) -> None:
    assert messages.latest_id(pair.store) == 0
    third = [await send(pair) for _ in range(3)][-1]
    assert messages.latest_id(pair.store) == third.id
    with pytest.raises(NotFound):
        messages.get_message(pair.store, 99)


@pytest.mark.spec("MSG-18", "MSG-21", "O-17")
async def test_a_poll_finds_what_reaches_the_agent_as_it_is_now(pair: Fleet) -> None:
    targets = ["a1", "a2", "broadcast", "tag:t", "tag:", "tag:u", "cap:c", "label:l", "label:m", "a3"]
    sent = {to: (await send(pair, to, "a9")).id for to in targets}
    await send(pair, "broadcast", "a2")
    reached = [sent[to] for to in ("a2", "broadcast", "tag:t", "cap:c", "label:l")]
    assert inbox(pair, "a2") == reached
    assert inbox(pair, "a2", since=reached[1]) == reached[2:]
    assert inbox(pair, "a2", limit=2) == reached[:2]
    assert inbox(pair, "nobody") == []
    await pair.agents["a2"].ask(agents.SetTags(["u"]))
    await pair.agents["a2"].ask(agents.SetLabel(None))
    assert inbox(pair, "a2") == [sent[to] for to in ("a2", "broadcast", "tag:u", "cap:c")]
    newest = messages.list_messages(pair.store, limit=2)
    assert [found.id for found in newest] == [len(targets) + 1, len(targets)]


@pytest.mark.parametrize("sql", [POLL, POLL_UNREAD])
@pytest.mark.parametrize("column", ["address", "resolved_to"])
async def test_a_poll_reads_by_an_index(store: Store, sql: str, column: str) -> None:
    query = f"explain query plan {sql.format(column=column)}"
    plan = [str(row[-1]) for row in store.rows(query, "a2", 0, "a2", 100)]
    assert f"USING INDEX messages_by_{column.removesuffix('_to')}" in plan[0]
    assert not any(step.startswith("SCAN") for step in plan)


CARDS = st.fixed_dictionaries(
    {
        "tags": st.lists(st.sampled_from("xy"), unique=True),
        "capabilities": st.lists(st.sampled_from("xy"), unique=True),
        "label": st.sampled_from([None, "x", "y"]),
    }
)
ADDRESSES = st.sampled_from(
    ["a1", "a2", "broadcast", *(f"{kind}:{name}" for kind in ("tag", "cap", "label") for name in "xy")]
)


@pytest.mark.spec("M-I43", "MSG-20", "MSG-21")
@given(
    card=CARDS,
    sent=st.lists(st.tuples(ADDRESSES, st.sampled_from(["a1", "a2"])), max_size=30),
    size=st.integers(1, 7),
)
@settings(max_examples=40, deadline=None)
def test_polls_by_the_cursor_find_each_matching_message_once(card: Any, sent: Any, size: int) -> None:
    async def scenario() -> None:
        async with open_system(wall=virtual_wall(), seed=1) as system, open_store(None, system) as store:
            async with open_fleet(system, store) as fleet:
                await register(fleet, "a1", **card)
                agent = agents.get_agent(store, "a1")
                made = [await send(fleet, to, from_) for to, from_ in sent]
                found: list[int] = []
                while page := inbox(fleet, "a1", since=found[-1] if found else 0, limit=size):
                    found += page
                assert found == [m.id for m in made if messages.matches(m, agent) and m.from_ != "a1"]
                assert found == inbox(fleet, "a1", unread=True, limit=500)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


@pytest.mark.spec("MSG-21")
@pytest.mark.parametrize("name", ["user", "system"])
async def test_a_reserved_participant_needs_no_card_to_get_mail(pair: Fleet, name: str) -> None:
    direct = await send(pair, name)
    to_all = await send(pair, "broadcast")
    await send(pair, "a2", name)
    assert inbox(pair, name) == [direct.id, to_all.id]
    await mark_read(pair, direct.id, name)
    assert inbox(pair, name, unread=True) == [to_all.id]
    work = await send(pair, name, claimable=True)
    assert (await claim(pair, work.id, name)).ok


@pytest.mark.spec("SSE-3")
async def test_the_stream_of_a_reserved_participant_carries_its_mail(pair: Fleet) -> None:
    concerns = pair.matcher("user")
    before = pair.store.events.last_id
    number = (await send(pair, "user")).id
    await send(pair, "a2")
    await pair.agents["user"].ask(agents.Register(wire.RegisterAgent(id="user", label="ann")))
    labelled = (await send(pair, "label:ann")).id
    await pair.agents["user"].ask(agents.Remove())
    await send(pair, "label:ann")
    last = (await send(pair, "user")).id
    heard = [
        event.subject
        for event in await pair.store.events.read_after(before, 100)
        if concerns(event) and event.type == "message.new"
    ]
    assert heard == [str(number), str(labelled), str(last)]


# -- read marks and deletion


@pytest.mark.spec("M-082", "MSG-25", "MSG-35", "M-I42")
async def test_a_read_mark_is_kept_and_told_once(pair: Fleet, log: Log) -> None:
    first, second = await send(pair), await send(pair)
    for _ in range(2):
        await mark_read(pair, first.id, "a2")
    assert messages.get_message(pair.store, first.id).read_by == ["a2"]
    assert messages.delivery(pair.store, first.id).read_by == ["a2"]
    assert inbox(pair, "a2", unread=True) == [second.id]
    assert inbox(pair, "a2") == [first.id, second.id]
    (event,) = log.events("message.read")
    assert (event["source"], event["data"]) == ("a2", {"messageId": first.id, "agentId": "a2"})
    await mark_read(pair, first.id, "user")
    assert messages.get_message(pair.store, first.id).read_by == ["a2", "user"]
    with pytest.raises(NotFound):
        await mark_read(pair, 99, "a2")


@pytest.mark.spec("M-069", "MSG-26")
async def test_a_deleted_message_is_gone_with_its_marks(pair: Fleet, log: Log) -> None:
    message = await send(pair, "tag:t", "user", claimable=True)
    await mark_read(pair, message.id, "a2")
    await claim(pair, message.id, "a2")
    await pair.post_office.ask(messages.Delete(message.id))
    (event,) = log.events("message.deleted")
    assert (event["source"], event["subject"]) == ("server", str(message.id))
    assert event["data"] == {"messageId": message.id}
    for read in (messages.get_message, messages.delivery, messages.thread):
        with pytest.raises(NotFound):
            read(pair.store, message.id)
    for asked in (messages.Delete(message.id), messages.MarkRead(message.id, "a2"), messages.Claim(1, "a2")):
        with pytest.raises(NotFound):
            await pair.post_office.ask(asked)  # type: ignore[misc]
    assert (await send(pair)).id > message.id


KEPT = {"activity", "tasks"}
"""Tables that outlive the messages they name."""


@pytest.mark.spec("M-069", "MSG-26")
async def test_nothing_of_a_deleted_message_is_left(pair: Fleet) -> None:
    message = await send(pair, "tag:t", "user", claimable=True)
    reaction = wire.React(agent_id="a1", emoji="+")
    await pair.post_office.ask(messages.React(message.id, reaction))
    await pair.deliveries["a2"].ask(deliveries.Take())
    await mark_read(pair, message.id, "a1")
    names = "select m.name from sqlite_master m join pragma_table_info(m.name) c where c.name = 'message_id'"
    tables = {name for (name,) in pair.store.rows(names)} - KEPT
    assert tables >= {"message_reads", "message_claims", "message_reactions", "deliveries"}
    for table in tables:
        assert pair.store.rows(f"select message_id from {table}") == [(message.id,)], table
    await pair.post_office.ask(messages.Delete(message.id))
    await pair.system.idle()
    assert [table for table in tables if pair.store.rows(f"select 1 from {table}")] == []


# -- claims


@pytest.fixture
async def work(pair: Fleet) -> wire.Message:
    """A claimable message that both agents can see."""
    return await send(pair, "tag:t", "user", claimable=True)


@pytest.mark.spec("M-065", "MSG-27", "M-I3")
async def test_of_two_claims_at_once_one_wins(pair: Fleet, work: wire.Message, log: Log) -> None:
    won: list[str] = []
    lost: list[str] = []

    async def compete(name: str) -> None:
        try:
            granted = await claim(pair, work.id, name)
            assert granted.ok
            assert granted.claim_expires_at is not None
            assert granted.claim_expires_at > pair.system.wall()
            won.append(name)
        except Conflict:
            lost.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("a1", "a2") * 5:
            nursery.start_soon(compete, name)
    assert len(set(won)) == 1
    assert not set(won) & set(lost)
    (event,) = log.events("message.claimed")
    assert event["data"]["agentId"] == won[0]
    assert messages.get_message(pair.store, work.id).claimed_by == won[0]


@pytest.mark.spec("M-066", "MSG-28", "M-I4")
async def test_only_the_holder_renews_and_a_renewal_never_shortens(
    pair: Fleet, work: wire.Message, log: Log
) -> None:
    with pytest.raises(Conflict):
        await renew(pair, work.id, "a1")
    first = await claim(pair, work.id, "a1")
    await trio.sleep(300)
    second = await renew(pair, work.id, "a1")
    third = await claim(pair, work.id, "a1")
    assert first.claim_expires_at is not None
    assert second.claim_expires_at is not None
    assert third.claim_expires_at is not None
    assert second.claim_expires_at == pytest.approx(first.claim_expires_at + 300, abs=0.01)
    assert third.claim_expires_at >= second.claim_expires_at
    with pytest.raises(Conflict):
        await renew(pair, work.id, "a2")
    assert len(log.events("message.claimed")) == 1


@pytest.mark.spec("M-I3", "M-I5", "O-19")
async def test_an_expired_claim_gives_way(pair: Fleet, work: wire.Message, log: Log) -> None:
    await claim(pair, work.id, "a1")
    await trio.sleep(messages.CLAIM_TERM - 1)
    with pytest.raises(Conflict, match="a1"):
        await claim(pair, work.id, "a2")
    await trio.sleep(2)
    await renew(pair, work.id, "a1")
    await trio.sleep(messages.CLAIM_TERM + 1)
    await claim(pair, work.id, "a2")
    with pytest.raises(Conflict):
        await renew(pair, work.id, "a1")
    assert [event["source"] for event in log.events("message.claimed")] == ["a1", "a2"]


@pytest.mark.spec("M-067", "M-I5", "MSG-29")
async def test_a_claim_that_is_over_is_released_once(pair: Fleet, work: wire.Message, log: Log) -> None:
    async def reap() -> tuple[int, ...]:
        return (await pair.maintenance.ask(maintenance.Reap())).released_message_ids

    await claim(pair, work.id, "a1")
    await trio.sleep(messages.CLAIM_TERM - 1)
    assert await reap() == ()
    await trio.sleep(2)
    assert await reap() == (work.id,)
    assert await reap() == ()
    (event,) = log.events("message.claim.released")
    assert (event["source"], event["subject"]) == ("server", str(work.id))
    assert event["data"] == {"messageId": work.id}
    assert messages.get_message(pair.store, work.id).claimed_by is None
    with pytest.raises(Conflict):
        await renew(pair, work.id, "a1")


@pytest.mark.spec("M-068", "MSG-29b", "O-19")
async def test_claims_that_make_no_sense_are_refused(pair: Fleet, work: wire.Message) -> None:
    plain = await send(pair)
    with pytest.raises(Conflict):
        await claim(pair, plain.id, "a2")
    foreign = await send(pair, "a2", "user", claimable=True)
    with pytest.raises(Forbidden):
        await claim(pair, foreign.id, "a1")
    with pytest.raises(Forbidden):
        await claim(pair, work.id, "nobody")
    with pytest.raises(NotFound):
        await claim(pair, 99, "a1")


@pytest.mark.spec("M-I3")
async def test_a_claim_is_held_over_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        for name in ("a1", "a2"):
            await register(fleet, name)
        number = (await send(fleet, "broadcast", "user", claimable=True)).id
        await claim(fleet, number, "a1")
    async with open_fleet(system, store) as fleet:
        with pytest.raises(Conflict):
            await claim(fleet, number, "a2")
        await renew(fleet, number, "a1")


STEPS = st.lists(
    st.tuples(st.sampled_from(["claim", "renew", "wait"]), st.sampled_from(["a1", "a2", "a3"])), max_size=25
)


@pytest.mark.spec("M-I3", "M-I4")
@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_a_message_has_at_most_one_holder(steps: Any) -> None:
    async def scenario() -> None:
        async with open_system(wall=virtual_wall(), seed=1) as system, open_store(None, system) as store:
            async with open_fleet(system, store) as fleet:
                for name in ("a1", "a2", "a3"):
                    await register(fleet, name)
                number = (await send(fleet, "broadcast", "user", claimable=True)).id
                holder, until = "", 0.0
                for verb, name in steps:
                    if system.wall() >= until:
                        holder = ""  # maintenance has released it: more than one run's time has passed since
                    free = verb == "claim" and not holder
                    if verb == "wait":
                        await trio.sleep(400)
                    elif name == holder or free:
                        claimed = await (claim if verb == "claim" else renew)(fleet, number, name)
                        assert claimed.claim_expires_at is not None
                        assert claimed.claim_expires_at > until
                        holder, until = name, claimed.claim_expires_at
                    else:
                        with pytest.raises(Conflict):
                            await (claim if verb == "claim" else renew)(fleet, number, name)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))
