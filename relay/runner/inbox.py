"""From relay's mailbox into the agent: matching, order, batches, read marks (1.11 to 1.13).

A message counts as read only after the agent acknowledged it, however late. One that was acknowledged is not handed over
again, also not by a later runner; one that was not is handed over again, after ever longer pauses, until it is set aside
(`trouble`). A busy agent is no failure.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import attrs
import trio

from relay import wire
from relay.client import Client, Refused, RelayError

from ._retry import Complaints
from .acknowledged import Acknowledged, Key, key_of
from .adapter import Adapter, AgentGone, DeliveryFailed
from .claims import Claims
from .options import Options
from .trouble import Trouble

__all__ = ["Inbox", "accepts"]

log = logging.getLogger(__name__)

FETCHED = 100
BATCH_MESSAGES = 100
BATCH_BYTES = 256 * 1024  # of JSON; a larger message goes alone
LONGEST_PAUSE = 30.0  # seconds


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


@attrs.define
class _Batch:
    """Messages in the order of their ids, for one hand-over."""

    messages: list[wire.Message] = attrs.field(factory=list)
    bytes: int = 0

    def has_room_for(self, message: wire.Message, *, alone: bool) -> bool:
        if not self.messages:
            return True
        small = self.bytes + len(wire.encode(message)) <= BATCH_BYTES
        return small and not alone and len(self.messages) < BATCH_MESSAGES

    def add(self, message: wire.Message) -> None:
        self.messages.append(message)
        self.bytes += len(wire.encode(message))


class Inbox:
    """The way of messages into one agent, process after process."""

    def __init__(self, options: Options, relay: Client, claims: Claims) -> None:
        self._options = options
        self._relay = relay
        self._claims = claims
        self._acknowledged = Acknowledged(options.state_dir / "acknowledged")
        self._trouble = Trouble(options, relay)
        self._complain = Complaints(log)
        self._wanted = trio.Event()
        self._relieved = trio.Event()

    def look(self) -> None:
        """There may be something new."""
        self._wanted.set()

    def forgive(self) -> None:
        """Whatever was set aside gets another chance."""
        self._trouble.clear()
        self.look()

    async def run(self, agent: Adapter) -> None:
        """Fetch and hand over until cancelled, or until the agent is gone."""
        pause = self._options.retry
        while True:
            self._wanted, self._relieved = trio.Event(), trio.Event()
            try:
                more = await self._round(agent)
            except AgentGone:
                return
            except DeliveryFailed as error:
                log.warning("messages are handed over again in %.1f s: %s", pause, error)
                with trio.move_on_after(pause):
                    await self._relieved.wait()
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            except RelayError as error:
                self._complain(error)
                more = False
            else:
                pause = self._options.retry
            if not more:
                with trio.move_on_after(self._options.poll):
                    await self._wanted.wait()

    async def mark_read(self, number: int) -> None:
        """Tell relay. If that fails, the message is found unread once more, and told of again."""
        try:
            await self._relay.mark_read(number, self._options.agent_id)
        except Refused as error:
            self._complain(error)

    async def _round(self, agent: Adapter) -> bool:
        """One look into the mailbox; whether there may be more."""
        await self._trouble.report()
        try:
            batch, more = await self._next_batch()
            if batch.messages:
                await self._hand_over(agent, batch.messages)
        finally:
            self._claims.let_go_of_the_rest()
        return more

    async def _next_batch(self) -> tuple[_Batch, bool]:
        """What is handed over next, claimed, and whether something is left."""
        batch = _Batch()
        async with aclosing(self._unread()) as unread:
            async for message in unread:
                if key_of(message) in self._acknowledged:
                    await self.mark_read(message.id)
                    continue
                if not accepts(message, self._options) or key_of(message) in self._trouble.aside:
                    continue
                alone = key_of(message) in self._trouble.suspects
                if not batch.has_room_for(message, alone=alone):
                    return batch, True
                if not message.claimable or await self._claims.win(message):
                    batch.add(message)
                if alone and batch.messages:
                    return batch, True
        return batch, False

    async def _unread(self) -> AsyncGenerator[wire.Message]:
        """Oldest first. What is passed over stays unread, so pages are turned by id."""
        last = 0
        while True:
            page = await self._relay.messages(
                for_=self._options.agent_id, since=last, unread=True, limit=FETCHED
            )
            for message in page:
                yield message
                last = message.id
            if len(page) < FETCHED:
                return

    async def _hand_over(self, agent: Adapter, batch: list[wire.Message]) -> None:
        keys = [key_of(message) for message in batch]
        began = trio.current_time()
        try:
            await agent.deliver(
                [wire.to_json(message) for message in batch], lambda: self._was_acknowledged(keys)
            )
        except (DeliveryFailed, AgentGone) as error:
            left = [key for key in keys if key not in self._acknowledged]
            died = isinstance(error, AgentGone)
            self._trouble.met(left, str(error), died_after=trio.current_time() - began if died else None)
            if left or died:
                raise
        for key in keys:
            await self.mark_read(key.id)

    def _was_acknowledged(self, keys: list[Key]) -> None:
        """Maybe long after the hand-over was given up."""
        self._acknowledged.add(keys)
        self._trouble.over(keys)
        for key in keys:
            self._claims.acknowledged(key.id)
        self._relieved.set()
        self.look()
