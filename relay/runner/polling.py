"""Messages by polling, for servers that know no deliveries (1.11 to 1.13).

The mailbox is read page by page. What was acknowledged is marked as read; what is not for this agent is left alone; what
the agent does not take is set aside by this runner (`trouble`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import attrs

from relay import wire
from relay.client import Client, Refused

from ._retry import Complaints
from .acknowledged import Acknowledged, Key, key_of
from .adapter import AgentGone, DeliveryFailed
from .claims import Claims
from .options import Options
from .trouble import Trouble

__all__ = ["Polling", "accepts"]

log = logging.getLogger(__name__)

FETCHED = 100
BATCH_MESSAGES = 100
BATCH_BYTES = 256 * 1024  # of JSON; a larger message goes alone


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


class Polling:
    """One agent's mailbox, as the contract has it."""

    paced = False

    def __init__(self, options: Options, relay: Client, claims: Claims, acknowledged: Acknowledged) -> None:
        self._options = options
        self._relay = relay
        self._claims = claims
        self._acknowledged = acknowledged
        self._trouble = Trouble(options, relay)
        self._complain = Complaints(log)

    async def next_batch(self) -> tuple[Sequence[wire.Message], bool]:
        await self._trouble.report()
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
                    return batch.messages, True
                if not message.claimable or await self._claims.win(message):
                    batch.add(message)
                if alone and batch.messages:
                    return batch.messages, True
        return batch.messages, False

    def acknowledged(self, keys: Sequence[Key]) -> None:
        self._trouble.over(keys)

    def failed(self, keys: Sequence[Key], error: DeliveryFailed | AgentGone, *, after: float) -> None:
        died_after = after if isinstance(error, AgentGone) else None
        self._trouble.met(list(keys), str(error), died_after=died_after)

    async def tell(self, keys: Sequence[Key]) -> None:
        for key in keys:
            await self.mark_read(key.id)

    def forgive(self) -> None:
        self._trouble.clear()

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

    async def mark_read(self, number: int) -> None:
        """Tell relay. If that fails, the message is found unread once more, and told of again."""
        try:
            await self._relay.mark_read(number, self._options.agent_id)
        except Refused as error:
            self._complain(error)
