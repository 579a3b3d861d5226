"""Sending several messages in one commit."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import Refusal
from relay.fleet import Fleet, Invalid, Unprocessable, agents, messages


def mail(to: str, key: str | None = None, **rest: Any) -> wire.SendMessage:
    return wire.SendMessage(from_="s", to=to, body="x", idempotency_key=key, **rest)


async def send(fleet: Fleet, *mails: wire.SendMessage, **options: Any) -> tuple[messages.Sent | Refusal, ...]:
    return await fleet.post_office.ask(messages.SendMany(mails, **options))


def ids(answers: tuple[messages.Sent | Refusal, ...]) -> list[int | type[Refusal]]:
    return [one.message.id if isinstance(one, messages.Sent) else type(one) for one in answers]


@pytest.fixture
async def away(fleet: Fleet) -> Fleet:
    """A fleet in which `gone` is offline."""
    await fleet.agents["gone"].ask(agents.Register(wire.RegisterAgent(id="gone")))
    await fleet.agents["gone"].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    return fleet


@pytest.mark.spec("M-I2", "MSG-12")
async def test_each_is_answered_in_its_place_and_the_good_ones_are_stored(away: Fleet, log: Log) -> None:
    answers = await send(away, mail("a"), mail("gone"), mail("pool:p"), mail("b"))
    assert ids(answers) == [1, Unprocessable, Invalid, 2]
    assert [event["data"]["to"] for event in log.events("message.new")] == ["a", "b"]
    assert [record["clientId"] for record in log.audits("server-message-")] == [
        "server-message-1",
        "server-message-2",
    ]


@pytest.mark.spec("M-I1", "MSG-13")
async def test_a_key_that_is_used_twice_in_one_batch_names_one_message(away: Fleet, log: Log) -> None:
    for together in (False, True):
        first, again, other = await send(
            away, mail("a", "k"), mail("gone", "k"), mail("a", "l"), together=together
        )
        assert isinstance(first, messages.Sent) and isinstance(again, messages.Sent)
        assert (first.message, first.new, again.new) == (again.message, not together, False)
        assert isinstance(other, messages.Sent) and other.message.id == 2
    assert len(log.events("message.new")) == 2


@pytest.mark.spec("M-I1")
async def test_what_was_refused_leaves_its_key_to_the_next(away: Fleet) -> None:
    assert ids(await send(away, mail("gone", "k"), mail("a", "k"))) == [Unprocessable, 1]


@pytest.mark.spec("M-I29", "M-108")
async def test_together_means_all_or_none(away: Fleet, log: Log) -> None:
    before = log.events()
    with pytest.raises(Unprocessable, match="gone is offline"):
        await send(away, mail("a", "k"), mail("gone"), mail("pool:p"), together=True)
    assert log.events() == before
    assert messages.latest_id(away.store) == 0
    assert ids(await send(away, mail("a", "k"), mail("b"), together=True)) == [1, 2]


@pytest.mark.spec("CHN-13")
async def test_the_offline_rule_can_be_left_out(away: Fleet) -> None:
    assert ids(await send(away, mail("gone"), even_offline=True)) == [1]


async def test_the_audit_can_be_left_to_the_sender(away: Fleet, log: Log) -> None:
    assert ids(await send(away, mail("a"), audited=False)) == [1]
    assert log.audits("server-message-") == []
    assert await send(away) == ()


async def test_mail_for_a_channel_is_sent_together_with_other_mail(fleet: Fleet) -> None:
    await fleet.agents["bot"].ask(
        agents.Register(wire.RegisterAgent(id="bot", meta={"channelId": "ops"}, tags=["channel"]))
    )
    (sent,) = await send(fleet, mail("channel:ops"), together=True)
    assert isinstance(sent, messages.Sent)
    assert (sent.message.to, sent.message.channel) == ("bot", "ops")


@pytest.mark.spec("M-I42", "MSG-25")
async def test_reading_twice_at_once_is_told_once(fleet: Fleet, log: Log) -> None:
    await fleet.agents["a"].ask(agents.Register(wire.RegisterAgent(id="a")))
    await send(fleet, mail("a"))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(fleet.post_office.ask, messages.MarkRead(1, "a"))
    assert len(log.events("message.read")) == 1
