"""Many runs of one scenario: different ones first, then, of the one that failed, ever simpler ones."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import trio
from trio.testing import MockClock

from relay.actors._hooks import simulation

from ._choices import Chance, Choices, Exhaustive, Priorities, Record, Source
from ._guard import nothing_real
from ._sim import MOST_STEPS, Abandoned, Faults, PropertyViolated, Sim
from ._trio import ordered_by

__all__ = ["Exploration", "HiddenNondeterminism", "Run", "explore", "run_once"]

SHRINKS = 300  # runs spent on making a failing run simpler, and
SHRINK_STEPS = 1_000_000  # steps of tasks in them

Scenario = Callable[..., Awaitable[None]]


class HiddenNondeterminism(AssertionError):
    """The same choices gave two different runs: something comes from outside the simulation."""


@attrs.frozen
class Run:
    """What came of one run. `steps` are those of actors, `task_steps` those of trio's tasks."""

    record: list[int]
    log: list[str]
    steps: int
    task_steps: int
    error: BaseException | None
    seen: set[str]
    expected: set[str]


@attrs.define
class Exploration:
    """What came of all runs. `failed` is the simplest failing run that was found, `first` the one it was made of."""

    runs: int = 0
    steps: int = 0
    seconds: float = 0.0
    failed: Run | None = None
    first: Run | None = None
    seed: int | None = None


def run_once(
    scenario: Scenario,
    source: Source,
    *,
    faults: Faults,
    seed: int = 0,
    limit: float = 1e6,
    most: int = MOST_STEPS,
    arguments: dict[str, Any] | None = None,
) -> Run:
    """One run under virtual time. `limit` is how many seconds it may take, `most` how many steps of tasks."""
    choices = Choices(source)
    sim = Sim(choices, faults, seed, most)

    async def play() -> None:
        __tracebackhide__ = True
        simulation.set(sim)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sim.watch_over, limit)
            await scenario(sim, **(arguments or {}))
            await sim.finish()
            nursery.cancel_scope.cancel()

    async def main() -> None:
        with nothing_real(), sim.scope:
            await play()

    error: BaseException | None = None
    try:
        with ordered_by(choices, sim.tasks), _seeded(seed):
            trio.run(main, clock=MockClock(autojump_threshold=0))
    except Exception as raised:  # noqa: BLE001 - whatever it is, it is what the run came to
        error = _leaf(raised)
    except BaseExceptionGroup as raised:
        _, others = raised.split((Abandoned, Exception))
        if others is not None:
            raise
    return Run(
        choices.record, sim.log, sim.steps, sim.task_steps, sim.failed or error, sim.seen, sim.expected
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Within the block the chance that belongs to no system, that of the module `random`, is of this seed."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


def explore(
    scenario: Scenario,
    *,
    runs: int,
    faults: Faults,
    seed: int = 0,
    exhaustive: bool = False,
    limit: float = 1e6,
    arguments: dict[str, Any] | None = None,
) -> Exploration:
    """Run `scenario` until it fails, or `runs` times, or, exhaustively, in every way there is."""
    found = Exploration()
    seen: set[str] = set()
    expected: set[str] = set()
    began = time.perf_counter()
    for number, (run_seed, source) in enumerate(_sources(runs, seed, exhaustive=exhaustive)):

        def once(source: Source, most: int = MOST_STEPS, run_seed: int = run_seed) -> Run:
            return run_once(
                scenario, source, faults=faults, seed=run_seed, limit=limit, most=most, arguments=arguments
            )

        run = once(source)
        if isinstance(source, Exhaustive) and source.strayed:
            run = attrs.evolve(run, error=_hidden("it came to another choice than before", run.error))
        elif not number or run.error is not None:
            run = _same_again(run, once(Record(run.record)))
        found.runs += 1
        found.steps += run.steps
        seen |= run.seen
        expected |= run.expected
        if run.error is not None:
            found.seed, found.first = run_seed, run
            found.failed = run
            if not isinstance(run.error, HiddenNondeterminism):
                simplest = _shrink(run, once)
                found.failed = _same_again(simplest, once(Record(simplest.record)))
            break
    found.seconds = time.perf_counter() - began
    if found.failed is None and expected - seen:
        error = PropertyViolated(
            f"sometimes: {', '.join(sorted(expected - seen))}; not once in {found.runs} runs"
        )
        found.failed = found.first = Run([], [], 0, 0, error, seen, expected)
    return found


def _sources(runs: int, seed: int, *, exhaustive: bool) -> Iterator[tuple[int, Source]]:
    """First the tame run, then chance and priorities in turn."""
    if exhaustive:
        every = Exhaustive()
        for _ in range(runs):
            yield seed, every
            if not every.next():
                return
        return
    yield seed, Record([])
    for number in range(1, runs):
        one = seed + number
        yield one, (Priorities(one) if number % 3 == 0 else Chance(one))


def _same_again(first: Run, second: Run) -> Run:
    """`first`, unless `second` shows that its choices do not determine it."""
    where = _difference(first, second)
    if where is None:
        return first
    return attrs.evolve(first, error=_hidden(where, first.error or second.error))


def _hidden(where: str, cause: BaseException | None) -> HiddenNondeterminism:
    error = HiddenNondeterminism(
        f"the same choices gave two different runs; {where}. "
        "Take time, ids and chance from the system, and do not depend on the order of sets or on addresses of objects."
    )
    error.__cause__ = cause
    return error


def _difference(first: Run, second: Run) -> str | None:
    pairs = zip([*first.log, "the end"], [*second.log, "the end"], strict=False)
    for step, (one, other) in enumerate(pairs, start=1):
        if one != other:
            return f"at step {step} one has {one!r}, the other {other!r}"
    if first.record != second.record:
        return "with the same steps of actors, but other choices beside them"
    if not _alike(first.error, second.error):
        return f"one came to {first.error!r}, the other to {second.error!r}"
    return None


def _shrink(run: Run, once: Callable[[Source, int], Run]) -> Run:
    """The simplest run that fails in the same way, of those that some cutting and levelling leads to."""
    left, steps = SHRINKS, SHRINK_STEPS
    most = min(MOST_STEPS, 10 * run.task_steps + 1_000)  # whoever takes longer is not simpler

    def fails(record: Sequence[int]) -> Run | None:
        nonlocal left, steps
        tried = once(Record(record), most)
        left, steps = left - 1, steps - tried.task_steps
        return tried if _alike(tried.error, run.error) else None

    size = max(1, len(run.record) // 2)
    while size and left > 0 and steps > 0:
        at, progress = 0, False
        while at < len(run.record) and left > 0 and steps > 0:
            record = run.record
            simpler = fails(record[:at] + record[at + size :])
            if simpler is None and any(record[at : at + size]):
                simpler = fails([*record[:at], *[0] * len(record[at : at + size]), *record[at + size :]])
            if simpler is not None and _weight(simpler.record) < _weight(record):
                run, progress = simpler, True
            else:
                at += size
        if not progress:
            size //= 2
    return run


def _weight(record: Sequence[int]) -> tuple[int, int]:
    """How complicated a run is: its choices that are not tame, then its length."""
    return sum(map(bool, record)), len(record)


def _alike(one: BaseException | None, other: BaseException | None) -> bool:
    if isinstance(one, PropertyViolated):
        return type(one) is type(other) and str(one) == str(other)
    return type(one) is type(other)


def _leaf(error: BaseException) -> BaseException:
    """The only failure of a group, or the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
