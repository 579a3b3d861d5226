"""A server on loopback that answers each request as a test says, and counts what it sees. For faults of transport
only: whatever relay itself does is tested against relay."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import attrs
import trio


@attrs.frozen
class Request:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[trio.SocketStream, Request], Awaitable[None]]


@attrs.define
class Faulty:
    """`script` has one behaviour for each request to come; the last one stays."""

    script: list[Behaviour]
    url: str = ""
    requests: list[Request] = attrs.field(factory=list)
    open: int = 0
    most: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while (request := await _request(stream)) is not None:
                self.requests.append(request)
                behave = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                await behave(stream, request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def closed(self) -> None:
        """Waits until no connection is open."""
        await until(lambda: self.open == 0)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):  # a client that looks for a server takes its time, and so does a busy machine
        while not condition():
            await trio.sleep(0.005)


@asynccontextmanager
async def faulty(*script: Behaviour) -> AsyncIterator[Faulty]:
    """The server, for a block that takes no longer than 20 seconds."""
    server = Faulty(list(script))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, server.serve, 0)
            server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            yield server
            nursery.cancel_scope.cancel()


def answer(status: int, content: object, **headers: str) -> Behaviour:
    """A proper answer: JSON, or bytes as they are. An underscore in a header's name stands for a dash."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return raw(_head(status, content_length=str(len(body)), **headers) + body)


def raw(data: bytes) -> Behaviour:
    async def behave(stream: trio.SocketStream, _: Request) -> None:
        await stream.send_all(data)

    return behave


def cut(data: bytes) -> Behaviour:
    """Sends `data` and closes the connection."""

    async def behave(stream: trio.SocketStream, _: Request) -> None:
        await stream.send_all(data)
        await stream.aclose()

    return behave


def half(content: object) -> Behaviour:
    """Closes the connection in the middle of the body."""
    body = json.dumps(content).encode()
    return cut(_head(200, content_length=str(len(body))) + body[: len(body) // 2])


def stall(data: bytes = b"") -> Behaviour:
    """Sends `data`, then nothing more."""

    async def behave(stream: trio.SocketStream, _: Request) -> None:
        await stream.send_all(data)
        await stream.receive_some(1)

    return behave


def endless(head: bytes, part: bytes, *, pause: float = 0.0) -> Behaviour:
    """Sends `head`, then `part` again and again."""

    async def behave(stream: trio.SocketStream, _: Request) -> None:
        await stream.send_all(head)
        while True:
            await stream.send_all(part)
            await trio.sleep(pause)

    return behave


def event_stream(*events: bytes, **headers: str) -> bytes:
    """An event stream without an end of its own, so far."""
    return _head(200, content_type="text/event-stream", connection="close", **headers) + b"".join(events)


def event(number: int, kind: str = "x", data: object = None) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data or {})}\n\n".encode()


def _head(status: int, **headers: str) -> bytes:
    headers = {"content_type": "application/json", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    return "\r\n".join([f"HTTP/1.1 {status} {phrase}", *lines, "", ""]).encode()


async def _request(stream: trio.SocketStream) -> Request | None:
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        data = await stream.receive_some(65536)
        if not data:
            return None
        buffer += data
    head, _, body = buffer.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        data = await stream.receive_some(65536)
        if not data:
            return None
        body += data
    return Request(line, headers, body)
