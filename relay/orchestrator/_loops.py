"""Loops that go on: nothing that happens in one of the daemon's loops ends the daemon (R-I58)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

__all__ = ["RETRY", "kept_up"]

log = logging.getLogger(__name__)

RETRY = 1.0  # seconds


async def kept_up(loop: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Run the loop for ever, again after a pause when it stumbles."""
    while True:
        try:
            await loop(*arguments)
        except Exception:
            log.exception("the daemon goes on")
        await trio.sleep(RETRY)
