"""A session's log on a host, as it grows: passed on by relay from the host's own stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import httpx2
import orjson
import trio

from . import _transport
from ._errors import Garbled
from ._events import LARGEST_EVENT, SILENCE
from ._transport import CONNECT, Transport, failure

__all__ = ["log_lines"]


async def log_lines(transport: Transport, path: str, lines: int) -> AsyncGenerator[list[str]]:
    """The last `lines` of the log at once, then all that is new, until the session is over. Nothing is tried again."""
    request = transport.http.build_request(
        "GET",
        path,
        params={"stream": "1", "lines": str(lines)},
        timeout=httpx2.Timeout(SILENCE, connect=CONNECT),
    )
    with transport.told():
        with trio.fail_after(_transport.TRY):
            answer = await transport.http.send(request, stream=True)
        async with aclosing(answer):
            if not answer.is_success:
                raise failure(transport.url, answer, await transport.read(answer))
            source = aiter(httpx2.EventSource(answer, LARGEST_EVENT))
            async with aclosing(cast("AsyncGenerator[httpx2.ServerSentEvent]", source)) as received:
                async for sent in received:
                    if sent.event == "end":
                        return
                    if sent.data:
                        yield _lines(transport, sent.data)


def _lines(transport: Transport, text: str) -> list[str]:
    try:
        told: Any = orjson.loads(text)
        return [str(line) for line in told["lines"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Garbled(transport.url, f"a part of the log makes no sense: {text[:80]!r}") from None
