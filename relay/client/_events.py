"""Relay's event stream, kept up over disconnections."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from random import random
from typing import Any

import attrs
import httpx2
import trio

from ._errors import Overloaded, Unreachable
from ._transport import STREAM, Transport, failure

__all__ = ["StreamedEvent", "events"]

LONGEST_PAUSE = 10.0  # seconds


@attrs.frozen
class StreamedEvent:
    """One event. `id` is its place in relay's log; `type` is `reset` when events were lost to age."""

    id: int
    type: str
    data: dict[str, Any]


async def events(
    transport: Transport, agent_id: str | None = None, after: int | None = None
) -> AsyncGenerator[StreamedEvent]:
    """Every event newer than `after` (default: from now on), for ever. Close it with `contextlib.aclosing`."""
    pause = 0.1
    while True:
        try:
            async with aclosing(_connected(transport, agent_id, after)) as stream:
                async for event in stream:
                    after, pause = event.id, 0.1
                    yield event
        except (Unreachable, Overloaded):
            pass
        await trio.sleep(pause * (0.5 + random()))
        pause = min(LONGEST_PAUSE, pause * 2)


async def _connected(
    transport: Transport, agent_id: str | None, after: int | None
) -> AsyncGenerator[StreamedEvent]:
    params = {} if agent_id is None else {"agentId": agent_id}
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    request = transport.http.stream("GET", "/api/events", params=params, headers=headers, timeout=STREAM)
    try:
        async with request as answer:
            if not answer.is_success:
                raise failure(answer.status_code, await answer.aread(), answer.headers.get("retry-after"))
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    number, kind = int(fields.get("id") or 0), fields.get("event", "message")
                    yield StreamedEvent(number, kind, json.loads(fields["data"]))
                    fields = {}
    except httpx2.TransportError as error:
        raise Unreachable(str(error) or type(error).__name__) from error
