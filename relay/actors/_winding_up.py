"""The end of an incarnation, as far as it takes time.

Its children end first, in the reverse order of their start, each within its own stop budget; then its background
tasks, then its `stopped` hook, each within the budget of this one. Who overruns is named in a `StopOverran`; and what
cannot be cancelled is waited for, since the next incarnation must not begin beside it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ._errors import StopOverran
from ._handling import Handling, Hook, current
from ._patience import patiently

if TYPE_CHECKING:
    from ._actor import Step
    from ._cell import Cell

__all__ = ["run_hook", "wind_up"]


async def wind_up(cell: Cell, hook: Step) -> None:
    """Raises what the hook raises. `hook` is its coroutine if it has been called already."""
    cell.handling = Handling(cell, Hook("stopping"))
    try:
        failed = await _end_children(cell, cell.handling)
        if cell.duties is not None:
            with _naming(cell):
                await cell.duties.close()
        if hook is None:
            hook = cell.call_stopped()
        if hook is not None:
            with _naming(cell), trio.move_on_after(cell.policy.stop_budget, shield=True):
                await run_hook(cell, "stopped", hook)
        if failed is not None:
            raise failed
    finally:
        cell.handling = None


async def run_hook(cell: Cell, name: str, hook: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine of a hook, as a part of `cell`."""
    cell.handling = handling = Handling(cell, Hook(name), coroutine=hook)
    current.set(handling)
    try:
        await patiently(hook, cell)
    finally:
        cell.handling = None


async def _end_children(cell: Cell, handling: Handling) -> BaseException | None:
    """What the first of them failed with while it stopped."""
    failed: BaseException | None = None
    for child in reversed(list((cell.children or {}).values())):
        child.stop()
        with handling.waiting_for(child):
            await child.gone()
        failed = failed or child.stop_error
    return failed


@contextmanager
def _naming(cell: Cell) -> Iterator[None]:
    """Name `cell` if the block takes longer than the stop budget, and give up code that does not end at all."""
    budget = cell.policy.stop_budget
    late = StopOverran(f"{cell.address} did not end within {budget} s")
    due = trio.current_time() + budget
    cell.patience = due + budget
    timer = cell.system.timers.at(due, partial(cell.system.note, late, cell.address))
    try:
        yield
    finally:
        if timer.action is not None and trio.current_time() >= due:
            timer.action()  # it is due at this very moment, and has not come to its turn
        timer.cancel()
