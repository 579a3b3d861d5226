"""A gate holds actors back while something they feed is full.

An actor whose `gate` (set before `started` is done) is closed keeps its mailbox and is not given its next message. What
is held back fills its bounded mailbox, so the pressure reaches the senders as `MailboxFull`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._cell import Cell

__all__ = ["Gate"]


class Gate:
    """Open at first. Closing and opening are idempotent and never block."""

    __slots__ = ("_waiting", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._waiting: dict[Cell, None] = {}

    def close(self) -> None:
        """Hold back every actor behind this gate before its next message."""
        self.closed = True

    def open(self) -> None:
        """Let them go on, in the order in which they were held back."""
        self.closed = False
        waiting, self._waiting = self._waiting, {}
        for cell in waiting:
            cell.held = False
            cell.system.scheduler.let_go(cell)

    def hold(self, cell: Cell) -> None:
        self._waiting[cell] = None

    def forget(self, cell: Cell) -> None:
        """It is told to stop, and waits for nothing any more."""
        self._waiting.pop(cell, None)
