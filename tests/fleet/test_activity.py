"""Activity, health counts and what a stream bound to an agent is sent."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.fleet import Fleet, activity, agents, commands, messages
from relay.store import LoggedEvent


async def note(fleet: Fleet, client_id: str = "c1", **fields: Any) -> activity.Noted:
    asked = {"client_id": client_id, "kind": wire.ActivityKind.OPERATOR, "title": "hello", **fields}
    return await fleet.activity.ask(activity.WriteDown(wire.NewActivity(**asked)))


@pytest.mark.spec("ACT-1", "ACT-5", "O-54")
async def test_a_clients_record_is_kept_and_announced(fleet: Fleet, log: Log) -> None:
    made = await note(fleet, agent_id="a1", metadata={"k": 1})
    assert made.new
    assert made.activity.created_at is not None
    (event,) = log.events("activity.created")
    assert (event["subject"], event["data"]) == (str(made.activity.id), wire.to_json(made.activity))


@pytest.mark.spec("ACT-2", "M-I32")
async def test_one_client_id_is_one_record(fleet: Fleet, log: Log) -> None:
    answers = []

    async def write(number: int) -> None:
        answers.append(await note(fleet, title=f"title {number}"))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(write, number)
    assert sum(answer.new for answer in answers) == 1
    assert len({answer.activity.id for answer in answers}) == 1
    assert len(log.audits()) == len(log.events("activity.created")) == 1


@pytest.mark.spec("M-I32", "ACT-4")
async def test_a_record_that_a_client_wrote_first_is_kept_and_nothing_else_is_told(
    fleet: Fleet, log: Log
) -> None:
    theirs = (await note(fleet, "server-message-1")).activity
    sent = await fleet.post_office.ask(messages.Send(wire.SendMessage(from_="u", to="a1", body="b")))
    assert sent.message.id == 1
    assert [event["data"]["id"] for event in log.events("activity.created")] == [theirs.id]
    assert [record["id"] for record in log.audits()] == [theirs.id]
    assert not (await note(fleet, "server-message-1")).new


async def test_records_are_found_by_what_they_are_about(fleet: Fleet) -> None:
    ids = {}
    for name, fields in {
        "plain": {},
        "pair": {"kind": wire.ActivityKind.PAIR, "view": "messages"},
        "about": {"message_id": 7, "agent_id": "a1", "view": "messages"},
    }.items():
        ids[name] = (await note(fleet, name, **fields)).activity.id

    def found(**query: Any) -> set[str]:
        listed = {record.id for record in activity.list_activity(fleet.store, **query)}
        return {name for name, key in ids.items() if key in listed}

    assert found() == {"plain", "pair", "about"}
    assert found(kind=wire.ActivityKind.PAIR) == {"pair"}
    assert found(view="messages") == {"pair", "about"}
    assert found(message_id=7) == found(agent_id="a1") == {"about"}
    assert found(view="messages", kind=wire.ActivityKind.TASK) == set()


@pytest.mark.parametrize(
    ("where", "index"),
    [("kind", "activity_by_kind"), ("view", "activity_by_view"), ("message_id", "activity_by_message")],
)
async def test_a_rare_record_is_found_without_reading_all(fleet: Fleet, where: str, index: str) -> None:
    sql = f"explain query plan select record from activity where {where} = ? order by id desc limit 100"
    assert index in str(fleet.store.rows(sql, "x"))


async def test_the_newest_records_come_first(fleet: Fleet) -> None:
    ids = [(await note(fleet, f"c{n}", agent_id="a1" if n % 2 else None)).activity.id for n in range(6)]
    assert [record.id for record in activity.list_activity(fleet.store)] == ids[::-1]
    assert [record.id for record in activity.list_activity(fleet.store, limit=2)] == [ids[5], ids[4]]
    older = activity.list_activity(fleet.store, agent_id="a1", before=ids[5])
    assert [record.id for record in older] == [ids[3], ids[1]]


@pytest.mark.spec("SYS-1")
async def test_health_counts_what_there_is(fleet: Fleet) -> None:
    assert fleet.tally.count() == wire.Counts()
    await fleet.agents["a1"].ask(agents.Register(wire.RegisterAgent(id="a1")))
    made = await commands.create_command(fleet, wire.NewCommand(type="t", source="s", target="a1"))
    await commands.create_command(fleet, wire.NewCommand(type="t", source="s", target="a1"))
    await fleet.commands[made.id].ask(commands.Claim())
    await fleet.post_office.ask(messages.Send(wire.SendMessage(from_="u", to="a1", body="b")))
    await trio.sleep(1)
    assert fleet.tally.count() == wire.Counts(agents=1, messages=1, pending_commands=1)


async def everything(fleet: Fleet) -> list[LoggedEvent]:
    with trio.move_on_after(1):
        return await fleet.events.read_after(0, 1000)
    return []


@pytest.mark.spec("SSE-3", "SSE-4", "SSE-7", "M-236", "M-237")
async def test_a_bound_stream_gets_what_concerns_its_agent_at_that_time(fleet: Fleet) -> None:
    ghost, bound = fleet.matcher("ghost"), fleet.matcher("a3")
    for key, tags in (("a1", []), ("a2", []), ("a3", ["t"])):
        await fleet.agents[key].ask(agents.Register(wire.RegisterAgent(id=key, tags=tags)))

    async def send(sender: str, to: str, body: str) -> None:
        await fleet.post_office.ask(messages.Send(wire.SendMessage(from_=sender, to=to, body=body)))

    await send("a1", "tag:t", "1")
    await send("a1", "broadcast", "2")
    await send("a1", "a3", "3")
    await send("a3", "a2", "4")
    await send("a1", "a2", "not for a3")
    await fleet.agents["a3"].ask(agents.SetTags([]))
    await send("a1", "tag:t", "no longer for a3")
    for target in ("a3", "a2"):
        await commands.create_command(fleet, wire.NewCommand(type="t", source="s", target=target))
    logged = await everything(fleet)
    got = [event for event in logged if bound(event)]
    assert [e.type for e in got] == [
        "agent.status",
        *["message.new"] * 4,
        "agent.status",
        "command.requested",
    ]
    assert [event for event in logged if ghost(event)] == []
    late = fleet.matcher("a3")
    await fleet.agents["a3"].ask(agents.Remove())
    await send("a1", "broadcast", "a3 is gone")
    rest = [event for event in (await everything(fleet))[len(logged) :] if late(event)]
    assert [event.type for event in rest] == ["agent.removed"]
