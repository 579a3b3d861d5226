"""Hypercorn's HTTP/1.1, and what it answers on its own, below the application.

Whoever does not speak HTTP is refused like everybody else: in JSON, with a reason, and the connection ends. So is a
WebSocket that fails before the application has it. Other versions of HTTP are not offered: they would go another way
in, with other limits.
"""

import sys
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus

import h11
from hypercorn.events import Closed
from hypercorn.protocol.events import EndBody, Event, Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream

from .guard import Refusal, refusal_headers, refusal_text

__all__ = ["EdgeProtocol"]

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
UNEXPLAINED = [(b"content-length", b"0"), (b"connection", b"close")]  # the headers of Hypercorn's refusals
TEXTS = {
    400: "this is no handshake of a WebSocket of version 13",
    505: "only HTTP/1.1 is spoken here",
}
LONGEST = 200  # characters of what h11 says, which may repeat what it was sent


class EdgeProtocol(H11Protocol):
    """HTTP/1.1 of one connection."""

    async def stream_send(self, event: Event) -> None:
        if isinstance(event, Response) and event.status_code >= 200:
            if isinstance(self.stream, WSStream) and event.headers == UNEXPLAINED:
                await self._refuse(event.status_code)
            else:
                await self._send_head(event.status_code, event.headers)
        elif isinstance(event, EndBody) and self.stream is None:
            pass  # it was refused, that was the end
        else:
            await super().stream_send(event)

    async def _send_error_response(self, status_code: int) -> None:
        """h11 cannot go on. Called where its error is caught."""
        await self._refuse(status_code, f"not HTTP: {sys.exception()}"[:LONGEST])

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn would change to HTTP/2 here."""

    async def _create_stream(self, request: h11.Request) -> None:
        if not request.http_version.startswith(b"1."):
            await self._refuse(505)
            return
        try:
            await super()._create_stream(request)
        except UnicodeDecodeError:  # Hypercorn takes the headers of a handshake for ASCII
            await self._refuse(400)

    async def _refuse(self, status: int, text: str | None = None) -> None:
        """Answers, and ends the connection."""
        refusal = Refusal(status, text or TEXTS.get(status, "the WebSocket was not accepted"), closes=True)
        await self._send_head(status, refusal_headers(refusal))
        with suppress(h11.LocalProtocolError):  # the answer to HEAD is without a body
            await self._send_h11_event(h11.Data(data=refusal_text(refusal)))
            await self._send_h11_event(h11.EndOfMessage())
        await self.send(Closed())

    async def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        headers = [*headers, *self.config.response_headers("h11")]
        reason = REASONS.get(status, b"")
        await self._send_h11_event(h11.Response(headers=headers, status_code=status, reason=reason))
