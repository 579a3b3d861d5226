"""A WebSocket over the client's own HTTP connections, with their certificates and proxies."""

from __future__ import annotations

import base64
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import httpcore2
import httpx2
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, generate_accept_token

from . import _transport
from ._errors import Garbled, Unreachable
from ._transport import CONNECT, Transport, failure

__all__ = ["Closed", "WebSocket", "websocket"]

LARGEST_MESSAGE = 16 * 1_048_576  # bytes
TAKEN_WITHIN = 30.0  # seconds that the other side has to take what is sent
CLOSE_WITHIN = 1.0  # seconds
TROUBLE = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError)


class Closed(Unreachable):
    """The connection is at an end. `code` is what the other side gave as its reason, None if it said nothing."""

    def __init__(self, code: int | None, reason: str | None) -> None:
        super().__init__(f"the connection has ended: {reason or 'no reason was given'} ({code})")
        self.code = code
        self.reason = reason or ""


class WebSocket:
    """Messages of text in both directions."""

    def __init__(self, stream: Any, url: str) -> None:
        self._stream = stream
        self._url = url
        self._protocol = Connection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()
        self._writing = trio.Lock()

    async def send(self, text: str) -> None:
        """Raises `Closed`. Once it has begun it is not cancelled: half a frame is none, and the end of all others."""
        await self._write(TextMessage(data=text))

    async def receive(self) -> str:
        """The next message. Raises `Closed`."""
        parts: list[str] = []
        size = 0
        while True:
            event = await self._event()
            if isinstance(event, TextMessage):
                parts.append(event.data)
                size += len(event.data)
                if size > LARGEST_MESSAGE:
                    raise Garbled(self._url, f"a message has more than {LARGEST_MESSAGE} characters")
                if event.message_finished:
                    return "".join(parts)
            elif isinstance(event, Ping):
                await self._write(event.response())
            elif isinstance(event, CloseConnection):
                with suppress(Closed):
                    await self._write(event.response())
                raise Closed(event.code, event.reason)

    async def close(self) -> None:
        """Says goodbye, if that is still possible."""
        with trio.move_on_after(CLOSE_WITHIN, shield=True), suppress(Closed):
            await self._write(CloseConnection(code=1000))

    async def _event(self) -> Event:
        while not self._events:
            try:
                data = await self._stream.read(65_536)
            except TROUBLE as error:
                raise Closed(None, str(error) or type(error).__name__) from error
            if not data:
                raise Closed(None, "it was cut off")
            self._protocol.receive_data(data)
            self._events.extend(self._protocol.events())
        return self._events.popleft()

    async def _write(self, event: Event) -> None:
        async with self._writing:
            try:
                with trio.CancelScope(shield=True), trio.fail_after(TAKEN_WITHIN):
                    await self._stream.write(self._protocol.send(event))
            except (*TROUBLE, LocalProtocolError, trio.TooSlowError) as error:
                raise Closed(None, str(error) or type(error).__name__) from error


@asynccontextmanager
async def websocket(transport: Transport, path: str) -> AsyncGenerator[WebSocket]:
    """An open WebSocket. Raises as any call does, for a server that answers otherwise."""
    key = base64.b64encode(secrets.token_bytes(16))
    request = transport.http.build_request(
        "GET",
        path,
        headers={
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": key.decode(),
        },
        timeout=httpx2.Timeout(None, connect=CONNECT),
    )
    with transport.told(), trio.fail_after(_transport.TRY):
        answer = await transport.http.send(request, stream=True)
    async with aclosing(answer):
        if answer.status_code != httpx2.codes.SWITCHING_PROTOCOLS:
            with transport.told():
                raise failure(transport.url, answer, await transport.read(answer))
        if answer.headers.get("sec-websocket-accept", "").encode() != generate_accept_token(key):
            raise Garbled(transport.url, "it switched to another protocol than WebSocket")
        opened = WebSocket(answer.extensions["network_stream"], transport.url)
        try:
            yield opened
        finally:
            await opened.close()
