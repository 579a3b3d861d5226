"""Messages by relay's ladder of deliveries: handed over with a token, settled with it.

    handed over    acknowledged -> confirmed     refused, or not acknowledged -> refused     the agent died of it -> died
                   not given to the agent, or its end had nothing to do with it -> returned
    confirmed, refused, died, returned           owed to relay until it has answered

Relay keeps count, sees to pauses, and gives up what is not taken. What an earlier life of this runner had is relay's to
hand over again; what that life's agent has acknowledged is confirmed, and not handed to the agent again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from relay import wire
from relay.client import Client, Refused

from ._retry import Complaints
from .acknowledged import Acknowledged, Key, key_of
from .adapter import AgentGone, DeliveryFailed, Unheard
from .claims import Claims
from .options import Options
from .trouble import DEADLY

__all__ = ["Ladder"]

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0  # seconds
LONGEST_REASON = 4_000  # characters
AT_ONCE = 500  # acknowledgements in one call
REMEMBERED = 1_000  # tokens, for acknowledgements that come late


class Ladder:
    """One agent's deliveries."""

    paced = True

    def __init__(self, options: Options, relay: Client, claims: Claims, acknowledged: Acknowledged) -> None:
        self._options = options
        self._relay = relay
        self._claims = claims
        self._acknowledged = acknowledged
        self._complain = Complaints(log)
        self._handed: dict[Key, wire.HandOver] = {}
        self._owed: dict[int, wire.Ack] = {}
        self._dead: set[int] = set()
        self._forgiven: set[int] = set()

    async def next_batch(self) -> tuple[Sequence[wire.Message], bool]:
        await self.settle()
        await self._redeliver()
        asked = wire.TakeDeliveries(instance_id=self._options.instance_id, holding=[])
        handed = await self._relay.take(self._options.agent_id, asked)
        batch = []
        for each in handed:
            key = key_of(each.message)
            self._remember(key, each)
            if key in self._acknowledged:
                self.acknowledged([key])
                continue
            batch.append(each.message)
            if each.message.claimable:
                until = each.message.claim_expires_at
                await self._claims.hold(each.message, wire.Claim(ok=True, claim_expires_at=until))
        await self.settle()
        return batch, bool(handed)

    def acknowledged(self, keys: Sequence[Key]) -> None:
        for key in keys:
            self._owe(key, wire.Outcome.CONFIRMED)

    def failed(self, keys: Sequence[Key], error: DeliveryFailed | AgentGone, *, after: float) -> None:
        for key in keys:
            handed = self._handed.get(key)
            if isinstance(error, Unheard) or (isinstance(error, AgentGone) and after > DEADLY):
                self._owe(key, wire.Outcome.RETURNED)
            elif isinstance(error, AgentGone):
                self._owe(key, wire.Outcome.DIED, str(error), retry=0.0)
            else:
                attempt = handed.attempt if handed is not None else 1
                retry = min(LONGEST_PAUSE, self._options.retry * 2 ** (attempt - 1))
                self._owe(key, wire.Outcome.REFUSED, str(error), retry=retry)

    async def tell(self, keys: Sequence[Key]) -> None:
        await self.settle()

    def forgive(self) -> None:
        self._forgiven |= self._dead
        self._dead.clear()

    async def settle(self) -> None:
        """Tell relay what it is owed. Raises `RelayError`; then it is still owed."""
        while self._owed:
            acks = list(self._owed.values())[:AT_ONCE]
            try:
                results = await self._relay.ack(self._options.agent_id, acks)
            except Refused as error:
                if error.status != 409:
                    raise
                results = []
                log.warning("message %d is handed over anew: %s", acks[0].message_id, error)
            for ack in acks:
                if self._owed.get(ack.message_id) is ack:
                    del self._owed[ack.message_id]
            for result in results:
                self._note(result)

    def _note(self, result: wire.AckResult) -> None:
        if result.rung is wire.Rung.DEAD and result.ok:
            log.error("message %d is given up: the agent does not take it", result.message_id)
            self._dead.add(result.message_id)
        if not result.ok:
            log.warning("message %d is handed over anew, or gone: %s", result.message_id, result.error)

    def _owe(
        self, key: Key, outcome: wire.Outcome, error: str | None = None, *, retry: float | None = None
    ) -> None:
        handed = self._handed.get(key)
        if handed is None:
            return
        self._owed[key.id] = wire.Ack(
            message_id=key.id,
            token=handed.token,
            outcome=outcome,
            evidence="acknowledged by the agent" if outcome is wire.Outcome.CONFIRMED else None,
            error=error[:LONGEST_REASON] if error else None,
            retry_ms=None if retry is None else round(retry * 1000),
        )

    def _remember(self, key: Key, handed: wire.HandOver) -> None:
        self._handed.pop(key, None)
        self._handed[key] = handed
        while len(self._handed) > REMEMBERED:
            del self._handed[next(iter(self._handed))]

    async def _redeliver(self) -> None:
        while self._forgiven:
            number = min(self._forgiven)
            try:
                await self._relay.redeliver(number, self._options.agent_id)
            except Refused as error:
                log.info("message %d is not redelivered: %s", number, error)
            self._forgiven.discard(number)
