"""How long hand-overs last, on the server's own clock: what the wall clock does to it is none of their business."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from relay.actors import Context, System

from ._contact import HELD_UP
from ._delivery_protocol import DeliveryProtocol, Look
from ._delivery_rules import VISIBLE

__all__ = ["Terms"]


class Terms:
    """The hand-overs to one agent, and when each has lasted too long."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._until: dict[int, float] = {}
        self._look_at: float | None = None

    def begin(self, numbers: Iterable[int]) -> None:
        """These last for `VISIBLE` seconds from now."""
        self._until.update(dict.fromkeys(numbers, self._system.now() + VISIBLE))

    def end(self, number: int) -> None:
        self._until.pop(number, None)

    def keep(self, numbers: Collection[int]) -> None:
        """There are no others: their messages were deleted."""
        self._until = {number: end for number, end in self._until.items() if number in numbers}

    def over(self, number: int) -> bool:
        now = self._system.now()
        return self._until.get(number, now) <= now

    def rang(self) -> None:
        """`Look` has come. If late, then the server was held up, and everything lasts anew."""
        if self._look_at is not None and self._system.now() - self._look_at > HELD_UP:
            self.begin(list(self._until))
        self._look_at = None

    def watch(self, context: Context[DeliveryProtocol]) -> None:
        """Have `Look` told when the first of them has lasted too long."""
        first = min(self._until.values(), default=None)
        if first is None:
            context.cancel_timer("look")
            self._look_at = None
        elif self._look_at is None or first < self._look_at:
            self._look_at = first
            context.set_timer("look", max(0.0, first - self._system.now()), Look())
