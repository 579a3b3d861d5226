"""A WebSocket as a connection of the bus sees it."""

from contextlib import suppress
from typing import Any, cast

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

from relay.http.answers import Answer
from relay.http.guard import secured

__all__ = ["Gone", "Socket", "TooLarge", "refuse"]

LINGER = 1.0  # seconds that a client has to take the reason of a close, before the connection is cut
LONGEST_REASON = 120  # bytes; a close frame has room for 123


class Gone(Exception):
    """The client has left."""


class TooLarge(Exception):
    """A frame is longer than may be. There is no reading on."""


class Socket:
    """Every send waits until the client has room; who sends nothing more for too long is cut off by the server below."""

    def __init__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self._receive = receive
        self._send = send

    async def accept(self) -> None:
        """Raises `Gone`."""
        await self._receive()  # websocket.connect
        await self._send({"type": "websocket.accept", "subprotocol": None, "headers": []})

    async def receive(self) -> str | None:
        """The next frame; None stands for one of bytes. Raises `Gone` and `TooLarge`."""
        message = cast("dict[str, Any]", await self._receive())
        if message["type"] == "websocket.disconnect":
            raise Gone
        if message.get("text") is None and message.get("bytes") is None:
            raise TooLarge
        return message.get("text")

    async def receive_at_once(self) -> tuple[str | None] | None:
        """The next frame if it is already here. Raises as `receive` does."""
        with trio.CancelScope(deadline=-float("inf")):
            return (await self.receive(),)
        return None

    async def send(self, text: str) -> None:
        await self._send({"type": "websocket.send", "bytes": None, "text": text})

    async def close(self, code: int, reason: str) -> None:
        """Says why, and waits a moment for the client to have heard it: a connection that is cut while there is something
        unread takes back what was sent last."""
        short = reason.encode()[:LONGEST_REASON].decode(errors="ignore")
        await self._send({"type": "websocket.close", "code": code, "reason": short})
        with trio.move_on_after(LINGER), suppress(Gone):
            while True:
                with suppress(TooLarge):
                    await self.receive()


async def refuse(answer: Answer, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answers the request for a WebSocket as one for anything else."""
    await receive()  # websocket.connect
    length = (b"content-length", b"%d" % len(answer.body))
    headers = secured([answer.content_type, length, *answer.headers])
    await send(
        cast(Any, {"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    )
    await send(cast(Any, {"type": "websocket.http.response.body", "body": answer.body, "more_body": False}))
