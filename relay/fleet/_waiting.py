"""Waiting for something to happen: on the event log, which everything that happens is in."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson
import trio

from relay.store import EventLog, LoggedEvent

__all__ = ["concerns", "happened"]

MOST_EVENTS = 512  # looked at in one go


async def happened(
    events: EventLog, cursor: int, wanted: Callable[[LoggedEvent], bool], *, until: float
) -> bool:
    """Wait for a wanted event after `cursor`, until that time of trio's clock; whether there was one.

    Where the log does not reach back far enough, the answer is yes: there may have been one.
    """
    with trio.move_on_at(until):
        while True:
            new = await events.read_after(cursor, MOST_EVENTS)
            if not new or new[0].id > cursor + 1 or any(map(wanted, new)):
                return True
            cursor = new[-1].id
    return False


def concerns(event: LoggedEvent, number: int, *, routed: bool) -> bool:
    """Whether the event may have changed how far message `number` got; `routed`: it has recipients already."""
    group, _, name = event.type.partition(".")
    if group == "agent":
        return not routed
    if group == "delivery":
        return number in _data(event.data)["messageIds"]
    if group != "message":
        return False
    if name == "available":
        return number in _data(event.data)["messageIds"]
    return event.subject == str(number) or (name == "new" and _data(event.data).get("replyTo") == number)


@lru_cache(maxsize=256)
def _data(text: bytes) -> Any:
    """Parsed once for all who wait: they read the same tail of the log."""
    return orjson.loads(text)
