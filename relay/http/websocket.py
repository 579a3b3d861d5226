"""Hypercorn's WebSocket of one connection, and what it leaves undone.

- Compression is not agreed to: a few bytes could become any number, and each frame would cost a compressor's memory.
- A frame that is longer than may be is not kept, and nothing after it is read: the application hears of it, as a message
  that has neither text nor bytes, and closes.
- What breaks the protocol is answered by a close with its reason, not by silence.
"""

from dataclasses import replace

from hypercorn.protocol.events import Event, Request, StreamClosed
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import WebsocketReceiveEvent
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

__all__ = ["EdgeWebSocket"]


class EdgeWebSocket(WSStream):
    """One WebSocket, from its handshake on."""

    _parts: list[str | bytes | bytearray]
    _size = 0
    _oversize = False

    async def handle(self, event: Event) -> None:
        if isinstance(event, Request):
            self._parts = []
            kept = [each for each in event.headers if each[0].lower() != b"sec-websocket-extensions"]
            event = replace(event, headers=kept)
        await super().handle(event)

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, TextMessage | BytesMessage):
                await self._take(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                broken = self.connection.state is ConnectionState.OPEN
                last = CloseConnection(event.code, event.reason) if broken else event.response()
                await self._send_wsproto_event(last)
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def _take(self, event: TextMessage | BytesMessage) -> None:
        if self._oversize:
            return
        self._parts.append(event.data)
        self._size += _length(event.data)
        self._oversize = self._size > self.config.websocket_max_message_size
        if self._oversize:
            self._parts.clear()
        if (self._oversize or event.message_finished) and self.app_put is not None:
            message = self._message(isinstance(event, TextMessage))
            self._parts, self._size = [], 0
            await self.app_put(message)

    def _message(self, is_text: bool) -> WebsocketReceiveEvent:
        whole: WebsocketReceiveEvent = {"type": "websocket.receive", "bytes": None, "text": None}
        if self._oversize:
            return whole
        if is_text:
            return {**whole, "text": "".join(part for part in self._parts if isinstance(part, str))}
        return {**whole, "bytes": b"".join(part for part in self._parts if not isinstance(part, str))}


def _length(data: str | bytes | bytearray) -> int:
    """In bytes, as they came."""
    return len(data) if not isinstance(data, str) or data.isascii() else len(data.encode())
