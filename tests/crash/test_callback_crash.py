"""Callbacks of a server process: one that is killed with SIGKILL still makes the calls that it owes.

The place that is called is a real socket of this test. The server is a real process on a real SQLite file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from relay.cli.demo.ports import reserve_port

HTTP = Path(__file__).parent.parent / "http"
sys.path.insert(0, str(HTTP))

from receiving import Called, Receiver, answering, receiving, silent  # noqa: E402

SECRET = "secret-of-sixteen-characters"
TOKEN = "callback-crash-test-token"


class Server:
    """`relay serve` on a port and files of its own, with one integration, `ci`."""

    def __init__(self, home: Path, callback: str) -> None:
        self.home = home
        self.configure(
            [{"name": "ci", "secret": SECRET, "callbackUrl": callback, "callbackAllow": ["127.0.0.1"]}]
        )
        self.port = reserve_port()
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, document: Any) -> None:
        path = self.home / "integrations.json"
        path.write_text(json.dumps(document))
        path.chmod(0o600)

    def start(self) -> None:
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "relay", "serve", "--port", str(self.port)],
                env={**os.environ, "RELAY_HOME": str(self.home), "AGENT_RELAY_TOKEN": TOKEN},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def log(self) -> str:
        return (self.home / "server.log").read_text()

    def client(self, token: str = SECRET) -> httpx2.AsyncClient:
        headers = {"X-Agent-Relay-Token": token}
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False)

    async def ready(self) -> None:
        async def answers() -> bool:
            assert self.process is not None and self.process.poll() is None, self.log()[-3000:]
            try:
                async with self.client() as client:
                    return (await client.get("/api/health")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(answers)

    async def report(self, title: str) -> Any:
        async with self.client() as client:
            body = {"title": title, "target": "a1"}
            answer = await client.post("/api/integrations/events", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["task"]


async def until(condition: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    with trio.fail_after(within):
        while not await condition():
            await trio.sleep(0.02)


async def heard(place: Receiver, count: int) -> list[Called]:
    async def all_there() -> bool:
        return len(place.calls) >= count

    await until(all_there)
    return place.calls


@asynccontextmanager
async def running(home: Path, callback: str) -> AsyncIterator[Server]:
    server = Server(home, callback)
    try:
        server.start()
        await server.ready()
        yield server
    finally:
        server.kill()


@pytest.mark.spec("INT-22", "O-36", "M-I38")
async def test_a_server_killed_between_task_and_callback_still_calls(tmp_path: Path) -> None:
    """The place answers nothing until the server is gone, so nothing can have been settled."""
    async with receiving(silent, answering(200)) as place, running(tmp_path, place.url) as server:
        tasks = [await server.report(f"t{number}") for number in range(5)]
        await heard(place, 1)
        server.kill()
        server.start()
        calls = await heard(place, 6)
        assert [call.json["task"]["id"] for call in calls] == [
            tasks[0]["id"],
            *(task["id"] for task in tasks),
        ]
        assert [call.json["task"]["title"] for call in calls[1:]] == ["t0", "t1", "t2", "t3", "t4"]
        assert calls[0].delivery == calls[1].delivery
        assert len({call.delivery for call in calls}) == 5
        assert all(call.is_signed_with(SECRET) for call in calls)
        await server.ready()
        assert (await server.report("later"))["id"] > tasks[-1]["id"]
        assert (await heard(place, 7))[6].json["task"]["title"] == "later"


@pytest.mark.spec("INT-22", "M-I38")
async def test_what_was_acknowledged_is_called_however_often_the_server_is_killed(tmp_path: Path) -> None:
    async with receiving() as place, running(tmp_path, place.url) as server:
        tasks: list[int] = []
        for round_ in range(2):
            async with server.client() as client:
                for number in range(3):
                    body = {"title": f"{round_}/{number}", "target": "a1", "key": f"{round_}/{number}"}
                    answer = await client.post("/api/integrations/events", json=body)
                    tasks.append(answer.json()["task"]["id"])
            server.kill()  # just after the answer, wherever the callback is
            server.start()
            await server.ready()

        async def all_called() -> bool:
            return {call.json["task"]["id"] for call in place.calls} >= set(tasks)

        await until(all_called)
        first: dict[str, int] = {}
        for call in place.calls:
            first.setdefault(call.delivery, call.json["task"]["id"])
            assert first[call.delivery] == call.json["task"]["id"], "one delivery id is one callback"
        assert list(first.values()) == tasks, "each callback once by its id, in order"


@pytest.mark.spec("INT-1")
async def test_a_hangup_reads_the_integrations_again(tmp_path: Path) -> None:
    async with receiving() as place, running(tmp_path, place.url) as server:
        await server.report("before")
        server.configure([{"name": "cd", "secret": SECRET[::-1], "target": []}])
        server.send(signal.SIGHUP)

        async def told() -> bool:
            return "the integrations stay as they were" in server.log()

        await until(told)
        await server.report("unchanged")
        server.configure([{"name": "cd", "secret": SECRET[::-1]}])
        server.send(signal.SIGHUP)

        async def others() -> bool:
            async with server.client(SECRET[::-1]) as client:
                answer = await client.post("/api/integrations/events", json={"title": "t", "target": "a1"})
            return answer.status_code == 201

        await until(others)
        async with server.client() as client:
            assert (await client.post("/api/integrations/events", json={})).status_code == 401


@contextmanager
def on_a_terminal(home: Path, prefix: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server that has a terminal of its own, and the other end of that. What it says is in `server.log`."""
    terminal, end = os.openpty()
    serve = f"exec {prefix} {sys.executable} -m relay serve --port 0 < {os.ttyname(end)}"
    with (home / "server.log").open("wb") as log:
        child = subprocess.Popen(
            [
                "sh",
                "-c",
                serve,
            ],  # the first terminal that the leader of a session opens is that of the session
            env={**os.environ, "RELAY_HOME": str(home), "AGENT_RELAY_TOKEN": TOKEN},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(end)
    try:
        yield child, terminal
    finally:
        child.kill()
        child.wait(10)


READ_AGAIN = "0 integrations are configured now"


async def test_a_server_whose_terminal_is_gone_ends(tmp_path: Path) -> None:
    """It would be left over, and hold its database. As long as there is a terminal, SIGHUP is as anywhere."""
    with on_a_terminal(tmp_path) as (child, terminal):
        await says(tmp_path, "relay is at")
        child.send_signal(signal.SIGHUP)
        await says(tmp_path, READ_AGAIN)
        assert child.poll() is None
        os.close(terminal)

        async def has_ended() -> bool:
            return child.poll() is not None

        await until(has_ended)
    assert child.returncode == 0


async def test_a_server_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path, "nohup") as (child, terminal):
        await says(tmp_path, "relay is at")
        os.close(terminal)
        await says(tmp_path, READ_AGAIN)
        child.send_signal(signal.SIGHUP)
        await says(tmp_path, READ_AGAIN, times=2)
        assert child.poll() is None


async def says(home: Path, text: str, times: int = 1) -> None:
    async def said() -> bool:
        return (home / "server.log").read_text().count(text) >= times

    await until(said)
