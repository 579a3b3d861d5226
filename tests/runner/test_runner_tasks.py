"""Tasks in a runner: begun when they are claimed, done when a turn that had them has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from runnerkit import Host, Relay, until

from relay.client import open_client
from relay.runner import Options
from relay.runner.activity import Activity
from relay.runner.claims import Claims

START, END = {"type": "turn", "state": "start"}, {"type": "turn", "state": "end"}


async def report(relay: Relay, body: str, **event: Any) -> dict[str, Any]:
    """A task for the agent, who does what `body` says to it."""
    asked = {"title": "a task", "body": body, "target": "a1", **event}
    answer = await relay.http.post("/api/integrations/events", json=asked)
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["task"])


async def known(relay: Relay) -> None:
    """The agent has been there before, so that what is sent before it starts is for somebody."""
    await relay.http.post("/api/agents", json={"id": "a1", "status": "idle"})


async def status(relay: Relay, task: dict[str, Any]) -> str:
    return str((await relay.get(f"/api/tasks/{task['id']}"))["status"])


async def history(relay: Relay, task: dict[str, Any]) -> list[dict[str, Any]]:
    events = await relay.get(f"/api/tasks/{task['id']}/events")
    return [event for event in events if event["type"] == "status"]


def becomes(relay: Relay, task: dict[str, Any], wanted: str) -> Any:
    async def is_so() -> bool:
        return await status(relay, task) == wanted

    return is_so


async def speak(relay: Relay, *frames: dict[str, Any]) -> int:
    """Have the agent say these frames."""
    return await relay.send("frames", payload={"frames": list(frames)})


async def held(relay: Relay) -> set[str]:
    return set((await relay.agent())["meta"]["busyReasons"])


@pytest.mark.spec("R-30", "R-31", "R-I9", "R-I10", "TSK-8")
async def test_a_task_is_in_progress_from_its_claim_on_and_done_at_the_end_of_its_turn(
    host: Host, relay: Relay
) -> None:
    async with host.running():
        task = await report(relay, "work")
        await until(becomes(relay, task, "in_progress"))
        await until(lambda: relay.has_status("busy"))
        await speak(relay, END)
        await until(becomes(relay, task, "done"))
        await until(lambda: relay.has_status("idle"))
    begun, done = await history(relay, task)
    metadata = {"messageId": task["messageId"], "completedBy": "runner"}
    assert (begun["status"], begun["agentId"], begun["metadata"]) == ("in_progress", "a1", metadata)
    assert (done["status"], done["agentId"], done["metadata"]) == ("done", "a1", metadata)
    assert str(task["messageId"]) in done["body"]
    assert "claimedBy" not in await relay.get(f"/api/messages/{task['messageId']}")


@pytest.mark.spec("R-32", "R-I9")
async def test_the_end_of_a_turn_that_nobody_saw_begin_proves_nothing(host: Host, relay: Relay) -> None:
    async with host.running():
        task = await report(relay, "do it")
        await until(becomes(relay, task, "in_progress"))
        last = await speak(relay, END)
        await until(lambda: relay.is_read(last))
        assert await status(relay, task) == "in_progress"
        await speak(relay, START, END)
        await until(becomes(relay, task, "done"))


@pytest.mark.spec("R-33")
async def test_a_turn_that_runs_when_the_task_comes_is_one_that_has_it(host: Host, relay: Relay) -> None:
    async with host.running():
        await relay.send("work")
        await until(lambda: relay.has_status("busy"))
        task = await report(relay, "do it")
        await until(becomes(relay, task, "in_progress"))
        await until(lambda: relay.is_read(task["messageId"]))
        await speak(relay, END)
        await until(becomes(relay, task, "done"))


@pytest.mark.spec("R-45", "R-I9")
async def test_a_turn_that_the_agent_died_in_completes_nothing(host: Host, relay: Relay) -> None:
    async with host.running():
        task = await report(relay, "work")
        await until(lambda: relay.is_read(task["messageId"]))
        await relay.send("mortal")
        await until(lambda: len(host.noted("started")) == 2)
        last = await speak(relay, END)
        await until(lambda: relay.is_read(last))
        assert await status(relay, task) == "in_progress"
        await speak(relay, START, END)
        await until(becomes(relay, task, "done"))


@pytest.mark.spec("A5")
async def test_a_turn_that_failed_completes_nothing(host: Host, relay: Relay) -> None:
    async with host.running():
        task = await report(relay, "work")
        await until(lambda: relay.is_read(task["messageId"]))
        last = await speak(relay, {**END, "metadata": {"failed": True}})
        await until(lambda: relay.is_read(last))
        assert await status(relay, task) == "in_progress"
        await speak(relay, START, END)
        await until(becomes(relay, task, "done"))


@pytest.mark.spec("R-I10")
async def test_how_a_task_has_ended_already_is_left_as_it_is(host: Host, relay: Relay) -> None:
    async with host.running():
        task = await report(relay, "work")
        await until(lambda: relay.is_read(task["messageId"]))
        body = {"status": "failed", "agentId": "a1", "body": "it cannot be done"}
        assert (await relay.http.post(f"/api/tasks/{task['id']}/status", json=body)).status_code == 200
        await speak(relay, END)
        await until(lambda: relay.has_status("idle"))
        assert await status(relay, task) == "failed"


async def test_an_agent_that_speaks_of_its_task_itself_is_not_spoken_for(host: Host, relay: Relay) -> None:
    async with host.running():
        task = await report(relay, "work")
        await until(lambda: relay.is_read(task["messageId"]))
        await speak(relay, {"type": "task", "taskId": task["id"], "status": "blocked", "body": "no key"}, END)
        await until(becomes(relay, task, "blocked"))
        last = await speak(relay, START, END)
        await until(lambda: relay.is_read(last))
        assert await status(relay, task) == "blocked"
        for frame in ({"status": "over"}, {"status": 1}, {}, {"taskId": "1"}):
            await speak(relay, {"type": "task", "taskId": task["id"], **frame})
        said = {"type": "task", "taskId": task["id"], "metadata": {"commit": "3f2c"}}
        await speak(relay, {**said, "status": "in_progress"}, {**said, "status": "done"})
        await until(becomes(relay, task, "done"))
        await until(lambda: relay.has_status("idle"))
    assert [event["status"] for event in await history(relay, task)] == [
        "in_progress", "blocked", "in_progress", "done",
    ]  # fmt: skip
    assert (await history(relay, task))[-1]["metadata"] == {"commit": "3f2c"}


@pytest.mark.spec("R-35")
async def test_a_task_that_relay_does_not_know_is_delivered_all_the_same(host: Host, relay: Relay) -> None:
    async with host.running():
        number = await relay.send("work", claimable=True, payload={"taskId": 404})
        await until(lambda: relay.is_read(number))
        await until(lambda: relay.has_status("busy"))
        await speak(relay, END)
        await until(lambda: relay.has_status("idle"))


NO = (
    b"HTTP/1.1 500 No\r\ncontent-length: 13\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"error":"x"}'
)
CUT = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)  # a connection that is no more


class Between:
    """Stands between a runner and the server, and answers 500 to whatever is said of tasks while it is `failing`."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self.failing = False
        self.failed = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        assert self._server.hostname is not None
        assert self._server.port is not None
        with suppress(*CUT):
            async with stream, await trio.open_tcp_stream(self._server.hostname, self._server.port) as server:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._back, server, stream)
                    await self._forth(stream, server)
                    nursery.cancel_scope.cancel()

    async def _forth(self, stream: trio.SocketStream, server: trio.SocketStream) -> None:
        with suppress(*CUT):
            async for some in stream:
                if self.failing and b"POST /api/tasks/" in some:
                    self.failed += 1
                    await stream.send_all(NO)
                    return
                await server.send_all(some)

    async def _back(self, server: trio.SocketStream, stream: trio.SocketStream) -> None:
        with suppress(*CUT):
            async for some in server:
                await stream.send_all(some)


