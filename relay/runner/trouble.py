"""Messages that the agent does not take, and when to stop trying (1.13-10), where relay itself does not see to it.

    new       its batch was not taken -> suspect: handed over alone from now on
    suspect   acknowledged -> forgotten      refused for the eighth time, or the agent died of it twice -> aside
    aside     the agent is restarted on command -> new

What is set aside stays unread, is on record in relay's activity, and holds up nobody. It is tried again by the next
runner, too.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from relay import wire
from relay.client import Client, Overloaded, Refused

from .acknowledged import Key
from .options import Options

__all__ = ["DEADLY", "Trouble"]

log = logging.getLogger(__name__)

MOST_REFUSALS = 8
MOST_DEATHS = 2  # of the agent: one fewer than are needed to give up the agent itself (1.19-4)
DEADLY = 30.0  # seconds in which a death is put down to what was handed over


class Trouble:
    """What is known against messages. `suspects` go alone, `aside` are not handed over."""

    def __init__(self, options: Options, relay: Client) -> None:
        self._options = options
        self._relay = relay
        self._refusals: Counter[Key] = Counter()
        self._deaths: Counter[Key] = Counter()
        self._unreported: dict[Key, str] = {}
        self.suspects: set[Key] = set()
        self.aside: set[Key] = set()

    def met(self, keys: list[Key], why: str, *, died_after: float | None) -> None:
        """These were handed over together and not taken; `died_after` seconds when the agent died."""
        if died_after is not None and died_after > DEADLY:
            return
        if len(keys) == 1:
            (key,) = keys
            (self._refusals if died_after is None else self._deaths)[key] += 1
            if self._refusals[key] >= MOST_REFUSALS or self._deaths[key] >= MOST_DEATHS:
                self._set_aside(key, why)
        self.suspects.update(keys)

    def over(self, keys: Iterable[Key]) -> None:
        """These were acknowledged after all."""
        for key in keys:
            self.suspects.discard(key)
            del self._refusals[key], self._deaths[key]

    def clear(self) -> None:
        """Nothing is held against any message."""
        self._refusals.clear()
        self._deaths.clear()
        self.suspects.clear()
        self.aside.clear()

    def _set_aside(self, key: Key, why: str) -> None:
        log.error("message %d is set aside: %s", key.id, why)
        self.aside.add(key)
        self._unreported[key] = why

    async def report(self) -> None:
        """Tell relay what was set aside, once. Raises `RelayError` when relay does not answer."""
        for key, why in list(self._unreported.items()):
            number, agent = key.id, self._options.agent_id
            note = wire.NewActivity(
                client_id=f"runner-{self._options.instance_id}-undelivered-{number}"[:240],
                kind=wire.ActivityKind.STATE,
                title=f"message {number} is not taken"[:240],
                body=f"{agent} did not take it: {why}. Restart the agent to have it tried again."[:4_000],
                meta=agent,
                icon="ti-mail-off",
                view="messages",
                message_id=number,
                agent_id=agent,
            )
            try:
                await self._relay.post_activity(note)
            except Overloaded:
                raise
            except Refused as error:
                log.warning("relay does not want to know of it: %s", error)
            del self._unreported[key]
