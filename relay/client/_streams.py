"""One connection to a stream of relay's, as long as it lasts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import cast

import httpx2
import trio

from . import _transport
from ._transport import CONNECT, Transport, failure

__all__ = ["SILENCE", "streamed"]

SILENCE = 45.0  # seconds without a byte until a stream counts as lost; relay writes a comment every 15 s
LARGEST_EVENT = 16 * 1_048_576  # bytes


async def streamed(
    transport: Transport, path: str, params: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> AsyncGenerator[httpx2.ServerSentEvent]:
    """What one connection brings. Nothing is tried again. Close it with `contextlib.aclosing`."""
    request = transport.http.build_request(
        "GET", path, params=params, headers=headers, timeout=httpx2.Timeout(SILENCE, connect=CONNECT)
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
                    yield sent
