"""Where a simulation takes over.

A simulation sets `simulation` in the context of its run; every system that is opened there takes its scheduler, its
seed and its wall time from it. Nothing else of the runtime knows about simulations.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ._scheduler import Scheduler
    from ._system import System

__all__ = ["Simulation", "simulation"]


class Simulation(Protocol):
    """What a system asks of a simulation."""

    def scheduler(self) -> Scheduler:
        """The scheduler of one system."""

    def opened(self, system: System) -> None:
        """A system has been made."""

    def seed(self) -> int:
        """What the system's ids and jitter are drawn from."""

    def wall(self) -> float:
        """Seconds since 1970."""

    async def leaving(self) -> None:
        """The block of a system is left without an error, and its actors still live."""

    def fault(self, name: str) -> bool:
        """Whether the named thing is to go wrong this time."""


simulation: ContextVar[Simulation | None] = ContextVar("relay_simulation", default=None)
