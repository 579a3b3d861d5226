"""From relay's mailbox into the agent: matching, order, claims, read marks (1.11 to 1.14).

A message counts as read only after the agent acknowledged it. One that was acknowledged is not handed over again in
this life, even while relay cannot be told; one that was not acknowledged is handed over again, later and later. A busy
agent is no failure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from relay import wire
from relay.client import Client, Refused, RelayError

from .activity import Activity
from .adapter import Adapter, AgentGone, DeliveryFailed
from .options import Options

__all__ = ["Inbox", "accepts"]

log = logging.getLogger(__name__)

FETCHED = 100
REMEMBERED = 1_000
FIRST_PAUSE = 1.0  # seconds after a failed delivery
LONGEST_PAUSE = 30.0


def accepts(message: wire.Message, options: Options) -> bool:
    """Whether the message is for this agent (1.12). Observed turns are never handed back into a session."""
    if message.kind is wire.MessageKind.SESSION:
        return False
    if options.agent_id in (message.resolved_to_agent, message.to):
        return True
    if message.from_ == options.agent_id:
        return False
    if options.label and message.to == f"label:{options.label}":
        return True
    kind, _, name = message.to.partition(":")
    named = {"tag": options.all_tags, "cap": options.all_capabilities}.get(kind, ())
    return message.to == "broadcast" or name in named


class Inbox:
    """The way of messages into one agent."""

    def __init__(
        self, options: Options, relay: Client, activity: Activity, publish: Callable[[], None]
    ) -> None:
        self._options = options
        self._relay = relay
        self._activity = activity
        self._publish = publish
        self._acknowledged: dict[int, bool] = {}  # id -> whether relay knows that it is read
        self._wanted = trio.Event()

    def look(self) -> None:
        """There may be something new."""
        self._wanted.set()

    async def run(self, agent: Adapter) -> None:
        """Fetch and hand over until cancelled, or until the agent is gone."""
        pause = FIRST_PAUSE
        while True:
            self._wanted = trio.Event()
            try:
                more = await self._round(agent)
                pause = FIRST_PAUSE
            except AgentGone:
                return
            except (DeliveryFailed, RelayError) as error:
                log.warning("delivery failed, trying again in %.0f s: %s", pause, error)
                await trio.sleep(pause)
                pause, more = min(LONGEST_PAUSE, pause * 2), True
            if not more:
                with trio.move_on_after(self._options.poll):
                    await self._wanted.wait()

    async def _round(self, agent: Adapter) -> bool:
        """One look into the mailbox; whether there may be more."""
        await self._mark_read()
        found = await self._relay.messages(for_=self._options.agent_id, unread=True, limit=FETCHED)
        batch = []
        for message in found:
            if message.id in self._acknowledged:
                continue
            if not accepts(message, self._options):
                self._acknowledged[message.id] = True  # not to be looked at again, and not to be marked read
            elif not message.claimable or await self._claim(message):
                batch.append(message)
        if batch:
            await self._hand_over(agent, batch)
        await self._mark_read()
        return len(found) == FETCHED

    async def _hand_over(self, agent: Adapter, batch: list[wire.Message]) -> None:
        try:
            await agent.deliver([wire.to_json(message) for message in batch])
        finally:
            for message in batch:
                self._activity.release("message", str(message.id))
            self._publish()
        for message in batch:
            self._remember(message.id)

    async def _claim(self, message: wire.Message) -> bool:
        """Whether the message is this agent's to work on."""
        try:
            claim = await self._relay.claim(message.id, self._options.agent_id)
        except Refused:
            return False
        self._activity.claim("message", str(message.id), claim.claim_expires_at)
        self._publish()
        return True

    def _remember(self, number: int) -> None:
        self._acknowledged.setdefault(number, False)
        while len(self._acknowledged) > REMEMBERED:
            oldest = next((id_ for id_, read in self._acknowledged.items() if read), None)
            if oldest is None:
                return
            del self._acknowledged[oldest]

    async def _mark_read(self) -> None:
        for number in [number for number, read in self._acknowledged.items() if not read]:
            try:
                await self._relay.mark_read(number, self._options.agent_id)
            except Refused as error:
                if error.status != 404:
                    raise
            self._acknowledged[number] = True
