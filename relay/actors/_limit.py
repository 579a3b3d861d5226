"""How long an incarnation may go on with what it is at.

At first for ever. Once it is told to end it has the stop budget; then it is cancelled and named in a `StopOverran`.
What swallows even that is given up after as long again (`_patience`).
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from ._errors import StopOverran
from ._text import shown

if TYPE_CHECKING:
    from ._cell import Cell
    from ._timers import Timer

__all__ = ["Limit"]


class Limit:
    """The limit of one incarnation, and the scope around what it is at."""

    __slots__ = ("_cell", "_due", "_scope", "_timer")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._due = inf
        self._scope: trio.CancelScope | None = None
        self._timer: Timer | None = None

    def scope(self) -> trio.CancelScope:
        """Around what the incarnation is at from now on. It may have been told to end, or have failed, before."""
        self._scope = scope = trio.CancelScope()
        if self._cell.failure is not None:
            self.cut()
        elif self._due < inf:
            self._watch(scope)
        return scope

    def over(self) -> None:
        """It is at nothing that takes time any more."""
        self._scope = None
        if self._timer is not None:
            self._timer.cancel()

    def end(self) -> None:
        """What it is at has the stop budget from now on."""
        self._due = trio.current_time() + self._cell.policy.stop_budget
        if self._scope is not None:
            self._watch(self._scope)

    def cut(self) -> None:
        """Cancel what it is at: the incarnation has failed elsewhere."""
        cell = self._cell
        if self._scope is not None:
            cell.patience = trio.current_time() + 2 * cell.policy.stop_budget
            self._scope.cancel(reason=f"{cell.address} failed elsewhere: {shown(cell.failure)}")

    def _watch(self, scope: trio.CancelScope) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._cell.system.timers.at(self._due, partial(self._overran, scope))

    def _overran(self, scope: trio.CancelScope) -> None:
        if self._scope is not scope:
            return
        cell = self._cell
        late = StopOverran(f"{cell.address} did not stop within {cell.policy.stop_budget} s")
        cell.system.note(late, cell.address)
        cell.patience = trio.current_time() + cell.policy.stop_budget
        scope.cancel(reason=str(late))
