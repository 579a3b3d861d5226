"""How many messages a mailbox holds, and what becomes of one too many."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import attrs

from ._ctrl_c import exposed
from ._orders import wanted
from ._reply import Entry, Reply, message_of

__all__ = ["Bounds", "Coalescing", "Overflow"]


class Overflow(enum.Enum):
    """What a full mailbox does with one more message. What is dropped is a dead letter; its asker is told."""

    REJECT = "reject"  # the sender gets MailboxFull
    DROP_OLDEST = "drop oldest"
    DROP_NEWEST = "drop newest"


def _a_number(_: object, attribute: attrs.Attribute[int], value: Any) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be a whole number, and is {value!r}")
    if value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, and is {value}")


def _an_overflow(_: object, attribute: attrs.Attribute[Overflow], value: Any) -> None:
    if not isinstance(value, Overflow):
        raise TypeError(f"{attribute.name} must be an Overflow, such as Overflow.REJECT, and is {value!r}")


def _a_function(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{attribute.name} must be a function of a message, and is {value!r}")


@attrs.frozen(kw_only=True)
class Bounds:
    """The bounds of one mailbox.

    With `coalesce`, a told message takes the place of a queued one with the same key, so of many only the newest is
    handled: for states, such as "the file changed", rather than for events. A key of None stands alone, and asks do.

    `undelivered(message, reason)` is called with every message told to the actor that becomes a dead letter. It belongs to
    the mailbox, not to an incarnation, and must not block; what it raises is on record in `system.failures`.
    """

    capacity: int = attrs.field(default=1000, validator=_a_number)
    overflow: Overflow = attrs.field(default=Overflow.REJECT, validator=_an_overflow)
    coalesce: Callable[[Any], Hashable] | None = attrs.field(default=None, validator=_a_function)
    undelivered: Callable[[Any, str], None] | None = attrs.field(default=None, validator=_a_function)


class Coalescing:
    """A queue in which a message replaces an older one of its key, in its place."""

    __slots__ = ("_entries", "_key", "_superseded")

    def __init__(self, key: Callable[[Any], Hashable], superseded: Callable[[], None]) -> None:
        self._key = key
        self._superseded = superseded
        self._entries: dict[Hashable, Entry] = {}

    def append(self, entry: Entry) -> None:
        key = self._key_of(entry)
        if key in self._entries and wanted(self._entries[key]):
            self._superseded()
        self._entries[key] = entry

    def popleft(self) -> Entry:
        return self._entries.pop(next(iter(self._entries)))

    def extend(self, entries: Iterable[Entry]) -> None:
        """Take in what was in a mailbox before. An entry whose key cannot be made any more stands alone."""
        for entry in entries:
            try:
                self.append(entry)
            except Exception:  # noqa: BLE001 - the user's own, and what was accepted is not lost
                self._entries[object()] = entry

    def clear(self) -> None:
        self._entries.clear()

    def holds(self, message: Entry) -> bool:
        """Whether `message` would take the place of another."""
        return self._key_of(message) in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def _key_of(self, entry: Entry) -> Hashable:
        asked = isinstance(entry, Reply) and entry.order is None
        key = None if asked else exposed(self._key, message_of(entry))
        return object() if key is None else (key,)
