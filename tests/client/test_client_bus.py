"""The bus of the client: what it says and hears, and that connections may come and go."""

from __future__ import annotations

import signal
from contextlib import aclosing
from typing import Any

import pytest
import trio
import trio.testing
from faulty import answer, faulty, until
from test_restarts import Relay, relay

from relay import wire
from relay.client import Refused, StreamedEvent, Superseded, Unauthorized, Unreachable, _bus_link, open_client
from relay.wire.bus import Hello, Role

__all__ = ["relay"]  # the fixture

HELLO = Hello(role=Role.PROVIDER, component_id="runner-1", agent_id="w", instance_id="i1")


def message(**members: Any) -> wire.SendMessage:
    return wire.SendMessage(**{"from_": "a1", "to": "w", "body": "x", **members})


async def heard(events: Any, count: int, kind: str = "message.new") -> list[StreamedEvent]:
    found: list[StreamedEvent] = []
    with trio.fail_after(20):
        async for event in events:
            found += [event] if event.type == kind else []
            if len(found) == count:
                break
    return found


async def test_an_agent_says_and_hears_over_one_connection(server: Any) -> None:
    async with open_client(server.base_url, server.token) as client, client.open_bus(HELLO) as bus:
        sent = await bus.send([message(body="1"), message(body=""), message(body="2", claimable=True)])
        assert isinstance(sent[0], wire.Message)
        assert isinstance(sent[1], Refused)
        assert sent[1].status == 400
        assert isinstance(sent[2], wire.Message)
        async with aclosing(bus.events()) as events:
            assert [event.data["id"] for event in await heard(events, 2)] == [sent[0].id, sent[2].id]
        claimed, not_claimable = await bus.claim([sent[2].id, sent[0].id])
        assert isinstance(claimed, wire.Claim)
        assert isinstance(not_claimable, Refused)
        assert isinstance((await bus.renew_claim([sent[2].id]))[0], wire.Claim)
        assert (await bus.mark_read([sent[0].id])) == [None]
        agent = await bus.set_status(wire.AgentStatus.BUSY, ready=True, meta={"k": 1})
        assert (agent.status, agent.ready, agent.meta) == (wire.AgentStatus.BUSY, True, {"k": 1})
        await bus.heartbeat(meta={"l": 2})
        assert (await client.agent("w")).meta == {"k": 1, "l": 2}
        command = await client.create_command(wire.NewCommand(type="x", source="s", target="w"))
        async with aclosing(bus.events()) as events:
            (told,) = await heard(events, 1, "command.requested")
            assert told.data["command"]["id"] == command.id
        done = await bus.patch_command(command.id, wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED))
        assert done.status is wire.CommandStatus.SUCCEEDED
        with pytest.raises(Refused, match="409"):
            await bus.patch_command(command.id, wire.PatchCommand(status=wire.CommandStatus.FAILED))


async def test_who_may_not_connect_hears_why(server: Any) -> None:
    async with open_client(server.base_url, "wrong-token") as client:
        with pytest.raises(Unauthorized, match="401"):
            async with client.open_bus(HELLO):
                pytest.fail("it was welcome")
    async with open_client(server.base_url, server.token) as client:
        with pytest.raises(Refused, match="agentId"):
            async with client.open_bus(Hello(role=Role.PROVIDER, component_id="c")):
                pytest.fail("it was welcome")


async def test_a_relay_without_a_bus_says_so() -> None:
    async with (
        faulty(answer(404, {"error": "no such route"})) as old,
        open_client(old.url, "x" * 8) as client,
    ):
        with pytest.raises(Refused, match="404"):
            async with client.open_bus(HELLO):
                pytest.fail("it was welcome")


async def test_what_goes_wrong_in_the_block_is_raised_as_it_is(server: Any) -> None:
    async with open_client(server.base_url, server.token) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.open_bus(HELLO):
                1 / 0


async def test_the_session_that_was_replaced_is_at_its_end(server: Any) -> None:
    async with open_client(server.base_url, server.token) as client, client.open_bus(HELLO) as old:
        async with client.open_bus(
            Hello(role=Role.PROVIDER, component_id="r2", agent_id="w", instance_id="i2")
        ) as new:
            with trio.fail_after(10), pytest.raises(Superseded):
                async with aclosing(old.events()) as events:
                    async for _ in events:
                        pass
            with pytest.raises(Superseded):
                await old.heartbeat()
            await new.heartbeat()


async def test_a_frame_that_is_too_long_is_refused_before_it_is_sent(server: Any) -> None:
    async with open_client(server.base_url, server.token) as client, client.open_bus(HELLO) as bus:
        with pytest.raises(Refused, match="413"):
            await bus.send([message(body="x" * 100_000)] * 11)
        await bus.heartbeat()


async def test_an_agent_that_was_deleted_registers_again(server: Any) -> None:
    async with open_client(server.base_url, server.token) as client, client.open_bus(HELLO) as bus:
        await bus.set_status(wire.AgentStatus.BUSY, ready=True, meta={"k": 1})
        await client.delete_agent("w")
        with trio.fail_after(10):
            await bus.heartbeat()
        agent = await client.agent("w")
        assert (agent.status, agent.ready, agent.meta) == (wire.AgentStatus.BUSY, True, {"k": 1})


async def test_a_component_goes_on_where_it_had_worked_off_events(server: Any) -> None:
    async with open_client(server.base_url, server.token) as client:
        async with client.open_bus(HELLO) as bus:
            await bus.send([message(body=str(number)) for number in range(5)])
            async with aclosing(bus.events()) as events:
                assert [event.data["body"] for event in await heard(events, 3)] == ["0", "1", "2"]
        async with client.open_bus(HELLO) as bus, aclosing(bus.events()) as events:
            again = await heard(events, 3)  # the third was not worked off: nothing was asked for after it
            assert [event.data["body"] for event in again] == ["2", "3", "4"]


