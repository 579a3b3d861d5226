"""What an actor has ordered for itself, by a timer or a watch, and may still withdraw.

An order stands in the mailbox like any message, in a `Reply` that nobody waits for. It counts as long as it is the last
one of its key among those of its incarnation: cancelling or arming the timer again, ending the watch, and the end of
the incarnation withdraw it. A withdrawn one is dropped when its turn comes, and meets no fate, as it never was a
message.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, final

from ._reply import Reply

if TYPE_CHECKING:
    from ._reply import Entry

__all__ = ["Order", "Orders", "wanted"]


@final
class Order:
    """One order, between its placing and its being taken."""

    __slots__ = ("_among", "_key")

    def __init__(self, among: dict[Hashable, Order], key: Hashable) -> None:
        self._among = among
        self._key = key

    def take(self) -> bool:
        """Whether it still counts. It does so once."""
        if self._among.get(self._key) is not self:
            return False
        del self._among[self._key]
        return True


@final
class Orders:
    """Those of one kind and one incarnation that have not been taken yet, by key."""

    __slots__ = ("_standing",)

    def __init__(self) -> None:
        self._standing: dict[Hashable, Order] = {}

    def place(self, key: Hashable, message: object) -> Reply[object]:
        """What to put into the mailbox. An earlier order of this key is withdrawn."""
        order = self._standing[key] = Order(self._standing, key)
        return Reply(message, order)

    def withdraw(self, key: Hashable) -> None:
        self._standing.pop(key, None)

    def withdraw_all(self) -> None:
        self._standing.clear()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._standing


def wanted(entry: Entry) -> bool:
    """Whether an entry that is taken out of a mailbox is still wanted."""
    return not isinstance(entry, Reply) or entry.order is None or entry.order.take()
