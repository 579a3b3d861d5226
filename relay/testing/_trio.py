"""trio's order of tasks, taken from a simulation's choices.

trio has no public way to do that (python-trio/trio issues 239 and 2675). It does have a switch that Hypothesis uses:
every batch of runnable tasks is put into the order of their creation and shuffled by a module-level source. This is the
only module that knows of it; `test_trio_order.py` fails when trio changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trio._core import _run

if TYPE_CHECKING:
    from ._choices import Choices

__all__ = ["ordered_by"]


class _Shuffler:
    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def shuffle(self, batch: list[Any]) -> None:
        """Order the batch; trio runs it from its end."""
        waiting = list(batch)
        order = []
        while waiting:
            order.append(waiting.pop(self._choices.pick(waiting)))
        batch[:] = reversed(order)

    def random(self) -> float:
        return 0.0


@contextmanager
def ordered_by(choices: Choices) -> Iterator[None]:
    """Within the block, `choices` decides which task runs next in every trio run of this thread."""
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r  # noqa: SLF001
    vars(_run).update(_ALLOW_DETERMINISTIC_SCHEDULING=True, _r=_Shuffler(choices))
    try:
        yield
    finally:
        vars(_run).update(_ALLOW_DETERMINISTIC_SCHEDULING=before[0], _r=before[1])
