"""What the post office has staged and what may not be durable yet: reading sees only what is."""

from __future__ import annotations

from typing import Any

from relay import wire
from relay.store import Store

from ._mailboxes import find_message, latest_id

__all__ = ["Recent", "bound"]

LETTERS_BETWEEN_SWEEPS = 256  # until those that have become durable are forgotten: they may be large
REMEMBERED_NUMBERS = 10_000  # more than the store takes in before it closes its gate


class Recent:
    """The messages as they are with everything that is staged."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._letters: dict[int, wire.Message] = {}
        self._keys: dict[tuple[str, str], int] = {}
        self._deleted: dict[int, None] = {}
        self._sweep_at = LETTERS_BETWEEN_SWEEPS

    def find(self, number: int) -> wire.Message | None:
        if number in self._deleted:
            return None
        return self._letters.get(number) or find_message(self._store, number)

    def earlier(self, asked: wire.SendMessage) -> wire.Message | None:
        """The message that this sender already sent with this key (MSG-13)."""
        if asked.idempotency_key is None:
            return None
        key = (asked.from_, asked.idempotency_key)
        number = self._keys.get(key)
        if number is None:
            row = self._store.row("select id from messages where sender = ? and idempotency_key = ?", *key)
            number = row[0] if row else None
        return self.find(number) if number is not None else None

    def remember(self, stored: wire.Message) -> None:
        self._letters[stored.id] = stored
        if stored.idempotency_key is not None:
            self._keys[stored.from_, stored.idempotency_key] = stored.id
        if len(self._letters) >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        durable = latest_id(self._store)
        for old in [each for each in self._letters.values() if each.id <= durable]:
            self._forget(old)
        self._sweep_at = len(self._letters) + LETTERS_BETWEEN_SWEEPS

    def delete(self, gone: wire.Message) -> None:
        self._forget(gone)
        self._deleted[gone.id] = None
        bound(self._deleted)

    def _forget(self, old: wire.Message) -> None:
        self._letters.pop(old.id, None)
        if old.idempotency_key is not None:
            self._keys.pop((old.from_, old.idempotency_key), None)


def bound(remembered: dict[int, Any]) -> None:
    """What has long been durable is found in the store."""
    while len(remembered) > REMEMBERED_NUMBERS:
        del remembered[next(iter(remembered))]
