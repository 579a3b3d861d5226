"""Of a failing run, ever simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._choices import Record, Source
from ._run import Run
from ._sim import MOST_STEPS
from ._twice import alike

__all__ = ["not_tame", "simplest"]

SHRINK_STEPS = 1_000_000  # of all that is spent on it


def simplest(run: Run, once: Callable[[Source, int], Run], tries: int) -> Run:
    """The simplest run that fails in the same way, of those that some cutting and levelling leads to.

    `once` makes a run of at most so many steps, at most `tries` times.
    """
    left, steps = tries, SHRINK_STEPS
    most = min(MOST_STEPS, 10 * (run.steps + run.task_steps) + 1_000)  # whoever takes longer is not simpler

    def fails(record: Sequence[int]) -> Run | None:
        nonlocal left, steps
        tried = once(Record(record), most)
        left, steps = left - 1, steps - tried.steps - tried.task_steps
        return tried if alike(tried.error, run.error) else None

    size = max(1, len(run.record) // 2)
    while size and left > 0 and steps > 0:
        at, progress = 0, False
        while at < len(run.record) and left > 0 and steps > 0:
            record = run.record
            simpler = fails(record[:at] + record[at + size :])
            if simpler is None and any(record[at : at + size]):
                simpler = fails([*record[:at], *[0] * len(record[at : at + size]), *record[at + size :]])
            if simpler is not None and _weight(simpler) < _weight(run):
                run, progress = simpler, True
            else:
                at += size
        if not progress:
            size //= 2
    return run


def not_tame(run: Run) -> int:
    """How many of its choices are not the tame ones."""
    return sum(map(bool, run.record))


def _weight(run: Run) -> tuple[int, int]:
    """How complicated it is."""
    return not_tame(run), len(run.record)
