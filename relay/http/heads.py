"""The heads of HTTP/1.1 answers, without what h11 spends on headers that mean nothing to it.

h11 keeps the state of the connection. It alone judges and writes what frames an answer: the status line and the
headers of `FRAMING`. The others are put behind those as they are, once it is sure that each is one line. Requests are
h11's entirely.
"""

from collections.abc import Iterable

import h11
from hypercorn.events import RawData
from hypercorn.protocol.events import Event, Response
from hypercorn.protocol.h11 import H11Protocol

__all__ = ["LeanH11"]

FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


class LeanH11(H11Protocol):
    """Hypercorn's HTTP/1.1 with cheaper heads."""

    async def stream_send(self, event: Event) -> None:
        if isinstance(event, Response) and event.status_code >= 200:
            await self._send_head(event)
        else:
            await super().stream_send(event)

    async def _send_head(self, answer: Response) -> None:
        framing = [header for header in answer.headers if header[0].lower() in FRAMING]
        others = [header for header in answer.headers if header[0].lower() not in FRAMING]
        if self.keep_alive_requests >= self.config.keep_alive_max_requests:
            framing.append((b"connection", b"close"))
        lines = _lines(others) + _lines(self.config.response_headers("h11"))
        try:
            head = self.connection.send(h11.Response(headers=framing, status_code=answer.status_code))
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
        else:
            await self.send(RawData(head[:-2] + lines + b"\r\n"))

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.method == b"PRI" or any(name == b"upgrade" for name, _ in event.headers):
            await super()._check_protocol(event)


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%s: %s\r\n" % header for header in headers]
    text = b"".join(lines)
    if text.count(b"\r") != len(lines) or text.count(b"\n") != len(lines) or b"\0" in text:
        raise ValueError("a header of an answer is not one line")
    return text
