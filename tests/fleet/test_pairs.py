"""Pairs: invitations, answers, messages, ends."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import System
from relay.fleet import (
    Conflict,
    Fleet,
    Forbidden,
    Invalid,
    NotFound,
    Unprocessable,
    agents,
    messages,
    open_fleet,
    pairs,
)
from relay.fleet._moment import Moment
from relay.fleet._pair_rules import moved
from relay.store import Owner, Store, Write

S = wire.PairStatus
OFFLINE = wire.AgentStatus.OFFLINE


@pytest.fixture
async def fleet(fleet: Fleet) -> Fleet:
    """With three agents."""
    await register(fleet)
    return fleet


async def register(fleet: Fleet) -> None:
    for name in ("a1", "a2", "a3"):
        await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name)))


async def propose(fleet: Fleet, from_: str = "a1", to: str = "a2", **rest: Any) -> wire.Pair:
    key = fleet.system.new_id("pair")
    return await fleet.pairs[key].ask(pairs.Propose(wire.ProposePair(from_=from_, to=to, **rest)))


async def active(fleet: Fleet, **rest: Any) -> wire.Pair:
    pair = await propose(fleet, **rest)
    return await fleet.pairs[pair.id].ask(pairs.Accept("a2"))


async def say(fleet: Fleet, pair: wire.Pair, from_: str, body: str, **rest: Any) -> messages.Sent:
    said = wire.PairMessage(from_=from_, body=body, **rest)
    return await fleet.pairs[pair.id].ask(pairs.Say(said))


async def depart(fleet: Fleet, name: str) -> None:
    await fleet.agents[name].ask(agents.SetStatus(OFFLINE))
    await settled()


async def settled() -> None:
    """The clock moves on when nobody has anything left to do."""
    await trio.sleep(1)


def status(fleet: Fleet, pair: wire.Pair) -> S:
    return pairs.get_pair(fleet.store, pair.id).status


async def test_an_invitation_that_was_sent_counts_although_its_number_cannot_be_written(
    fleet: Fleet,
) -> None:
    """To say that there is no pair would have another one made."""
    await write(
        fleet.store, "create trigger full before update on pairs begin select raise(abort, 'full'); end"
    )
    pair = await propose(fleet)
    await write(fleet.store, "drop trigger full")
    await settled()
    assert [each.id for each in pairs.list_pairs(fleet.store)] == [pair.id]
    assert len(messages.list_messages(fleet.store)) == 1
    assert (await fleet.pairs[pair.id].ask(pairs.Accept("a2"))).message_id == pair.message_id
    assert len(fleet.system.failures) == 1
    fleet.system.failures.clear()


@pytest.mark.spec("PAR-1", "PAR-2", "PAR-6")
async def test_an_invitation_is_a_pair_that_waits_and_a_message(fleet: Fleet, log: Log) -> None:
    pair = await propose(fleet, topic="the parser", ttl_seconds=60)
    assert pair == pairs.get_pair(fleet.store, pair.id)
    assert (pair.status, pair.from_, pair.to, pair.topic) == (S.PENDING, "a1", "a2", "the parser")
    assert pair.created_at is not None
    assert pair.expires_at == pair.created_at + 60
    (invitation,) = messages.list_messages(fleet.store, for_="a2")
    assert (invitation.id, invitation.kind, invitation.from_) == (pair.message_id, "pair", "a1")
    assert invitation.payload is not None
    assert invitation.payload["pairId"] == pair.id
    (created,) = log.events("pair.created")
    assert (created["source"], created["subject"], created["data"]["status"]) == (
        "server",
        pair.id,
        "pending",
    )
    (record,) = log.audits("server-pair-")
    assert (record["clientId"], record["kind"]) == (f"server-pair-{pair.id}-pending", "pair")


@pytest.mark.spec("PAR-2")
async def test_who_cannot_be_invited(fleet: Fleet) -> None:
    for wrong in ({"to": "a1"}, {"to": "nobody"}, {"from_": "nobody"}, {"to": "broadcast"}, {"to": "tag:t"}):
        with pytest.raises(Invalid):
            await propose(fleet, **wrong)
    await depart(fleet, "a2")
    with pytest.raises(Unprocessable):
        await propose(fleet)
    assert (await propose(fleet, "a2", "a3")).status is S.PENDING, "it is the invited who must be there"
    assert (await propose(fleet, "user", "a1")).status is S.PENDING
    assert len(pairs.list_pairs(fleet.store)) == 2


@pytest.mark.spec("PAR-3", "PAR-6")
@pytest.mark.parametrize(
    ("answer", "after"),
    [(pairs.Accept("a2"), S.ACTIVE), (pairs.Reject("a2"), S.REJECTED), (pairs.End("a1"), S.ENDED),
     (pairs.End("a2"), S.ENDED)],
)  # fmt: skip
async def test_an_invitation_is_answered(fleet: Fleet, log: Log, answer: Any, after: S) -> None:
    pair = await propose(fleet)
    answered = await fleet.pairs[pair.id].ask(answer)
    assert answered.status is after is status(fleet, pair)
    (updated,) = log.events("pair.updated")
    assert updated["data"] == wire.to_json(answered)
    assert [record["clientId"].rpartition("-")[2] for record in log.audits("server-pair-")] == [
        "pending",
        after,
    ]
    assert len(messages.list_messages(fleet.store)) == 1, "nobody is written to but the invited"


@pytest.mark.spec("PAR-3")
async def test_only_the_invited_answers_and_only_members_end(fleet: Fleet) -> None:
    pair = await propose(fleet)
    for asked in (pairs.Accept("a1"), pairs.Reject("a1"), pairs.Accept("a3"), pairs.End("a3")):
        with pytest.raises(Forbidden):
            await fleet.pairs[pair.id].ask(asked)
    assert status(fleet, pair) is S.PENDING
    for asked in (pairs.Accept("a2"), pairs.Reject("a2"), pairs.End("a2")):
        with pytest.raises(NotFound):
            await fleet.pairs["pair_none"].ask(asked)


EVENTS: dict[str, Any] = {
    "accept": pairs.Accept("a2"),
    "reject": pairs.Reject("a2"),
    "end": pairs.End("a1"),
    "message": pairs.Say(wire.PairMessage(from_="a1", body="x")),
}


@pytest.mark.spec("PAR-3", "PAR-4")
@pytest.mark.parametrize("way", [("reject",), ("end",), ("accept", "end"), ("expire",)])
async def test_what_has_ended_stays_as_it_is(fleet: Fleet, log: Log, way: tuple[str, ...]) -> None:
    pair = await propose(fleet, ttl_seconds=1)
    for event in way:
        if event == "expire":
            await trio.sleep(1)
            assert await fleet.pairs[pair.id].ask(pairs.Expire())
        else:
            await fleet.pairs[pair.id].ask(EVENTS[event])
    before = pairs.get_pair(fleet.store, pair.id)
    events = len(log.events())
    for asked in EVENTS.values():
        with pytest.raises(Conflict, match=before.status):
            await fleet.pairs[pair.id].ask(asked)
    await trio.sleep(2)
    assert not await fleet.pairs[pair.id].ask(pairs.Expire())
    await depart(fleet, "a2")
    assert pairs.get_pair(fleet.store, pair.id) == before
    assert [event["type"] for event in log.events()[events:] if event["type"].startswith("pair")] == []


def test_the_table_is_the_specification() -> None:
    assert {(a, event): b for a, moves in pairs.MOVES.items() for event, b in moves.items()} == {
        (S.PENDING, "accept"): S.ACTIVE,
        (S.PENDING, "reject"): S.REJECTED,
        (S.PENDING, "end"): S.ENDED,
        (S.PENDING, "expire"): S.EXPIRED,
        (S.ACTIVE, "end"): S.ENDED,
        (S.ACTIVE, "leave"): S.ENDED,
    }
    moment = Moment(1.0, lambda name: 1, lambda prefix: prefix)
    for before in S:
        for event in ("accept", "reject", "end", "expire", "leave"):
            pair = wire.Pair(id="p", from_="a", to="b", status=before)
            if event in pairs.MOVES[before]:
                assert moved(pair, event, moment)[0].status is pairs.MOVES[before][event]
            else:
                with pytest.raises(Conflict):
                    moved(pair, event, moment)


@pytest.mark.spec("PAR-4")
async def test_members_of_an_active_pair_write_to_each_other(fleet: Fleet) -> None:
    pair = await propose(fleet)
    with pytest.raises(Conflict, match="pending"):
        await say(fleet, pair, "a1", "too early")
    await fleet.pairs[pair.id].ask(pairs.Accept("a2"))
    first = await say(fleet, pair, "a2", "hello", payload={"n": 1}, idempotency_key="k", subject="s")
    assert (first.message.to, first.message.kind, first.message.subject) == ("a1", "pair", "s")
    assert first.message.payload == {"n": 1, "pairId": pair.id}
    again = await say(fleet, pair, "a2", "hello", idempotency_key="k")
    assert (again.new, again.message.id) == (False, first.message.id)
    assert (await say(fleet, pair, "a1", "hello yourself")).message.to == "a2"
    with pytest.raises(Forbidden):
        await say(fleet, pair, "a3", "let me in")


@pytest.mark.spec("PAR-3")
@pytest.mark.parametrize("name", ["a1", "a2"])
async def test_an_active_pair_ends_when_a_member_goes(fleet: Fleet, name: str) -> None:
    lost, deleted = await active(fleet), await active(fleet)
    silent = await propose(fleet, "a1", "a2")
    await depart(fleet, name)
    for pair in (lost, deleted):
        found = pairs.get_pair(fleet.store, pair.id)
        assert (found.status, found.ended_by) == (S.ENDED, name)
    assert status(fleet, silent) is S.PENDING, "an invitation is mail"


async def test_an_active_pair_ends_when_a_member_is_deleted_or_silent(fleet: Fleet) -> None:
    pair = await active(fleet)
    await fleet.agents["a1"].ask(agents.Remove())
    await settled()
    assert status(fleet, pair) is S.ENDED


async def test_an_invitation_of_one_who_went_is_accepted_once_that_one_is_back(fleet: Fleet) -> None:
    pair = await propose(fleet)
    await depart(fleet, "a1")
    with pytest.raises(Unprocessable):
        await fleet.pairs[pair.id].ask(pairs.Accept("a2"))
    assert status(fleet, pair) is S.PENDING
    await fleet.agents["a1"].ask(agents.Heartbeat())
    assert (await fleet.pairs[pair.id].ask(pairs.Accept("a2"))).status is S.ACTIVE


async def test_one_who_goes_while_the_other_accepts_leaves_no_active_pair(fleet: Fleet) -> None:
    """Both at once: neither sees what the other has decided, as nothing of it is durable yet."""
    for _ in range(20):
        await fleet.agents["a1"].ask(agents.SetStatus(wire.AgentStatus.ONLINE))
        pair = await propose(fleet)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.agents["a1"].ask, agents.SetStatus(OFFLINE))
            nursery.start_soon(fleet.pairs[pair.id].ask, pairs.Accept("a2"))
        await settled()
        assert status(fleet, pair) is S.ENDED


@pytest.mark.spec("PAR-5")
async def test_an_invitation_expires_when_it_is_over_and_not_before(fleet: Fleet) -> None:
    pair = await propose(fleet, ttl_seconds=20)
    await trio.sleep(19)
    assert pairs.due_pairs(fleet.store, fleet.system.wall()) == []
    assert not await fleet.pairs[pair.id].ask(pairs.Expire())
    await trio.sleep(1)
    assert pairs.due_pairs(fleet.store, fleet.system.wall()) == [pair.id]
    assert await fleet.pairs[pair.id].ask(pairs.Expire())
    assert status(fleet, pair) is S.EXPIRED
    assert pairs.due_pairs(fleet.store, fleet.system.wall()) == []
    accepted = await active(fleet, ttl_seconds=1)
    await trio.sleep(2)
    assert not await fleet.pairs[accepted.id].ask(pairs.Expire())
    assert status(fleet, accepted) is S.ACTIVE


@pytest.mark.spec("PAR-5")
async def test_an_invitation_gets_the_time_on_top_that_the_server_was_away(fleet: Fleet) -> None:
    pair = await propose(fleet, ttl_seconds=10)
    await trio.sleep(11)
    assert not await fleet.pairs[pair.id].ask(pairs.Expire(held_up=10.0))
    assert status(fleet, pair) is S.PENDING
    assert pairs.due_pairs(fleet.store, fleet.system.wall()) == []
    await trio.sleep(10)
    assert pairs.due_pairs(fleet.store, fleet.system.wall()) == [pair.id]
    assert await fleet.pairs[pair.id].ask(pairs.Expire())


@pytest.mark.spec("PAR-5")
async def test_maintenance_ends_what_nobody_answered(fleet: Fleet, log: Log) -> None:
    pair, longer = await propose(fleet, ttl_seconds=20), await propose(fleet, ttl_seconds=900)
    await trio.sleep(31)
    assert (status(fleet, pair), status(fleet, longer)) == (S.EXPIRED, S.PENDING)
    (updated,) = log.events("pair.updated")
    assert (updated["subject"], updated["data"]["status"]) == (pair.id, "expired")


async def test_what_was_missed_while_the_server_was_away_is_made_up_for(store: Store, system: System) -> None:
    """A crash between the row of a pair and its invitation; a member and a lifetime that ended unseen."""
    async with open_fleet(system, store) as fleet:
        await register(fleet)
        unsent, over, lost = await propose(fleet), await propose(fleet, ttl_seconds=5), await active(fleet)
    await trio.sleep(6)
    await write(store, "delete from messages where id = ?", unsent.message_id)
    record = "record = json_remove(record, '$.messageId')"
    await write(store, f"update pairs set {record} where id = ?", unsent.id)
    await write(store, "update agents set record = json_set(record, '$.status', 'offline'), status = 'offline'"
                " where id = 'a1'")  # fmt: skip
    async with open_fleet(system, store):
        await settled()
        found = {pair.id: pair for pair in pairs.list_pairs(store)}
        assert [found[pair.id].status for pair in (unsent, over, lost)] == [S.PENDING, S.EXPIRED, S.ENDED]
        invitations = [
            message.id
            for message in messages.list_messages(store)
            if message.idempotency_key == f"pair:{unsent.id}:invite"
        ]
        assert invitations == [found[unsent.id].message_id]


async def write(store: Store, sql: str, *params: Any) -> None:
    done = trio.Event()
    store.stage((Write(sql, params),), (), Owner(), lambda error: done.set())
    await done.wait()


async def test_pairs_are_listed_the_newest_first(fleet: Fleet) -> None:
    made = []
    for to in ("a2", "a3", "a2"):
        made.append((await propose(fleet, "a1", to)).id)
        await settled()
    other = await propose(fleet, "a3", "a2")
    await fleet.pairs[made[0]].ask(pairs.Accept("a2"))

    def ids(**query: Any) -> list[str]:
        return [pair.id for pair in pairs.list_pairs(fleet.store, **query)]

    assert ids() == [other.id, *reversed(made)]
    assert ids(status=S.ACTIVE) == [made[0]]
    assert ids(agent_id="a3") == [other.id, made[1]]
    assert ids(agent_id="a3", status=S.ACTIVE) == []
    assert ids(limit=1) == [other.id]
