"""Five hundred listeners of one server process, one of whom has stopped reading."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import attrs
import httpx2
import pytest
import trio
from busclient import bus
from rawhttp import request

LISTENERS = 499
WARMING = 9  # rounds until all that is kept in memory is there
ROUNDS = 14
LARGE = 20  # messages a round that only the one who has stopped reading would hear, of 100 kB each
STALLED = 3.0  # seconds
GROWTH = 16  # megabytes: half of what the stopped listener is not sent
SERVER = f"""
import sys
from pathlib import Path
import trio
from relay.http import Settings, serve
from relay.http.hosting import Hosting

async def main():
    home = Path(sys.argv[1])
    async with trio.open_nursery() as nursery:
        settings = Settings(database=home / "relay.db", home=home, port=0, hosting=Hosting(stalled={STALLED}))
        ready = await nursery.start(lambda task_status: serve(settings, task_status=task_status))
        print(ready.base_url.rpartition(":")[2], ready.token, flush=True)

trio.run(main)
"""


@attrs.frozen
class Server:
    port: int
    token: str
    pid: int

    def memory(self) -> int:
        """What is resident, in megabytes."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())[1]) // 1024


@asynccontextmanager
async def process(home: Path) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        program = [sys.executable, "-c", SERVER, str(home)]
        running = await nursery.start(
            lambda task_status: trio.run_process(
                program, capture_stdout=False, stdout=PIPE, check=False, task_status=task_status
            )
        )
        with trio.fail_after(30):
            port, token = (await _line(running.stdout)).split()
        yield Server(int(port), token, running.pid)
        running.kill()


async def _line(output: trio.abc.ReceiveStream) -> str:
    text = b""
    while not text.endswith(b"\n"):
        text += await output.receive_some()
    return text.decode()


@asynccontextmanager
async def stream(server: Server, query: str, after: int | None = None) -> AsyncIterator[trio.SocketStream]:
    """An event stream as it is, without the chunks of HTTP/1.1; it begins with the head of the answer."""
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        opened.setblocking(False)
        tcp = trio.SocketStream(trio.socket.from_stdlib_socket(opened))
        await tcp.socket.connect(("127.0.0.1", server.port))
        resumed = {} if after is None else {"last_event_id": str(after)}
        head = request("GET", f"/api/events{query}", x_agent_relay_token=server.token, **resumed)
        await tcp.send_all(head.replace(b"HTTP/1.1", b"HTTP/1.0"))
        yield tcp


async def read(tcp: trio.SocketStream, ids: list[int], until: Callable[[], bool]) -> None:
    """Puts down the id of each event, and 0 for the first comment, with which a stream begins."""
    text = b""
    while not (ids and until()):
        data = await tcp.receive_some(65_536)
        assert data, "the stream has ended"
        *blocks, text = (text + data).split(b"\n\n")
        for block in blocks:
            if block.startswith(b"id: "):
                ids.append(int(block[4 : block.index(b"\n")]))
            elif b": relay" in block:
                ids.append(0)


class Listener:
    """One of the many: what it has heard."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    async def listen(self, server: Server) -> None:
        async with stream(server, "?agentId=a1&types=message.new") as tcp:
            await read(tcp, self.ids, until=lambda: False)


@pytest.mark.spec("M-I31", "M-239", "EVT-3")
async def test_one_of_500_listeners_has_stopped_reading(tmp_path: Path) -> None:
    async with process(tmp_path) as server, trio.open_nursery() as nursery:
        await run(server, nursery)
        nursery.cancel_scope.cancel()


async def run(server: Server, nursery: trio.Nursery) -> None:
    listeners = [Listener() for _ in range(LISTENERS)]
    credentials = {"X-Agent-Relay-Token": server.token}

    async def send_round(number: int) -> None:
        for _ in range(LARGE // 10):
            large = [{"from": "s", "to": "elsewhere", "body": "x" * 100_000}] * 10
            assert (await sender.ask("send", messages=large))["ok"]
        small = [{"from": "s", "to": "a1", "body": str(each)} for each in range(2)]
        assert (await sender.ask("send", messages=small))["ok"]
        await all_have(1 + 2 * number)

    async def all_have(count: int) -> None:
        with trio.fail_after(60):
            while not all(len(listener.ids) >= count for listener in listeners):
                await trio.sleep(0.01)

    async with (
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=credentials) as api,
        bus(server, role="orchestrator", componentId="sender", agentId="sender") as sender,
    ):
        await api.post("/api/agents", json={"id": "a1"})
        for listener in listeners:
            nursery.start_soon(listener.listen, server)
        await all_have(1)
        for number in range(WARMING):
            await send_round(number + 1)
        before = server.memory()
        async with stream(server, "") as stopped:
            heard: list[int] = []
            await send_round(WARMING + 1)
            await read(stopped, heard, until=lambda: max(heard) > 0)
            for number in range(WARMING + 1, WARMING + ROUNDS):
                await send_round(number + 1)
                assert server.memory() - before < GROWTH
            with trio.fail_after(20):
                while (await api.get("/api/health")).json()["counts"]["sseConnections"] > LISTENERS:
                    await trio.sleep(0.05)
    assert len({tuple(listener.ids) for listener in listeners}) == 1
    last = listeners[0].ids[-1]
    async with stream(server, "", after=max(heard)) as again:
        with trio.fail_after(60):
            await read(again, resumed := [], until=lambda: max(resumed) >= last)
    assert resumed == [0, *range(max(heard) + 1, max(resumed) + 1)]
