"""From relay's mailbox into the agent: order, batches, acknowledgements (1.11 to 1.13).

A message counts as read only after the agent acknowledged it, however late. One that was acknowledged is not handed over
again, also not by a later runner; one that was not is handed over again, after ever longer pauses, until it is given up.
A busy agent is no failure. Relay keeps count of that (`ladder`); with one that knows no deliveries, the runner does
(`polling`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from relay import wire
from relay.client import Client, Refused, RelayError

from ._retry import Complaints
from .acknowledged import Acknowledged, Key, key_of
from .adapter import Adapter, AgentGone, DeliveryFailed, Unheard
from .claims import Claims
from .ladder import Ladder
from .options import Options
from .polling import Polling, accepts
from .way import Way

__all__ = ["Inbox", "accepts"]

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0  # seconds
LADDER_AGAIN = 300.0  # seconds until a relay that knew no deliveries is asked once more


class Inbox:
    """The way of messages into one agent, process after process."""

    def __init__(self, options: Options, relay: Client, claims: Claims) -> None:
        self._options = options
        self._relay = relay
        self._claims = claims
        self._acknowledged = Acknowledged(options.state_dir / "acknowledged")
        self._ladder = Ladder(options, relay, claims, self._acknowledged)
        self._polling = Polling(options, relay, claims, self._acknowledged)
        self._polls_until = 0.0
        self._complain = Complaints(log)
        self._wanted = trio.Event()
        self._relieved = trio.Event()

    def look(self) -> None:
        """There may be something new."""
        self._wanted.set()

    def forgive(self) -> None:
        """Whatever was given up gets another chance."""
        self._ladder.forgive()
        self._polling.forgive()
        self.look()

    async def run(self, agent: Adapter) -> None:
        """Fetch and hand over until cancelled, or until the agent is gone."""
        pause = self._options.retry
        while True:
            self._wanted, self._relieved = trio.Event(), trio.Event()
            way = self._way()
            try:
                more = await self._round(agent, way)
            except AgentGone:
                return
            except DeliveryFailed as error:
                if way.paced and not isinstance(error, Unheard):
                    log.warning("messages were not taken: %s", error)
                    continue
                log.warning("messages are handed over again in %.1f s: %s", pause, error)
                with trio.move_on_after(pause):
                    await self._relieved.wait()
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            except RelayError as error:
                more = await self._falls_back(error, way)
            else:
                pause = self._options.retry
            if not more:
                with trio.move_on_after(self._options.poll):
                    await self._wanted.wait()

    async def finish(self) -> None:
        """Tell relay what it is owed. Raises `RelayError`."""
        await self._ladder.settle()

    async def mark_read(self, number: int) -> None:
        """A message that did not come by the inbox has been taken."""
        await self._polling.mark_read(number)

    def _way(self) -> Way:
        return self._polling if trio.current_time() < self._polls_until else self._ladder

    async def _falls_back(self, error: RelayError, way: Way) -> bool:
        """Whether the next round goes another way, because this relay knows no deliveries."""
        unknown = way is self._ladder and isinstance(error, Refused) and error.status == 404
        if unknown and await self._is_known():
            self._polls_until = trio.current_time() + LADDER_AGAIN
            return True
        self._complain(error)
        return False

    async def _is_known(self) -> bool:
        """Whether it is not the agent that relay does not know."""
        try:
            await self._relay.agent(self._options.agent_id)
        except RelayError:
            return False
        return True

    async def _round(self, agent: Adapter, way: Way) -> bool:
        """One look into the mailbox; whether there may be more."""
        try:
            batch, more = await way.next_batch()
            if batch:
                await self._hand_over(agent, way, batch)
        finally:
            self._claims.let_go_of_the_rest()
        return more

    async def _hand_over(self, agent: Adapter, way: Way, batch: Sequence[wire.Message]) -> None:
        keys = [key_of(message) for message in batch]
        began = trio.current_time()
        try:
            await agent.deliver(
                [wire.to_json(message) for message in batch], lambda: self._was_acknowledged(way, keys)
            )
        except (DeliveryFailed, AgentGone) as error:
            left = [key for key in keys if key not in self._acknowledged]
            way.failed(left, error, after=trio.current_time() - began)
            if left or isinstance(error, AgentGone):
                raise
        await way.tell(keys)

    def _was_acknowledged(self, way: Way, keys: list[Key]) -> None:
        """Maybe long after the hand-over was given up."""
        self._acknowledged.add(keys)
        way.acknowledged(keys)
        for key in keys:
            self._claims.acknowledged(key.id)
        self._relieved.set()
        self.look()
