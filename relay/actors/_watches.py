"""Who wants to know when whom has stopped for good.

Watches go by identity, which for a family member is its family and key: it may be watched whether it is awake or not.
Falling asleep is no stop, and neither is a restart.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from ._cell import Cell
    from ._duties import Duties
    from ._family import Family

__all__ = ["Exit", "Watches"]


@attrs.frozen
class Exit:
    """An actor has stopped for good: by itself, by being stopped, or because of `error`."""

    address: str
    error: BaseException | None = None


class Watches:
    """All watches of a system: who is watched, by whom."""

    def __init__(self) -> None:
        self._watched: dict[Hashable, tuple[Cell, dict[Duties, None]]] = {}

    def add(self, target: Cell, watcher: Duties) -> None:
        self._watched.setdefault(target.identity, (target, {}))[1][watcher] = None

    def remove(self, target: Hashable, watcher: Duties) -> None:
        _, watchers = self._watched[target]
        del watchers[watcher]
        if not watchers:
            del self._watched[target]

    def tell(self, target: Cell) -> None:
        """Tell everybody who watches, once, that `target` has stopped for good."""
        identity = target.identity
        if identity in self._watched:
            _, watchers = self._watched.pop(identity)
            exit_ = Exit(target.address, target.failure)
            for watcher in watchers:
                watcher.departed(identity, exit_)

    def family_stopped(self, family: Family[Any, Any]) -> None:
        """No member of `family` that is asleep will ever wake again."""
        for target, _ in list(self._watched.values()):
            if target.family is family and family.active(target.key) is None:
                self.tell(target)
