"""Relay's event stream, kept up over disconnections."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from random import random
from typing import Any

import attrs
import httpx2
import orjson
import trio

from ._errors import Garbled, Overloaded, ServerFailed, Unauthorized, Unreachable
from ._streams import streamed
from ._transport import Transport

__all__ = ["StreamedEvent", "events"]

FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 10.0  # seconds


@attrs.frozen
class StreamedEvent:
    """One event. `id` is its place in relay's log, `data` what the contract says for its `type`; `reset` says that events
    were lost to age, and that the stream goes on from `id`.

    The stream reconnects for ever, from the first try on: a relay that is away, overloaded or has failed is no error, and
    whoever must not wait for it sets a cancel scope. `Unauthorized`, any other `Refused` and `Garbled` end it.
    """

    id: int
    type: str
    data: dict[str, Any]


async def events(
    transport: Transport, agent_id: str | None = None, after: int | None = None
) -> AsyncGenerator[StreamedEvent]:
    """Every event newer than `after` (default: from now on), for ever; nobody hears that relay is not there (see
    `StreamedEvent`). Close it with `contextlib.aclosing`."""
    pause = FIRST_PAUSE
    while True:
        used = transport.token
        try:
            async with aclosing(_connected(transport, agent_id, after)) as stream:
                async for sent in stream:
                    after, pause = _place(transport, sent, after), FIRST_PAUSE
                    if sent.data:
                        yield _event(transport, sent)
        except (Unreachable, Overloaded, ServerFailed):
            pass
        except Unauthorized as error:
            if not await transport.replaced(error, used):
                raise
        await trio.sleep(pause * (0.5 + random()))
        pause = min(LONGEST_PAUSE, pause * 2)


def _connected(
    transport: Transport, agent_id: str | None, after: int | None
) -> AsyncGenerator[httpx2.ServerSentEvent]:
    params = {} if agent_id is None else {"agentId": agent_id}
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    return streamed(transport, "/api/events", params, headers)


def _place(transport: Transport, sent: httpx2.ServerSentEvent, before: int | None) -> int | None:
    """Where to go on after this event. Relay also tells it without an event, so that there is a place from the start."""
    if not sent.id:
        return before
    try:
        return int(sent.id)
    except ValueError:
        raise Garbled(transport.url, f"an event has the id {sent.id[:80]!r}") from None


def _event(transport: Transport, sent: httpx2.ServerSentEvent) -> StreamedEvent:
    try:
        data = orjson.loads(sent.data)
    except orjson.JSONDecodeError as error:
        raise Garbled(transport.url, f"event {sent.id}: {error}") from None
    if not isinstance(data, dict):
        raise Garbled(transport.url, f"event {sent.id} is no object")
    return StreamedEvent(int(sent.id or 0), sent.event, data)