async def test_a_slow_client_neither_loses_events_nor_keeps_them_all(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bus_link, "MOST_BUFFERED", 5)
    async with open_client(server.base_url, server.token) as client, client.open_bus(HELLO) as bus:
        for number in range(10):
            await bus.send([message(body=f"{number}/{each}") for each in range(10)])
        async with aclosing(bus.events()) as events:
            bodies = [event.data["body"] for event in await heard(events, 100)]
        assert bodies == [f"{number}/{each}" for number in range(10) for each in range(10)]
        assert bus.lost > 0


async def test_what_comes_while_a_slow_client_catches_up_is_told_after_what_was_left_out(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bus_link, "MOST_BUFFERED", 5)
    left_out = [str(number) for number in range(10)]
    long = [f"{number} {'x' * 60_000}" for number in range(15)]
    sender = Hello(role=Role.DASHBOARD, component_id="sender")
    async with (
        open_client(server.base_url, server.token) as client,
        client.open_bus(HELLO) as bus,
        client.open_bus(sender) as other,
    ):
        await bus.send([message(body=body) for body in left_out])
        while not bus._link._full:
            await bus.heartbeat()
        await other.send([message(body=body) for body in long])
        async with aclosing(other.events()) as events:
            await heard(events, len(left_out) + len(long))
        async with aclosing(bus.events()) as events:
            told = await heard(events, len(left_out) + len(long))
        assert [event.data["body"] for event in told] == left_out + long


async def test_who_cannot_ask_again_gets_an_answer_before_a_slow_client_catches_up(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bus_link, "MOST_BUFFERED", 5)
    bodies = [str(number) for number in range(11)]
    async with relay.client() as client, client.open_bus(HELLO) as bus:
        await bus.send([message(body=body) for body in bodies[:-1]])
        while not bus._link._full:
            await bus.heartbeat()
        assert relay.process is not None
        relay.process.send_signal(signal.SIGSTOP)
        told: list[StreamedEvent] = []
        answers: list[wire.Message | Refused] = []
        async with aclosing(bus.events()) as events, trio.open_nursery() as nursery:

            async def send() -> None:
                answers.extend(await bus.send([message(body=bodies[-1])]))

            async def listen() -> None:
                told.extend(await heard(events, len(bodies)))

            nursery.start_soon(send)
            await until(lambda: len(bus._link._questions) == 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(listen)
            await until(lambda: not bus._link._buffer)
            await trio.testing.wait_all_tasks_blocked()
            relay.process.send_signal(signal.SIGCONT)
        assert isinstance(answers[0], wire.Message)
        assert [event.data["body"] for event in told] == bodies


@pytest.mark.spec("BUS-6")
async def test_a_client_without_room_still_hears_that_its_place_is_gone(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bus_link, "MOST_BUFFERED", 5)
    async with relay.client() as client, client.open_bus(HELLO) as bus:
        for number in range(10):
            await bus.send([message(body=str(number), idempotency_key=str(number))])
        relay.stop(signal.SIGKILL)
        for path in relay.home.glob("relay.db*"):
            path.unlink()
        await relay.start()
        with trio.fail_after(20):
            await bus.heartbeat()
        async with aclosing(bus.events()) as events:
            assert len(await heard(events, 1, "reset")) == 1
            await bus.send([message(body="new")])
            assert [event.data["body"] for event in await heard(events, 1)] == ["new"]


@pytest.mark.spec("BUS-6", "M-I1", "M-I31")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_is_lost_and_nothing_comes_twice_when_the_server_ends_and_begins_again(
    relay: Relay, number: signal.Signals
) -> None:
    told: list[str] = []
    ids: list[int] = []
    texts = [f"{count}" for count in range(300)]
    async with relay.client() as client, client.open_bus(HELLO) as bus, trio.open_nursery() as nursery:

        async def listen() -> None:
            async with aclosing(bus.events()) as events:
                async for event in events:
                    assert event.type != "reset"
                    ids.append(event.id)
                    if event.type == "message.new":
                        told.append(event.data["body"])

        async def send() -> None:
            for start in range(0, len(texts), 5):
                sent = await bus.send(
                    [message(body=text, idempotency_key=text) for text in texts[start : start + 5]]
                )
                assert all(isinstance(each, wire.Message) for each in sent)

        nursery.start_soon(listen)
        nursery.start_soon(send)
        with trio.fail_after(60):
            for enough in (50, 150):
                await until(lambda: len(told) >= enough)  # noqa: B023
                relay.stop(number)
                await relay.start()
            await until(lambda: len(told) >= len(texts))
        assert bus.lost >= 2
        assert told == texts
        assert ids == sorted(set(ids))
        nursery.cancel_scope.cancel()


async def test_what_may_not_be_asked_twice_says_that_it_is_open(relay: Relay) -> None:
    async with relay.client() as client, client.open_bus(HELLO) as bus:
        assert relay.process is not None
        relay.process.send_signal(signal.SIGSTOP)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(Unreachable):
                    await bus.send([message()])
                nursery.cancel_scope.cancel()

            nursery.start_soon(send)
            await until(lambda: len(bus._link._questions) == 1)
            await trio.testing.wait_all_tasks_blocked()
            relay.stop(signal.SIGKILL)
        await relay.start()
        with trio.fail_after(20):
            await bus.heartbeat()
