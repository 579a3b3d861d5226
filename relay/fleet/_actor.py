"""The base of the fleet's actors."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from relay.store import Durable

from ._moment import Moment

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["FleetActor"]

P = TypeVar("P")

MS = attrgetter("ms")


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

    def moment_alone(self) -> Moment:
        """Now, also later than any such moment of another actor: for what is identified by nothing else."""
        fleet = self.fleet
        last = max((each for each in (self._moment, fleet.alone) if each is not None), key=MS, default=None)
        self._moment = fleet.alone = Moment.now(fleet.system, self.store, after=last)
        return self._moment
