"""Reactions to messages, answers that are owed, references to attachments."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.fleet import Fleet, NotFound, Unprocessable, agents, messages, obligations
from relay.fleet._reactions import MOST_REACTIONS


@pytest.fixture
async def fleet(fleet: Fleet) -> Fleet:
    """With two agents."""
    for name in ("a1", "a2"):
        await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name)))
    return fleet


async def send(fleet: Fleet, **rest: Any) -> int:
    asked = wire.SendMessage(**{"from_": "a1", "to": "a2", "body": "x", **rest})
    return (await fleet.post_office.ask(messages.Send(asked))).message.id


async def react(fleet: Fleet, number: int, emoji: str, agent_id: str = "a2", *, remove: bool = False) -> bool:
    asked = wire.React(agent_id=agent_id, emoji=emoji, remove=remove)
    return await fleet.post_office.ask(messages.React(number, asked))


def shown(fleet: Fleet, number: int) -> list[tuple[str, str]] | None:
    found = messages.get_message(fleet.store, number).reactions
    return None if found is None else [(each.agent_id, each.emoji) for each in found]


async def test_agents_react_to_a_message_and_take_it_back(fleet: Fleet, log: Log) -> None:
    number = await send(fleet)
    assert shown(fleet, number) is None
    assert await react(fleet, number, "👍")
    assert await react(fleet, number, "👍", "a1")
    assert await react(fleet, number, "🎉")
    assert not await react(fleet, number, "👍")
    assert shown(fleet, number) == [("a2", "👍"), ("a1", "👍"), ("a2", "🎉")]
    assert not await react(fleet, number, "👍", remove=True)
    assert not await react(fleet, number, "👍", remove=True)
    assert shown(fleet, number) == [("a1", "👍"), ("a2", "🎉")]
    (first, *_, last) = events = log.events("message.reaction")
    assert len(events) == 4
    assert (first["source"], first["subject"]) == ("server", str(number))
    assert first["data"] == {"messageId": number, "agentId": "a2", "emoji": "👍", "removed": False}
    assert last["data"]["removed"] is True


async def test_one_reaction_said_many_times_at_once_is_one(fleet: Fleet, log: Log) -> None:
    number = await send(fleet)
    answers: list[bool] = []

    async def one() -> None:
        answers.append(await react(fleet, number, "👍"))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    assert sum(answers) == len(log.events("message.reaction")) == 1


async def test_reactions_are_bounded_and_go_with_their_message(fleet: Fleet) -> None:
    number = await send(fleet)
    for count in range(MOST_REACTIONS):
        assert await react(fleet, number, f"{count}")
    with pytest.raises(Unprocessable):
        await react(fleet, number, "one more")
    assert not await react(fleet, number, "0", remove=True)
    assert await react(fleet, number, "one more")
    await fleet.post_office.ask(messages.Delete(number))
    with pytest.raises(NotFound):
        await react(fleet, number, "👍")
    assert fleet.store.row("select count(*) from message_reactions") == (0,)


async def test_a_reference_to_an_attachment_is_given_back_as_it_came(fleet: Fleet) -> None:
    given = [wire.Attachment(id="art_1", name="log.txt", size=7, digest="sha256:x", kind="log")]
    number = await send(fleet, attachments=given)
    assert messages.get_message(fleet.store, number).attachments == given
    (listed,) = messages.list_messages(fleet.store, for_="a2")
    assert listed.attachments == given


def owed(fleet: Fleet, agent_id: str = "a2") -> list[int]:
    return [each.message_id for each in obligations.list_obligations(fleet.store, agent_id)]


async def read(fleet: Fleet, *numbers: int) -> None:
    for number in numbers:
        await fleet.post_office.ask(messages.MarkRead(number, "a2"))


async def test_an_answer_is_owed_from_reading_to_replying(fleet: Fleet) -> None:
    expected = {"replyExpected": True}
    number = await send(fleet, payload=expected, subject="s")
    assert owed(fleet) == [], "it has not been read"
    await read(fleet, number)
    (obligation,) = obligations.list_obligations(fleet.store, "a2")
    assert (obligation.message_id, obligation.from_, obligation.subject) == (number, "a1", "s")
    assert owed(fleet, "a1") == []
    await send(fleet, from_="a2", to="a1", body="something else")
    assert owed(fleet) == [number]
    await send(fleet, from_="a1", to="a2", reply_to=number)
    assert owed(fleet) == [number], "the sender's own words are no answer"
    await send(fleet, from_="a2", to=None, reply_to=number)
    assert owed(fleet) == []


async def test_who_owes_no_answer(fleet: Fleet) -> None:
    """Only a direct message that asks for one obliges."""
    expected = {"replyExpected": True}
    numbers = [
        await send(fleet),
        await send(fleet, payload={"replyExpected": "yes"}),
        await send(fleet, payload={"replyExpected": 1}),
        await send(fleet, payload=expected, kind=wire.MessageKind.SYSTEM),
        await send(fleet, payload=expected, to="broadcast"),
        await send(fleet, payload=expected, from_="a2"),
    ]
    await read(fleet, *numbers)
    assert owed(fleet) == []
    asking = [
        await send(fleet, meta=expected),
        await send(fleet, payload=expected, kind=wire.MessageKind.TASK),
        await send(fleet, payload=expected, kind=wire.MessageKind.PAIR),
        await send(fleet, payload=expected, kind=wire.MessageKind.CHANNEL_EVENT),
    ]
    await read(fleet, *asking)
    assert owed(fleet) == asking
    await fleet.post_office.ask(messages.Delete(asking[0]))
    assert owed(fleet) == asking[1:]
    with pytest.raises(NotFound):
        obligations.list_obligations(fleet.store, "nobody")
    assert obligations.list_obligations(fleet.store, "user") == []


async def test_what_asks_for_an_answer_is_found_without_reading_all_mail(fleet: Fleet) -> None:
    from relay.fleet.obligations import OWED

    plans = [str(fleet.store.rows(f"explain query plan {OWED.format(column=column)}", "a2", 1))
             for column in ("address", "resolved_to")]  # fmt: skip
    assert "messages_asking " in plans[0]
    assert "messages_asking_resolved" in plans[1]
    assert "messages_by_thread" in plans[0]
