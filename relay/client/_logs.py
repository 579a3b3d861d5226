"""A session's log on a host, as it grows: passed on by relay from the host's own stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from ._errors import Garbled
from ._streams import streamed
from ._transport import Transport

__all__ = ["log_lines"]


async def log_lines(transport: Transport, path: str, lines: int) -> AsyncGenerator[list[str]]:
    """The last `lines` of the log at once, then all that is new, until the session is over. Nothing is tried again."""
    params = {"stream": "1", "lines": str(lines)}
    async with aclosing(streamed(transport, path, params)) as stream:
        async for sent in stream:
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
