"""The ways by which messages come to a runner: relay's ladder of deliveries, or polling, as the contract has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from relay import wire

from .acknowledged import Key
from .adapter import AgentGone, DeliveryFailed

__all__ = ["Way"]


class Way(Protocol):
    """Where the next messages come from, and who is told what became of them."""

    paced: bool
    """Whether relay sees to the pauses after a failure."""

    async def next_batch(self) -> tuple[Sequence[wire.Message], bool]:
        """What is handed over next, oldest first, claimed if need be; and whether there may be more."""

    def acknowledged(self, keys: Sequence[Key]) -> None:
        """The agent has taken these, maybe long after it was given up."""

    def failed(self, keys: Sequence[Key], error: DeliveryFailed | AgentGone, *, after: float) -> None:
        """These were handed over together, and not taken; `after` so many seconds."""

    async def tell(self, keys: Sequence[Key]) -> None:
        """Tell relay that these were taken. What fails is made up for by the next batch."""

    def forgive(self) -> None:
        """Whatever was given up gets another chance."""
