"""What the agent said to others, and thinks of what they said, kept until relay has it.

Each message gets its idempotency key and its file before anything is sent, so it is stored by relay exactly once,
however often relay or this runner is killed in between. A key that the agent itself gives survives the agent, too.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import trio

from relay import wire
from relay._files import remove, write_json
from relay.client import Client, Overloaded, Refused, RelayError, Unauthorized

__all__ = ["Outbox"]

log = logging.getLogger(__name__)

UNKNOWN = 401  # the status for whom relay does not know: it may, once there is another token
RETRY = 0.5  # seconds
LONGEST_RETRY = 10.0
CAPACITY = 10_000


class Outbox:
    """A directory of messages, in order."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._directory = directory
        self._prefix = prefix
        self._changed = trio.Event()
        self._empty = trio.Event()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._files = sorted(directory.glob("*.json"))
        self._last = int(self._files[-1].stem) if self._files else 0

    def put(self, message: dict[str, Any]) -> None:
        """Keep a message for sending. Raises `OSError` when it cannot be kept, or there are too many."""
        key = message.pop("idempotencyKey", None) or f"{self._prefix}/{self._last + 1}"
        self._keep({**message, "idempotencyKey": str(key)[:240]})

    def put_reaction(self, message_id: int, reaction: wire.React) -> None:
        """Keep a reaction to a message; saying it twice is harmless. Raises as `put`."""
        self._keep({"messageId": message_id, "reaction": wire.to_json(reaction)})

    def _keep(self, document: dict[str, Any]) -> None:
        if len(self._files) >= CAPACITY:
            raise OSError(f"{CAPACITY} messages wait to be sent")
        self._last += 1
        path = self._directory / f"{self._last:012}.json"
        write_json(path, document)
        self._files.append(path)
        if self._empty.is_set():
            self._empty = trio.Event()
        self._changed.set()

    async def settled(self) -> None:
        """Wait until `deliver` finds nothing left to send."""
        while not self._empty.is_set():
            await self._empty.wait()

    async def deliver(self, relay: Client) -> None:
        """Send what is here, and whatever comes, one after the other, for ever."""
        pause = RETRY
        while True:
            while self._files:
                if await self._send(relay, self._files[0]):
                    remove(self._files.pop(0))
                    pause = RETRY
                else:
                    await trio.sleep(pause)
                    pause = min(LONGEST_RETRY, pause * 2)
            self._empty.set()
            self._changed = trio.Event()
            await self._changed.wait()

    async def _send(self, relay: Client, path: Path) -> bool:
        """Whether this message is settled: relay has it, or will never take it."""
        try:
            await _pass_on(relay, path.read_bytes())
        except Overloaded:
            return False
        except (Refused, wire.Invalid) as error:
            if isinstance(error, Unauthorized) and error.status == UNKNOWN:
                return False
            log.error("relay does not take a message of the agent: %s", error)
        except RelayError:
            return False
        return True


async def _pass_on(relay: Client, kept: bytes) -> None:
    """Raises `wire.Invalid` for what is nothing of these, and what `Client` does."""
    try:
        document = json.loads(kept)
        number, reaction = document.get("messageId"), document.get("reaction")
    except (ValueError, AttributeError) as error:
        raise wire.Invalid([str(error)]) from None
    if isinstance(number, int):
        await relay.react(number, wire.decode(wire.React, reaction))
    else:
        await relay.send(wire.decode(wire.SendMessage, document))