@asynccontextmanager
async def between(url: str) -> AsyncIterator[tuple[Between, str]]:
    proxy = Between(url)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, proxy.serve, 0, host="127.0.0.1"))
        yield proxy, f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.spec("R-34", "R-35", "R-I10")
async def test_what_relay_could_not_be_told_is_told_at_the_end_of_the_next_turn(
    host: Host, relay: Relay
) -> None:
    async with between(host.url) as (proxy, url), host.running(relay_url=url):
        proxy.failing = True
        task = await report(relay, "work")
        await until(lambda: relay.is_read(task["messageId"]))
        assert await status(relay, task) == "claimed"
        before = proxy.failed
        await speak(relay, END)
        await until(lambda: proxy.failed > before)
        proxy.failing = False
        await until(lambda: relay.has_status("busy"))
        assert "task" in await held(relay)
        await speak(relay, START, END)
        await until(becomes(relay, task, "done"))
        await until(lambda: relay.has_status("idle"))
    assert [event["status"] for event in await history(relay, task)] == ["done"]


@pytest.mark.spec("R-41")
async def test_all_claims_on_tasks_are_renewed_and_that_is_published_once(
    host: Host, relay: Relay, server: Any
) -> None:
    await known(relay)
    first, second = await report(relay, "x"), await report(relay, "y")
    options = Options(
        provider="command", agent_id="a1", cwd=host.folder, relay_url=server.base_url, token=server.token,
        provider_config=host.provider, state_dir=host.state, renewal=0.1,
    )  # fmt: skip
    published = 0

    def publish() -> None:
        nonlocal published
        published += 1

    async with open_client(server.base_url, server.token) as client, trio.open_nursery() as nursery:
        claims = Claims(options, client, Activity(trio.current_time), publish)
        for task in (first, second):
            assert await claims.win(await client.message(task["messageId"]))
        ends = [(await client.task(task["id"])).claim_expires_at or 0 for task in (first, second)]
        before = published
        nursery.start_soon(claims.renew)
        await until(lambda: published > before)
        assert published == before + 1
        nursery.cancel_scope.cancel()
    for task, end in zip((first, second), ends, strict=True):
        renewed = await relay.get(f"/api/tasks/{task['id']}")
        message = await relay.get(f"/api/messages/{task['messageId']}")
        assert renewed["claimExpiresAt"] == message["claimExpiresAt"] > end * 1000


@pytest.mark.spec("TSK-13", "R-I10")
async def test_a_task_that_its_runner_leaves_behind_is_orphaned(host: Host, relay: Relay) -> None:
    async with host.running() as running:
        task = await report(relay, "work")
        await until(lambda: relay.is_read(task["messageId"]))
        assert (await relay.done("agent.shutdown"))["status"] == "succeeded"
        await until(lambda: running.code is not None)
    assert await status(relay, task) == "orphaned"
