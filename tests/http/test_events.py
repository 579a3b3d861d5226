"""`GET /api/events` on a whole server: order, resumption, bounds, and clients that do not read."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx2
import orjson
import pytest
import trio
from rawhttp import Connection, request

from relay.http import Settings, events, feed, serve
from relay.http.hosting import Hosting
from relay.store import EventLog, LoggedEvent


@attrs.frozen
class Received:
    id: int
    type: str
    data: Any


class Reader:
    """An event stream as a client sees it."""

    def __init__(self, client: Connection) -> None:
        self._client = client
        self._text = b""

    async def block(self) -> bytes:
        """The next event or comment, as it was written."""
        with trio.fail_after(10):
            while b"\n\n" not in self._text:
                size = int(await self._client.until(b"\r\n"), 16)
                assert size, "the stream has ended"
                self._text += await self._client.exactly(size)
                await self._client.until(b"\r\n")
        block, _, self._text = self._text.partition(b"\n\n")
        return block

    async def event(self) -> Received:
        """The next event; comments are passed over."""
        while (block := await self.block()).startswith(b":"):
            pass
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        assert list(fields) == [b"id", b"event", b"data"]
        return Received(int(fields[b"id"]), fields[b"event"].decode(), orjson.loads(fields[b"data"]))

    async def until(self, kind: str) -> Received:
        while (event := await self.event()).type != kind:
            pass
        return event

    async def ended(self) -> None:
        """Waits for the proper end of the stream."""
        with trio.fail_after(10):
            while int(await self._client.until(b"\r\n"), 16):
                await self._client.until(b"\r\n")


@asynccontextmanager
async def stream(server: Any, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    """An open stream, after its first comment."""
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as tcp:
        client = Connection(tcp)
        await client.send(request("GET", f"/api/events{query}", x_agent_relay_token=server.token, **headers))
        head = await client.until(b"\r\n\r\n")
        assert b" 200 " in head
        assert b"content-type: text/event-stream" in head.lower()
        reader = Reader(client)
        assert (await reader.block()).startswith(b":")
        yield reader


async def send(api: httpx2.AsyncClient, **members: Any) -> int:
    answer = await api.post("/api/messages", json={"from": "a1", "to": "a2", "body": "x", **members})
    assert answer.status_code == 201
    return int(answer.json()["id"])


@pytest.mark.spec("M-235", "SSE-1", "SSE-6", "SSE-9", "W-I21")
async def test_what_happens_is_told_in_order_to_whoever_listens(server: Any, api: httpx2.AsyncClient) -> None:
    async with stream(server) as first, stream(server) as second:
        sent = [await send(api, body=str(number)) for number in range(5)]
        for reader in (first, second):
            heard = [await reader.until("message.new") for _ in sent]
            assert [event.data["id"] for event in heard] == sent
            assert [event.data["body"] for event in heard] == ["0", "1", "2", "3", "4"]


async def test_a_stream_begins_now_unless_it_resumes(server: Any, api: httpx2.AsyncClient) -> None:
    await send(api, body="before")
    async with stream(server) as reader:
        await send(api, body="after")
        assert (await reader.until("message.new")).data["body"] == "after"


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_client_that_comes_back_gets_exactly_what_it_missed(
    server: Any, api: httpx2.AsyncClient, how: str
) -> None:
    async with stream(server) as reader:
        await send(api, body="0")
        seen = await reader.until("message.new")
    missed = [await send(api, body=str(number)) for number in range(1, 40)]
    query, headers = ("", {"last_event_id": str(seen.id)}) if how == "header" else (f"?after={seen.id}", {})
    async with stream(server, query, **headers) as reader:
        heard = [await reader.event() for _ in range(2 * len(missed))]
        assert [event.id for event in heard] == list(range(seen.id + 1, seen.id + 1 + len(heard)))
        assert [e.data["id"] for e in heard if e.type == "message.new"] == missed


async def test_a_client_that_missed_too_much_or_comes_from_elsewhere_is_told_to_start_over(
    server: Any, api: httpx2.AsyncClient
) -> None:
    await send(api)
    async with stream(server, last_event_id="999999") as reader:
        reset = await reader.event()
        assert reset.type == "reset"
        assert reset.data["last"] == reset.id
        await send(api, body="next")
        assert (await reader.until("message.new")).data["body"] == "next"


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 20])
async def test_a_resume_point_that_is_no_event_id_is_400(api: httpx2.AsyncClient, value: str) -> None:
    assert (await api.get("/api/events", headers={"Last-Event-ID": value})).status_code == 400
    assert (await api.get("/api/events", params={"after": value})).status_code == 400


@pytest.mark.spec("M-236", "M-237", "SSE-2", "SSE-3", "SSE-7")
async def test_a_bound_stream_hears_what_concerns_its_agent(server: Any, api: httpx2.AsyncClient) -> None:
    for name, tags in (("a1", []), ("a2", []), ("a3", ["t"])):
        await api.post("/api/agents", json={"id": name, "tags": tags})
    async with stream(server, "?agentId=a3") as bound, stream(server, "?agentId=ghost") as ghost:
        for to in ("tag:t", "a2", "broadcast", "a3"):
            await send(api, to=to, body=to)
        await send(api, **{"from": "a3", "to": "a2", "body": "mine"})
        await api.post("/api/commands", json={"type": "x", "source": "s", "target": "a2"})
        await api.post("/api/commands", json={"type": "y", "source": "s", "target": "a3"})
        heard = [await bound.event() for _ in range(5)]
        assert [event.data.get("body") for event in heard[:4]] == ["tag:t", "broadcast", "a3", "mine"]
        assert (heard[4].type, heard[4].data["command"]["type"]) == ("command.requested", "y")
        await api.post("/api/agents", json={"id": "ghost"})
        assert (await ghost.event()).type == "agent.status"


@pytest.mark.spec("SSE-4", "M-I30")
async def test_a_stream_that_resumes_is_told_what_concerned_the_agent_when_it_happened(
    server: Any, api: httpx2.AsyncClient
) -> None:
    async def tagged(*tags: str) -> None:
        await api.post("/api/agents", json={"id": "a3", "tags": list(tags)})

    async with stream(server) as every:
        await tagged("t")
        start = (await every.until("agent.status")).id
        await send(api, to="tag:t", body="had it")
        await send(api, to="tag:u", body="has it not yet")
        await tagged("u")
        await send(api, to="tag:t", body="has it no more")
        await send(api, to="tag:u", body="has it now")
        await api.delete("/api/agents/a3")
        end = (await every.until("agent.removed")).id
    async with stream(server, f"?agentId=a3&after={start}") as again:
        heard = [await again.event() for _ in range(4)]
        assert [event.data.get("body") for event in heard] == ["had it", None, "has it now", None]
    await tagged("t")
    async with stream(server, f"?agentId=a3&after={end}") as later:
        assert (await later.event()).type == "agent.status"


async def test_a_stream_of_some_types_is_told_no_others(server: Any, api: httpx2.AsyncClient) -> None:
    async with stream(server, "?types=agent.status,%20command.*") as reader:
        await send(api)
        await api.post("/api/agents", json={"id": "a3"})
        await api.post("/api/commands", json={"type": "y", "source": "s", "target": "a3"})
        assert [(await reader.event()).type for _ in range(2)] == ["agent.status", "command.requested"]


async def test_a_bound_stream_follows_its_agent_though_it_wants_no_news_of_it(
    server: Any, api: httpx2.AsyncClient
) -> None:
    async with stream(server, "?agentId=a3&types=message.*") as reader:
        await api.post("/api/agents", json={"id": "a3", "tags": ["t"]})
        await send(api, to="tag:t", body="yours")
        assert (await reader.event()).data["body"] == "yours"


@pytest.mark.parametrize("types", ["*", "message.", ".*", "Message.new", "a,,b", ",".join(["a.b"] * 51)])
async def test_types_that_name_nothing_are_400(api: httpx2.AsyncClient, types: str) -> None:
    answer = await api.get("/api/events", params={"types": types})
    assert answer.status_code == 400
    assert "types" in answer.json()["error"]


async def test_silence_is_broken_by_comments(
    server: Any, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE", 0.05)
    async with stream(server) as all_, stream(server, "?agentId=ghost") as bound:
        for reader in (all_, bound):
            assert (await reader.block()).startswith(b":")
            assert (await reader.block()).startswith(b":")
        await send(api)
        assert (await bound.block()).startswith(b":")


async def test_open_streams_are_counted_and_forgotten(server: Any, api: httpx2.AsyncClient) -> None:
    async def count() -> int:
        return int((await api.get("/api/health")).json()["counts"]["sseConnections"])

    async with stream(server), stream(server):
        assert await count() == 2
    with trio.fail_after(10):
        while await count():
            await trio.lowlevel.checkpoint()


@pytest.mark.spec("M-239", "M-I31", "EVT-3")
async def test_a_client_that_never_reads_delays_nobody(server: Any, api: httpx2.AsyncClient) -> None:
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await trio.to_thread.run_sync(deaf.connect, ("127.0.0.1", server.port))
        deaf.sendall(request("GET", "/api/events", x_agent_relay_token=server.token))
        async with stream(server) as reader:
            for number in range(120):  # 6 MB: more than all buffers on the way take
                await send(api, body=str(number) + "x" * 50_000)
                event = await reader.until("message.new")
                assert event.data["body"].startswith(str(number))


async def test_a_client_that_stopped_reading_can_resume(server: Any, api: httpx2.AsyncClient) -> None:
    async with stream(server) as slow:
        await send(api)
        seen = await slow.until("message.new")
        sent = [await send(api, body=str(number) + "x" * 50_000) for number in range(60)]
    async with stream(server, last_event_id=str(seen.id)) as again:
        assert [(await again.until("message.new")).data["id"] for _ in sent] == sent


async def test_the_server_stops_although_streams_are_open(tmp_path: Any) -> None:
    stop, ended = trio.Event(), trio.Event()
    settings = Settings(database=None, home=tmp_path, port=0, hosting=Hosting(grace=60.0))

    async def run(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await serve(settings, stop=stop, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        ready = await nursery.start(run)
        port = int(ready.base_url.rpartition(":")[2])
        server = attrs.make_class("At", ["port", "token"])(port, ready.token)
        async with stream(server) as reader:
            stop.set()
            await reader.ended()
            with trio.fail_after(10):
                await ended.wait()


async def test_what_is_given_up_while_a_listener_is_about_to_read_it_is_not_passed_over(
    api: httpx2.AsyncClient,
) -> None:
    class Trimmed(EventLog):
        async def read_after(self, cursor: int, limit: int = 1_000) -> list[LoggedEvent]:
            self.forget(10)
            return await super().read_after(cursor, limit)

    def rows(sql: str, *given: int) -> list[tuple[Any, ...]]:
        if not given:
            return [(None, None)]
        first, last, limit = given
        columns = (2,) if "octet_length" in sql else (0, "x", "s", None, "{}")
        return [(number, *columns) for number in range(first + 1, min(last, first + limit) + 1)]

    log = Trimmed(rows)
    log.append([LoggedEvent(number, 0, "x", "s", None, b"{}") for number in range(1, 2_000)])
    listener = feed.Feed(log, feed.everything, 0)
    assert not listener.lost
    assert not await listener.next(trio.current_time() + 1)
    assert listener.lost
    assert listener.start_over()["oldest"] == log.oldest_id == 1_990


def test_chunks_are_bounded_and_hold_whole_events() -> None:
    made = [LoggedEvent(number, 0, "t", "s", None, b"x" * 100_000) for number in range(1, 8)]
    chunks = list(events._chunks(made))
    assert b"".join(chunks).count(b"\n\n") == 7
    assert [chunk.count(b"\n\n") for chunk in chunks] == [2, 2, 2, 1]
    assert all(len(chunk) <= feed.MOST_BYTES for chunk in chunks)
    huge = [LoggedEvent(1, 0, "t", "s", None, b"x" * 1_000_000)]
    assert len(list(events._chunks(huge))) == 1
