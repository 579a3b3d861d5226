"""Who wants to know when whom has stopped for good.

Watches go by address, so a family member may be watched whether it is awake or not; falling asleep is no stop, and
neither is a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ._duties import Duties

__all__ = ["Exit", "Watches"]


@attrs.frozen
class Exit:
    """An actor has stopped for good: by itself, by being stopped, or because of `error`."""

    address: str
    error: BaseException | None = None


class Watches:
    """All watches of a system."""

    def __init__(self) -> None:
        self._watchers: dict[str, dict[Duties, None]] = {}

    def add(self, address: str, watcher: Duties) -> None:
        self._watchers.setdefault(address, {})[watcher] = None

    def remove(self, address: str, watcher: Duties) -> None:
        watchers = self._watchers[address]
        del watchers[watcher]
        if not watchers:
            del self._watchers[address]

    def tell(self, exit_: Exit) -> None:
        """Tell everybody who watches, once."""
        for watcher in self._watchers.pop(exit_.address, ()):
            watcher.departed(exit_)
