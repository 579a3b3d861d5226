"""Messages that the agent does not take, and when to stop trying (1.13-10).

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

from .options import Options

__all__ = ["Trouble"]

log = logging.getLogger(__name__)

MOST_REFUSALS = 8
MOST_DEATHS = 2  # of the agent: one fewer than are needed to give up the agent itself (1.19-4)
DEADLY = 30.0  # seconds in which a death is put down to what was handed over


class Trouble:
    """What is known against messages. `suspects` go alone, `aside` are not handed over."""

    def __init__(self, options: Options, relay: Client) -> None:
        self._options = options
        self._relay = relay
        self._refusals: Counter[int] = Counter()
        self._deaths: Counter[int] = Counter()
        self._unreported: dict[int, str] = {}
        self.suspects: set[int] = set()
        self.aside: set[int] = set()

    def met(self, numbers: list[int], why: str, *, died_after: float | None) -> None:
        """These were handed over together and not taken; `died_after` seconds when the agent died."""
        if died_after is not None and died_after > DEADLY:
            return
        if len(numbers) == 1:
            (number,) = numbers
            (self._refusals if died_after is None else self._deaths)[number] += 1
            if self._refusals[number] >= MOST_REFUSALS or self._deaths[number] >= MOST_DEATHS:
                self._set_aside(number, why)
        self.suspects.update(numbers)

    def over(self, numbers: Iterable[int]) -> None:
        """These were acknowledged after all."""
        for number in numbers:
            self.suspects.discard(number)
            del self._refusals[number], self._deaths[number]

    def clear(self) -> None:
        """Nothing is held against any message."""
        self._refusals.clear()
        self._deaths.clear()
        self.suspects.clear()
        self.aside.clear()

    def _set_aside(self, number: int, why: str) -> None:
        log.error("message %d is set aside: %s", number, why)
        self.aside.add(number)
        self._unreported[number] = why

    async def report(self) -> None:
        """Tell relay what was set aside, once. Raises `RelayError` when relay does not answer."""
        for number, why in list(self._unreported.items()):
            agent = self._options.agent_id
            note = wire.NewActivity(
                client_id=f"runner-{self._options.instance_id}-undelivered-{number}"[:240],
                kind=wire.ActivityKind.STATE,
                title=f"message {number} cannot be delivered"[:240],
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
            del self._unreported[number]
