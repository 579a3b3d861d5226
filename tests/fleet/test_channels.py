"""Channels: bindings, inbound events, slots of pools, targets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, System
from relay.fleet import (
    Conflict,
    Fleet,
    Invalid,
    NotFound,
    Unprocessable,
    agents,
    channels,
    maintenance,
    messages,
    open_fleet,
)
from relay.store import Owner, Store, Write

S = wire.AgentStatus
BROADCAST = wire.BindingMode.BROADCAST


async def register(fleet: Fleet, name: str, **card: Any) -> None:
    await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name, **card)))


async def become(fleet: Fleet, name: str, status: S) -> None:
    await fleet.agents[name].ask(agents.SetStatus(status))


async def bind(fleet: Fleet, target: str, channel: str = "c", *, beside: bool = False) -> wire.Binding:
    asked = wire.NewBinding(
        channel_id=channel,
        target=wire.target_at(target),
        mode=BROADCAST if beside else wire.BindingMode.EXCLUSIVE,
    )
    return (await fleet.switchboard.ask(channels.Bind(asked))).binding


async def happen(fleet: Fleet, key: str | None = None, channel: str = "c", **event: Any) -> wire.FannedOut:
    asked = wire.ChannelEvent(**{"body": "x", **event}, idempotency_key=key)
    return await fleet.switchboard.ask(channels.Inbound(channel, asked))


async def resolve(fleet: Fleet, channel: str = "c") -> channels.Resolved:
    return await fleet.switchboard.ask(channels.ResolveTarget(channel))


def holders(fleet: Fleet) -> list[str | None]:
    return [binding.pool_agent_id for binding in channels.list_bindings(fleet.store)]


async def held(fleet: Fleet, expected: list[str | None]) -> None:
    """The slots will be held by these; nobody asks for it."""
    with trio.fail_after(5):
        while holders(fleet) != expected:
            await trio.sleep(0.01)


def moves(log: Log) -> list[tuple[str | None, str | None]]:
    told = [event["data"] for event in log.events("pool.binding.changed")]
    return [(each["previousAgentId"], each["newAgentId"]) for each in told]


@pytest.fixture
async def line(fleet: Fleet) -> Fleet:
    """Channel c, and agents a1 and a2 who are in pool p."""
    await register(fleet, "c", kind=wire.AgentKind.CHANNEL, label="the line")
    for name in ("a1", "a2"):
        await register(fleet, name, tags=["p"], status=S.IDLE)
    return fleet


# -- channels


@pytest.mark.spec("CHN-1", "CHN-2")
@pytest.mark.parametrize(
    ("card", "known"),
    [
        ({"kind": wire.AgentKind.CHANNEL}, True),
        ({"meta": {"kind": "channel"}}, True),
        ({"tags": ["channel"]}, True),
        ({"meta": {"note": "channel"}, "label": "channel"}, False),
        ({"meta": {"kind": "channels"}}, False),
    ],
)
async def test_a_channel_is_an_agent_that_says_so(fleet: Fleet, card: dict[str, Any], known: bool) -> None:
    await register(fleet, "x", **card)
    found = channels.list_channels(fleet.store)
    assert [(each.id, each.agent_id, each.directions) for each in found] == [
        ("x", "x", ["in", "out"]),
    ] * known
    assert (channels.find_channel(fleet.store, "x") is not None) == known


@pytest.mark.spec("CHN-1")
async def test_what_a_card_says_of_its_channel(fleet: Fleet) -> None:
    meta = {"channelId": " ops ", "directions": ["out", "sideways"]}
    await register(fleet, "bot", kind=wire.AgentKind.CHANNEL, label="Ops", meta=meta)
    (channel,) = channels.list_channels(fleet.store)
    assert (channel.id, channel.agent_id, channel.label) == ("ops", "bot", "Ops")
    assert channel.directions == ["out"]
    assert channels.get_channel(fleet.store, "ops") == channel
    with pytest.raises(NotFound):
        channels.get_channel(fleet.store, "bot")


async def test_of_several_that_claim_an_id_the_agent_of_that_id_is_the_channel(fleet: Fleet) -> None:
    for name in ("b", "a"):
        await register(fleet, name, kind=wire.AgentKind.CHANNEL, meta={"channelId": "ops"})
    assert channels.get_channel(fleet.store, "ops").agent_id == "a"
    await register(fleet, "ops", tags=["channel"])
    assert channels.get_channel(fleet.store, "ops").agent_id == "ops"
    assert [each.agent_id for each in channels.list_channels(fleet.store)] == ["ops"]


async def test_an_id_that_no_message_can_carry_makes_no_channel(fleet: Fleet) -> None:
    for length in (120, 121):
        await register(fleet, "x" * length, kind=wire.AgentKind.CHANNEL)
    assert [len(each.id) for each in channels.list_channels(fleet.store)] == [120]


async def test_channels_are_found_by_an_index(line: Fleet) -> None:
    plan = line.store.rows(f"explain query plan {channels_query()}")
    assert "agents_named_channel" in str(plan)


def channels_query() -> str:
    from relay.fleet._channel_cards import CLAIMS_TO_BE_ONE

    return CLAIMS_TO_BE_ONE


# -- bindings


@pytest.mark.spec("CHN-5", "CHN-7", "O-30")
async def test_an_exclusive_binding_replaces_all_and_a_broadcast_one_the_exclusive_one(line: Fleet) -> None:
    def bound() -> list[str]:
        return [each.target.address for each in channels.get_channel(line.store, "c").bindings]

    await bind(line, "a1")
    assert bound() == ["a1"]
    await bind(line, "a2")
    assert bound() == ["a2"]
    await bind(line, "tag:t", beside=True)
    await bind(line, "label:l", beside=True)
    assert bound() == ["tag:t", "label:l"]
    await register(line, "d", kind=wire.AgentKind.CHANNEL)
    await bind(line, "a1", "d")
    await bind(line, "broadcast")
    assert bound() == ["broadcast"]
    assert [each.target.address for each in channels.list_bindings(line.store)] == ["a1", "broadcast"]


@pytest.mark.spec("CHN-7", "O-07")
async def test_the_same_binding_again_is_the_one_there_is(line: Fleet, log: Log) -> None:
    for beside in (False, True):
        first = await bind(line, "pool:p", beside=beside)
        before = log.events()
        assert await bind(line, "pool:p", beside=beside) == first
        assert log.events() == before
    again = wire.NewBinding(channel_id="c", target=wire.target_at("pool:p"), mode=BROADCAST)
    assert not (await line.switchboard.ask(channels.Bind(again))).new


@pytest.mark.spec("M-106", "CHN-6", "M-I29")
@pytest.mark.parametrize(
    "members",
    [
        {},
        {"target": wire.target_at("tag:")},
        {"target": wire.target_at("pool: ")},
        {"target_type": wire.TargetType.AGENT},
        {"target_type": wire.TargetType.POLICY, "target_id": "x" * 234},
    ],
)
async def test_a_binding_without_a_target_is_refused(line: Fleet, log: Log, members: dict[str, Any]) -> None:
    before = log.events()
    with pytest.raises(Invalid, match="target"):
        await line.switchboard.ask(channels.Bind(wire.NewBinding(channel_id="c", **members)))
    assert channels.list_bindings(line.store) == []
    assert log.events() == before


@pytest.mark.spec("CHN-6")
async def test_a_target_is_given_in_three_ways(line: Fleet) -> None:
    kind, key = wire.TargetType.CAPABILITY, "x" * 236
    for members in (
        {"target_type": kind, "target_id": key},
        {"target": wire.BindingTarget(type=kind, id=key)},
        {"target": wire.target_at(f"cap:{key}")},
    ):
        bound = await line.switchboard.ask(channels.Bind(wire.NewBinding(channel_id="c", **members)))
        assert bound.binding.target == wire.BindingTarget(type=kind, id=key)
    assert len(channels.list_bindings(line.store)) == 1
    (sent,) = (await happen(line)).messages
    assert messages.get_message(line.store, sent.id).to == f"cap:{key}"


async def test_bindings_need_a_channel_and_have_an_end(line: Fleet) -> None:
    with pytest.raises(NotFound):
        await bind(line, "a2", "a1")
    for number in range(channels.MOST_BINDINGS):
        await bind(line, f"tag:t{number}", beside=True)
    with pytest.raises(Conflict, match="at most 100"):
        await bind(line, "tag:more", beside=True)
    await bind(line, "tag:only")
    assert len(channels.list_bindings(line.store)) == 1


async def test_a_binding_is_deleted_once(line: Fleet) -> None:
    binding = await bind(line, "a1")
    await line.switchboard.ask(channels.Unbind(binding.id))
    assert channels.list_bindings(line.store) == []
    with pytest.raises(NotFound):
        await line.switchboard.ask(channels.Unbind(binding.id))


# -- events


@pytest.mark.spec("M-100", "CHN-10", "CHN-11", "M-I29")
async def test_an_event_of_a_channel_without_bindings_is_refused(line: Fleet, log: Log) -> None:
    before = log.events()
    with pytest.raises(Conflict):
        await happen(line)
    with pytest.raises(NotFound):
        await happen(line, channel="a1")
    assert log.events() == before


@pytest.mark.spec("M-101", "CHN-12", "CHN-14", "CHN-15", "M-I36", "O-31")
async def test_an_event_becomes_one_message_per_binding_once(line: Fleet, log: Log) -> None:
    one = await bind(line, "a1", beside=True)
    other = await bind(line, "tag:t", beside=True)
    answer = await happen(line, "k", payload={"n": 1}, subject="s")
    assert answer.created == 2
    assert [(each.from_, each.to, each.channel, each.claimable) for each in answer.messages] == [
        ("c", "a1", "c", False),
        ("c", "tag:t", "c", False),
    ]
    assert {each.kind for each in answer.messages} == {wire.MessageKind.CHANNEL_EVENT}
    assert [(each.subject, each.body, each.payload) for each in answer.messages] == [("s", "x", {"n": 1})] * 2
    assert [each.idempotency_key for each in answer.messages] == [f"k:{one.id}", f"k:{other.id}"]
    assert [event["data"]["to"] for event in log.events("message.new")] == ["a1", "tag:t"]
    before = log.events()
    again = await happen(line, "k", body="another")
    assert (again.created, [each.id for each in again.messages]) == (0, [1, 2])
    assert log.events() == before
    assert (await happen(line)).created == 2


@pytest.mark.spec("CHN-3", "CHN-15")
async def test_every_event_is_one_activity_record(line: Fleet, log: Log) -> None:
    await bind(line, "a1")
    await happen(line, "k", body="y" * 5_000)
    (told,) = log.events("channel.activity")
    (record,) = log.audits("server-channel-event-")
    assert (told["source"], told["subject"], told["data"]) == ("server", None, record)
    assert (record["agentId"], record["messageId"], record["metadata"]["channelId"]) == ("c", 1, "c")
    assert len(record["body"]) == 4_000
    assert log.types()[-2:] == ["message.new", "channel.activity"]
    await bind(line, "a2", beside=True)
    assert (await happen(line, "k")).created == 1
    assert len(log.events("channel.activity")) == 2


@pytest.mark.spec("CHN-3", "ACT-4", "O-54")
async def test_a_note_that_cannot_be_written_is_no_failure_of_the_event(line: Fleet, log: Log) -> None:
    await bind(line, "a1")
    await alter(
        line.store,
        "create trigger full before insert on activity when new.client_id like 'server-channel-event-%'"
        " begin select raise(abort, 'full'); end",
    )
    sent = await happen(line, "k")
    assert sent.created == 1
    assert log.events("channel.activity") == []
    await alter(line.store, "drop trigger full")
    assert (await happen(line, "k")).messages == sent.messages
    assert [event["data"]["messageId"] for event in log.events("channel.activity")] == [1]
    assert len(line.system.failures) == 1
    line.system.failures.clear()


async def alter(store: Store, sql: str) -> None:
    done = trio.Event()
    store.stage((Write(sql),), (), Owner(), lambda error: done.set())
    await done.wait()


@pytest.mark.spec("M-102", "M-104", "M-108", "CHN-9", "H-04")
@pytest.mark.parametrize("dead_end", ["pool:nobody", "orchestrator:h1"])
async def test_an_event_that_cannot_reach_one_binding_reaches_none(
    line: Fleet, log: Log, dead_end: str
) -> None:
    await bind(line, "a1", beside=True)
    await bind(line, dead_end, beside=True)
    before = log.events()
    with pytest.raises(Invalid, match=dead_end):
        await happen(line, "k")
    assert messages.latest_id(line.store) == 0
    assert log.events() == before


@pytest.mark.spec("M-103", "22.6")
async def test_an_event_goes_to_the_holder_of_the_slot(line: Fleet) -> None:
    await bind(line, "pool:p")
    assert [each.to for each in (await happen(line)).messages] == ["a1"]


@pytest.mark.spec("M-105", "CHN-14", "MSG-45", "O-21")
async def test_an_event_for_a_policy_without_an_agent_is_queued(line: Fleet, log: Log) -> None:
    await bind(line, "policy:P")
    (sent,) = (await happen(line)).messages
    assert (sent.to, sent.delivery_status) == ("policy:P", wire.DeliveryStatus.QUEUED)
    assert [event["type"] for event in log.events() if event["type"].startswith("message.")] == [
        "message.queued"
    ]


@pytest.mark.spec("CHN-13")
async def test_an_event_is_kept_for_an_agent_that_is_offline(line: Fleet) -> None:
    await become(line, "a1", S.OFFLINE)
    await bind(line, "a1")
    assert (await happen(line)).created == 1


@pytest.mark.spec("M-I36")
async def test_a_repeat_is_answered_as_before_wherever_the_slot_went(line: Fleet) -> None:
    await bind(line, "pool:p")
    first = await happen(line, "k")
    await become(line, "a1", S.OFFLINE)
    assert [each.id for each in (await happen(line, "k")).messages] == [first.messages[0].id]
    await become(line, "a2", S.OFFLINE)
    assert (await happen(line, "k")).messages == first.messages
    with pytest.raises(Invalid):
        await happen(line, "l")


async def test_a_key_that_leaves_no_room_for_the_binding_is_refused(line: Fleet) -> None:
    binding = await bind(line, "a1")
    most = 240 - 1 - len(binding.id)
    assert (await happen(line, "k" * most)).created == 1
    with pytest.raises(Invalid, match=f"longer than {most} characters"):
        await happen(line, "k" * (most + 1))


# -- mail for a channel


@pytest.mark.spec("4.2")
async def test_mail_for_a_channel_goes_to_the_agent_that_it_is(line: Fleet) -> None:
    await register(line, "bot", kind=wire.AgentKind.CHANNEL, meta={"channelId": "ops"})
    mail = wire.SendMessage(from_="a1", to="channel:ops", body="x", idempotency_key="k")
    sent = await line.post_office.ask(messages.Send(mail))
    assert (sent.message.to, sent.message.channel) == ("bot", "ops")
    assert [each.id for each in messages.list_messages(line.store, for_="bot")] == [sent.message.id]
    (other,) = await line.post_office.ask(
        messages.SendMany((attrs.evolve(mail, channel="x"),), together=True)
    )
    assert isinstance(other, messages.Sent) and not other.new
    await become(line, "bot", S.OFFLINE)
    assert not (await line.post_office.ask(messages.Send(mail))).new
    with pytest.raises(Unprocessable):
        await line.post_office.ask(messages.Send(attrs.evolve(mail, idempotency_key=None)))


@pytest.mark.spec("4.2", "CHN-9", "O-14", "M-I29")
@pytest.mark.parametrize("to", ["channel:nobody", "channel:", "channel:a1", "orchestrator:h1", "pool:p"])
async def test_what_is_no_address_of_mail(line: Fleet, log: Log, to: str) -> None:
    mail = wire.SendMessage(from_="a1", to=to, body="x")
    before = log.events()
    with pytest.raises(Invalid):
        await line.post_office.ask(messages.Send(mail))
    with pytest.raises(Invalid):
        await line.post_office.ask(messages.SendMany((mail,), together=True))
    assert log.events() == before


async def test_an_answer_to_an_event_goes_back_through_the_channel(line: Fleet) -> None:
    await bind(line, "a1")
    (event,) = (await happen(line)).messages
    reply = wire.SendMessage(from_="a1", reply_to=event.id, body="y")
    sent = (await line.post_office.ask(messages.Send(reply))).message
    assert (sent.to, sent.channel, sent.thread_id) == ("c", "c", event.id)


# -- slots


@pytest.mark.spec("CHN-20", "CHN-22", "O-32", "M-I24")
async def test_slots_follow_the_agents(line: Fleet, log: Log) -> None:
    await bind(line, "pool:p")
    await held(line, ["a1"])
    await become(line, "a1", S.BUSY)
    await held(line, ["a1"])
    await become(line, "a1", S.STALE)
    await held(line, ["a2"])
    await line.agents["a2"].ask(agents.SetTags([]))
    await held(line, [None])
    await register(line, "a3", capabilities=["p"])
    await held(line, ["a3"])
    await become(line, "a1", S.IDLE)
    await line.agents["a3"].ask(agents.Remove())
    await held(line, ["a1"])
    assert moves(log) == [(None, "a1"), ("a1", "a2"), ("a2", None), (None, "a3"), ("a3", "a1")]


@pytest.mark.spec("M-107", "CHN-23", "CHN-25", "M-I24")
async def test_a_slot_of_an_agent_that_went_offline_is_filled_and_announced_once(
    line: Fleet, log: Log
) -> None:
    binding = await bind(line, "pool:p")
    await line.agents["a1"].ask(agents.SetStatus(S.OFFLINE))
    await line.switchboard.ask(channels.Reevaluate())
    assert await line.switchboard.ask(channels.Reevaluate()) == ()
    event = log.events("pool.binding.changed")[-1]
    assert (event["source"], event["subject"]) == ("server", binding.id)
    assert event["data"] == {
        "bindingId": binding.id,
        "channelId": "c",
        "previousAgentId": "a1",
        "newAgentId": "a2",
    }
    assert moves(log) == [(None, "a1"), ("a1", "a2")]


@pytest.mark.spec("M-I23", "O-33")
async def test_an_agent_holds_one_slot_of_a_pool(line: Fleet, store: Store) -> None:
    await register(line, "d", kind=wire.AgentKind.CHANNEL)
    await register(line, "e", kind=wire.AgentKind.CHANNEL)
    for channel in ("c", "d", "e"):
        await bind(line, "pool:p", channel)
    assert holders(line) == ["a1", "a2", None]
    first, *_ = channels.list_bindings(store)
    await line.switchboard.ask(channels.Unbind(first.id))
    assert holders(line) == ["a2", "a1"]


async def test_a_replaced_binding_frees_its_agent_at_once(line: Fleet, log: Log) -> None:
    await become(line, "a2", S.OFFLINE)
    await bind(line, "pool:p")
    await bind(line, "pool:p", beside=True)
    assert holders(line) == ["a1"]
    assert moves(log) == [(None, "a1"), (None, "a1")]


@pytest.mark.spec("CHN-22", "O-32")
async def test_what_was_missed_is_made_up_at_the_start(system: System, store: Store, log: Log) -> None:
    async with open_fleet(system, store) as fleet:
        await register(fleet, "c", kind=wire.AgentKind.CHANNEL)
        await register(fleet, "a1", tags=["p"])
        await register(fleet, "a2", tags=["p"])
        binding = await bind(fleet, "pool:p")
    lost = "update agents set status = 'offline', record = json_set(record, '$.status', 'offline') where id = 'a1'"
    await alter(store, lost)
    async with open_fleet(system, store) as fleet:
        await held(fleet, ["a2"])
        assert moves(log) == [(None, "a1"), ("a1", "a2")]
        assert channels.list_bindings(store)[0].id == binding.id


@pytest.mark.spec("M-107", "SYS-13", "CHN-22")
async def test_maintenance_fills_the_slot_of_whom_it_takes_offline(line: Fleet, log: Log) -> None:
    await bind(line, "pool:p")
    await line.agents["a1"].ask(agents.SetStatus(S.BUSY))
    for _ in range(7):
        await trio.sleep(30)
        await line.agents["a2"].ask(agents.Heartbeat())
    await line.maintenance.ask(maintenance.Reap())
    assert agents.get_agent(line.store, "a1").status is S.OFFLINE
    assert holders(line) == ["a2"]
    assert moves(log) == [(None, "a1"), ("a1", "a2")]
    await line.maintenance.ask(maintenance.Reap())
    assert len(moves(log)) == 2


@pytest.mark.spec("CHN-24")
@pytest.mark.parametrize("pool", ['"', "\\", "é", "p q", "\u200b", "\x7f"])
async def test_a_pool_may_have_any_name(line: Fleet, pool: str) -> None:
    await register(line, "odd", capabilities=[pool])
    await bind(line, f"pool:{pool}")
    assert holders(line) == ["odd"]


# -- targets


@pytest.mark.spec("M-112", "M-115", "CHN-22")
async def test_a_channel_with_one_binding_leads_to_an_agent_or_a_policy(line: Fleet, log: Log) -> None:
    binding = await bind(line, "a1")
    assert await resolve(line) == channels.Resolved("a1", "c", binding.id)
    binding = await bind(line, "policy:P")
    assert await resolve(line) == channels.Resolved("policy:P", "c", binding.id)
    binding = await bind(line, "pool:p")
    assert await resolve(line) == channels.Resolved("a1", "c", binding.id)


@pytest.mark.spec("M-113", "M-114", "INT-9", "INT-11")
@pytest.mark.parametrize(
    ("bound", "channel", "said"),
    [
        ([], "x", "no such channel"),
        ([], "c", "0 bindings"),
        (["a1", "a2"], "c", "2 bindings"),
        (["label:l"], "c", "no agent and no policy"),
        (["tag:t"], "c", "no agent and no policy"),
        (["broadcast"], "c", "no agent and no policy"),
        (["ghost"], "c", "no agent and no policy"),
        (["orchestrator:h"], "c", "takes no messages"),
        (["pool:nobody"], "c", "no agent holds its slot"),
    ],
)
async def test_where_a_channel_does_not_lead(line: Fleet, bound: list[str], channel: str, said: str) -> None:
    for target in bound:
        await bind(line, target, beside=True)
    with pytest.raises(channels.Unresolvable, match=said):
        await resolve(line, channel)


@pytest.fixture(autouse=True)
async def nobody_failed(system: System) -> AsyncIterator[None]:
    yield
    assert list(system.failures) == []


async def test_a_post_office_that_is_gone_is_told_to_who_asked(line: Fleet, system: System) -> None:
    await bind(line, "a1")
    await system.stop(line.post_office)
    with pytest.raises(ActorError):
        await happen(line)
    with trio.fail_after(1):
        assert await line.switchboard.ask(channels.Reevaluate()) == ()
