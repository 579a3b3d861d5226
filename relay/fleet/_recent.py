"""The messages as the post office has decided on them: reading sees only what is durable."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from relay import wire
from relay.store import Store

from ._mailboxes import find_message
from ._staged import Durability, Staged

__all__ = ["Recent"]


class Recent:
    """Every message with what was decided on it so far, durable or not."""

    def __init__(self, store: Store, durability: Durability) -> None:
        self._store = store
        self._letters: Staged[int, wire.Message] = Staged(durability)
        self._keys: Staged[tuple[str, str], int] = Staged(durability)

    def find(self, number: int) -> wire.Message | None:
        if number in self._letters:
            return self._letters[number]
        return find_message(self._store, number)

    def there(self, numbers: Sequence[int]) -> list[int]:
        """Those of these messages that there are."""
        sql = "select id from messages where id in (select value from json_each(?))"
        durable = {number for (number,) in self._store.rows(sql, orjson.dumps(numbers).decode())}
        return [
            number
            for number in numbers
            if (self._letters[number] is not None if number in self._letters else number in durable)
        ]

    def earlier(self, asked: wire.SendMessage) -> wire.Message | None:
        """The message that this sender already sent with this key (MSG-13)."""
        if asked.idempotency_key is None:
            return None
        key = (asked.from_, asked.idempotency_key)
        if key in self._keys:
            number = self._keys[key]
        else:
            row = self._store.row("select id from messages where sender = ? and idempotency_key = ?", *key)
            number = row[0] if row else None
        return self.find(number) if number is not None else None

    def remember(self, stored: wire.Message) -> None:
        """It is new, or is now so."""
        self._letters.put(stored.id, stored)
        if stored.idempotency_key is not None:
            self._keys.put((stored.from_, stored.idempotency_key), stored.id)

    def delete(self, gone: wire.Message) -> None:
        self._letters.put(gone.id, None)
        if gone.idempotency_key is not None:
            self._keys.put((gone.from_, gone.idempotency_key), None)
