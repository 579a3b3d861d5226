"""A client of the bus that shows what really is on the wire: frames, and how the connection ends."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import orjson
import trio
from rawhttp import Connection
from wsproto.connection import Connection as Protocol, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

__all__ = ["Closed", "Socket", "bus", "hello", "upgrade"]


@attrs.frozen
class Closed(Exception):
    """The server has closed. `code` is None when it did so without saying why."""

    code: int | None
    reason: str | None = None

    @property
    def told(self) -> tuple[int | None, str | None]:
        return self.code, self.reason


class Socket:
    """A WebSocket. Every wait in it ends after ten seconds."""

    def __init__(self, stream: trio.SocketStream, early: bytes) -> None:
        self.stream = stream
        self.protocol = Protocol(ConnectionType.CLIENT, [], early)
        self._events: deque[Event] = deque()
        self._text = ""
        self.welcome: dict[str, Any] = {}

    async def raw(self, data: bytes) -> None:
        with trio.fail_after(10):
            await self.stream.send_all(data)

    async def text(self, text: str) -> None:
        await self.raw(self.protocol.send(TextMessage(data=text)))

    async def say(self, kind: str, **members: Any) -> None:
        await self.text(orjson.dumps({"type": kind, **members}).decode())

    async def bytes(self, data: bytes) -> None:
        await self.raw(self.protocol.send(BytesMessage(data=data)))

    async def frame(self) -> dict[str, Any]:
        """The next frame. Raises `Closed`."""
        with trio.fail_after(10):
            while True:
                match await self._event():
                    case TextMessage() as event:
                        self._text += event.data
                        if event.message_finished:
                            frame, self._text = orjson.loads(self._text), ""
                            return frame
                    case Ping() as event:
                        await self.raw(self.protocol.send(event.response()))
                    case CloseConnection(code=code, reason=reason):
                        raise Closed(code, reason)
                    case Pong():
                        pass
                    case event:
                        raise AssertionError(event)

    async def _event(self) -> Event:
        while not self._events:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise Closed(None)
            self.protocol.receive_data(data)
            self._events.extend(self.protocol.events())
        return self._events.popleft()

    async def told(self, kind: str) -> dict[str, Any]:
        """The next frame of this type; others are passed over."""
        while (frame := await self.frame())["type"] != kind:
            pass
        return frame

    async def events(self, count: int) -> list[dict[str, Any]]:
        """That many events, in whatever frames they come."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            frame = await self.frame()
            if frame["type"] == "events":
                found += frame["events"]
            elif "eventId" in frame and frame["type"] not in ("ping", "reset"):
                found.append(frame)
        assert len(found) == count
        return found

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """That many messages; other events are passed over."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += [
                event["message"]
                for event in await self.events_of_one_frame()
                if event["type"] == "message.new"
            ]
        assert len(found) == count
        return found

    async def events_of_one_frame(self) -> list[dict[str, Any]]:
        while True:
            frame = await self.frame()
            if frame["type"] == "events":
                return list(frame["events"])
            if "eventId" in frame and frame["type"] not in ("ping", "reset"):
                return [frame]

    async def ask(self, kind: str, **members: Any) -> dict[str, Any]:
        """Says it, and returns the result. Events that come before are passed over."""
        await self.say(kind, id=f"ask-{kind}", **members)
        result = await self.told("result")
        assert result["id"] == f"ask-{kind}"
        return result

    async def close(self) -> Closed:
        """How the connection ends."""
        try:
            while True:
                await self.frame()
        except Closed as closed:
            return closed


def upgrade(path: str = "/bus", **headers: str) -> bytes:
    """The bytes of a request for a WebSocket."""
    key = base64.b64encode(b"0123456789abcdef").decode()
    chosen = {
        "host": "localhost",
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": key,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in chosen.items()]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


@asynccontextmanager
async def bus(server: Any, *, token: bool = True, **members: Any) -> AsyncIterator[Socket]:
    """A connection. With `role` it has said hello and is welcome."""
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        client = Connection(stream)
        headers = {"x_agent_relay_token": server.token} if token else {}
        await client.send(upgrade(**headers))
        head = await client.until(b"\r\n\r\n")
        assert b" 101 " in head, head
        socket = Socket(stream, client._buffer)
        if members:
            socket.welcome = await hello(socket, **members)
        yield socket


async def hello(socket: Socket, **members: Any) -> dict[str, Any]:
    await socket.say("hello", **{"role": "dashboard", "componentId": "c1", **members})
    return await socket.told("welcome")
