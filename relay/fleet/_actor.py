"""The base of the fleet's actors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from relay.store import Durable

from ._moment import Moment

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["FleetActor"]

P = TypeVar("P")


class FleetActor(Durable[P]):
    """A durable actor that knows its neighbours and dates what it decides."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.store)
        self.fleet = fleet
        self._moment: Moment | None = None

    def moment(self) -> Moment:
        """Now, later than any moment this incarnation has had."""
        self._moment = Moment.now(self.fleet.system, self.store, after=self._moment)
        return self._moment
