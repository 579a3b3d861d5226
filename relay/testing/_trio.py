"""trio's order of tasks, taken from a simulation's choices.

trio has no public way to do that (python-trio/trio issues 239 and 2675). It does have a switch that Hypothesis uses:
every batch of runnable tasks is put into the order of their creation and shuffled by a module-level source. This is the
only module that knows of it, of what a task is to be sent next, and of where trio keeps idle threads;
`test_trio_order.py` fails when trio changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from outcome import Error, Outcome
from trio._core import _run
from trio._core._thread_cache import ThreadCache as ThreadCache

if TYPE_CHECKING:
    from trio.lowlevel import Task

    from ._choices import Choices

__all__ = ["ThreadCache", "interrupt", "ordered_by"]


def _ignore(batch: Sequence[Task]) -> None: ...


class _Shuffler:
    def __init__(self, choices: Choices, before: Callable[[Sequence[Task]], None]) -> None:
        self._choices = choices
        self._before = before

    def shuffle(self, batch: list[Any]) -> None:
        """Order the batch; trio runs it from its end."""
        self._before(batch)
        waiting = list(batch)
        order = []
        while waiting:
            order.append(waiting.pop(self._choices.pick(waiting)))
        batch[:] = reversed(order)

    def random(self) -> float:
        return 0.0


@contextmanager
def ordered_by(choices: Choices, before: Callable[[Sequence[Task]], None] = _ignore) -> Iterator[None]:
    """Within the block, `choices` decides which task runs next in every trio run of this thread.

    `before` is called with the tasks that are about to run, before their order is chosen.
    """
    usual = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r  # noqa: SLF001
    vars(_run).update(_ALLOW_DETERMINISTIC_SCHEDULING=True, _r=_Shuffler(choices, before))
    try:
        yield
    finally:
        vars(_run).update(_ALLOW_DETERMINISTIC_SCHEDULING=usual[0], _r=usual[1])


def interrupt(task: Task, error: BaseException) -> None:
    """Raise `error` where `task`, which is about to run, has stopped; shields do not keep it off.

    A task that has not begun is left to begin.
    """
    if isinstance(task._next_send, Outcome):  # noqa: SLF001
        task._next_send = Error(error)  # noqa: SLF001
