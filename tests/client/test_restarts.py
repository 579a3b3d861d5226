"""The client while the server is killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from faulty import until

from relay import wire
from relay.cli.demo.ports import reserve_port
from relay.client import Client, Unreachable, open_client

WITHIN = 60.0  # seconds that a server may take to start or to end, on a machine that has much else to do


@attrs.define
class Relay:
    """A server process on one file and one port."""

    home: Path
    port: int = attrs.field(factory=reserve_port)
    process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AGENT_RELAY")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relay", "serve", "--port", str(self.port), "--json"],
            env=environment | {"RELAY_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        with trio.fail_after(WITHIN):
            announced = await trio.to_thread.run_sync(self.process.stdout.readline)
        self.port = int(json.loads(announced)["url"].rpartition(":")[2])

    def stop(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=WITHIN)

    def client(self) -> AbstractAsyncContextManager[Client]:
        return open_client(f"http://127.0.0.1:{self.port}", (self.home / "token").read_text().strip())


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(tmp_path)
    await relay.start()
    yield relay
    relay.stop(signal.SIGKILL)


@asynccontextmanager
async def listening(relay: Relay, agent: str | None = None) -> AsyncIterator[list[tuple[int, str]]]:
    """The messages that a client hears of, as they come: event id and text."""
    heard: list[tuple[int, str]] = []
    connected = trio.Event()

    async def listen(client: Client) -> None:
        async with aclosing(client.events(agent)) as events:
            connected.set()
            async for event in events:
                if event.type == "message.new":
                    heard.append((event.id, event.data["body"]))  # noqa: PERF401 - seen as they come

    with trio.fail_after(3 * WITHIN):
        async with relay.client() as client, trio.open_nursery() as nursery:
            nursery.start_soon(listen, client)
            await connected.wait()
            while not (await client.health()).counts.sse_connections:
                await trio.lowlevel.checkpoint()
            yield heard
            nursery.cancel_scope.cancel()


async def send(client: Client, text: str) -> None:
    await client.send(wire.SendMessage(from_="user", to="a1", body=text, idempotency_key=text))


@pytest.mark.spec("M-235", "M-I31", "W-I21")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_stream_goes_on_without_gap_or_repeat(relay: Relay, number: signal.Signals) -> None:
    async with listening(relay) as heard, relay.client() as sender:
        texts = [f"{life}/{count}" for life in range(3) for count in range(20)]
        for life in range(3):
            for text in texts[life * 20 : life * 20 + 20]:
                await send(sender, text)
            relay.stop(number)
            await relay.start()
        await until(lambda: len(heard) >= len(texts))
        assert [text for _, text in heard] == texts
        assert heard == sorted(set(heard))


@pytest.mark.parametrize("agent", [None, "a1"])
async def test_what_happened_while_a_stream_was_lost_is_heard_although_it_had_heard_nothing_yet(
    relay: Relay, agent: str | None
) -> None:
    async with relay.client() as sender:
        await sender.register_agent(wire.RegisterAgent(id="a1"))
        await send(sender, "before")
        async with listening(relay, agent) as heard:
            relay.stop(signal.SIGKILL)
            await relay.start()
            await send(sender, "after")
            await until(lambda: bool(heard))
            assert [text for _, text in heard] == ["after"]


@pytest.mark.spec("MSG-13", "MSG-14")
async def test_a_message_with_a_key_survives_a_kill_and_is_there_once(relay: Relay) -> None:
    """Sent again and again while the server dies and comes back, by a caller that only knows `Unreachable`."""
    async with relay.client() as client:
        await client.register_agent(wire.RegisterAgent(id="a1"))
        texts = [str(number) for number in range(60)]

        async def send_all() -> None:
            for text in texts:
                while True:
                    try:
                        await send(client, text)
                        break
                    except Unreachable:
                        await trio.sleep(0.05)

        with trio.fail_after(3 * WITHIN):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all)
                for sent in (10, 30):
                    while await client.cursor() < sent:
                        await trio.lowlevel.checkpoint()
                    relay.stop(signal.SIGKILL)
                    await relay.start()
        assert [each.body for each in await client.messages(for_="a1")] == texts


async def test_a_relay_that_is_gone_is_unreachable(relay: Relay) -> None:
    async with relay.client() as client:
        await client.health()
        relay.stop(signal.SIGKILL)
        with pytest.raises(Unreachable, match=client.url):
            await client.health()
        await relay.start()
        assert (await client.health()).status == "ok"
