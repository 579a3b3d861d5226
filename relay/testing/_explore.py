"""Many runs of one scenario: different ones first, then, of the one that failed, ever simpler ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from ._choices import Chance, Exhaustive, Priorities, Record, Source
from ._faults import Faults
from ._properties import PropertyViolated
from ._run import Run, Scenario, run_once
from ._shrink import simplest
from ._twice import HiddenNondeterminism, hidden, same_again

__all__ = ["Exploration", "explore", "run_once"]

SHRINKS = 300  # runs spent on making a failing run simpler
REPEATED = 10  # one in so many runs is made twice, and so are the first two

Once = Callable[..., Run]


@attrs.define
class Exploration:
    """What came of all runs. `failed` is the simplest failing run that was found, `first` the one it was made of.

    `steps` of actors and tasks and `seconds` are those of the search, without what was spent on the failing run.
    """

    start: int
    runs: int = 0
    steps: int = 0
    seconds: float = 0.0
    failed: Run | None = None
    first: Run | None = None
    seed: int | None = None


def explore(
    scenario: Scenario,
    *,
    runs: int,
    faults: Faults,
    seed: int = 0,
    exhaustive: bool = False,
    **more: Any,
) -> Exploration:
    """Run `scenario` until it fails, or `runs` times, or, exhaustively, in every way there is.

    The rest is for `run_once`.
    """
    found = Exploration(seed)
    every = Exhaustive() if exhaustive else None
    seen: set[str] = set()
    expected: set[str] = set()
    tame: Run | None = None
    run: Run | None = None
    began = time.perf_counter()
    for number in range(runs):
        one = seed if exhaustive else seed + number
        source = every or _source(number, one, run)
        exposure = tame.exposure if tame else 0.0
        once: Once = partial(run_once, scenario, faults=faults, seed=one, exposure=exposure, **more)
        twice = number < 2 or not number % REPEATED
        run = once(source, close=twice)
        tame = tame or run
        found.runs += 1
        found.steps += run.steps + run.task_steps
        if every is not None and every.strayed:
            run = attrs.evolve(run, error=hidden("it came to another choice than before", run.error))
        elif (twice or run.error is not None) and not run.endless:
            again = once(Record(run.record), close=twice)
            found.steps += again.steps + again.task_steps
            run = same_again(run, again)
        found.seconds = time.perf_counter() - began
        seen |= run.seen
        expected |= run.expected
        if run.error is not None:
            found.seed, found.first, found.failed = one, run, _clarified(run, once)
            return found
        if every is not None and not every.next():
            break
    if expected - seen:
        missing = ", ".join(sorted(expected - seen))
        error = PropertyViolated(f"sometimes: {missing}; not once in {found.runs} runs")
        found.failed = found.first = Run([], error=error)
    return found


def _source(number: int, seed: int, last: Run | None) -> Source:
    """First the tame run, then chance and priorities in turn."""
    if last is None:
        return Record([])
    return Priorities(seed, picks=last.picks) if number % 3 == 0 else Chance(seed)


def _clarified(run: Run, once: Once) -> Run:
    """The run that is shown for one that failed: a simpler one, if it comes out the same each time.

    One without an end is shown as it is: making it simpler would take long.
    """
    if run.endless or isinstance(run.error, HiddenNondeterminism):
        return run
    run = simplest(run, lambda source, most: once(source, most=most), SHRINKS)
    closely, again = (once(Record(run.record), close=True) for _ in range(2))
    run = same_again(run, closely)
    return run if isinstance(run.error, HiddenNondeterminism) else same_again(closely, again)
