"""One run of a scenario, and what came of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from unittest import SkipTest

import attrs
import trio
from trio.testing import MockClock

from relay.actors._hooks import simulation

from ._choices import Choices, Source
from ._faults import Faults
from ._guard import nothing_real
from ._sim import MOST_STEPS, Abandoned, Sim
from ._trio import ordered_by

__all__ = ["Run", "Scenario", "leaf", "run_once"]

Scenario = Callable[..., Awaitable[None]]


@attrs.frozen
class Run:
    """What came of one run. `steps` are those of actors, `task_steps` those of trio's tasks.

    `log` has a line for each step of an actor; `said` as well, with the whole message, if it was looked at closely.
    `picks` and `exposure` say how long it was: in decisions of whose turn it is, and in faults that could have happened.
    `endless`: it was ended, for it would not end by itself.
    """

    record: list[int]
    log: list[str] = attrs.field(factory=list)
    said: list[str] = attrs.field(factory=list)
    steps: int = 0
    task_steps: int = 0
    picks: int = 0
    exposure: float = 0.0
    endless: bool = False
    error: BaseException | None = None
    seen: set[str] = attrs.field(factory=set)
    expected: set[str] = attrs.field(factory=set)


def run_once(
    scenario: Scenario,
    source: Source,
    *,
    faults: Faults,
    seed: int = 0,
    limit: float = 1e6,
    most: int = MOST_STEPS,
    exposure: float = 0.0,
    close: bool = False,
    keeps_failures: bool = False,
) -> Run:
    """One run under virtual time. `limit` is how many seconds it may take, `most` how many steps.

    What it came to is in `Run.error`, except what is about the test and not about the run, which is raised: that it is
    skipped, say, or Ctrl-C.
    """
    choices = Choices(source)
    sim = Sim(choices, faults, seed, most=most, exposure=exposure, close=close, keeps_failures=keeps_failures)

    async def play() -> None:
        __tracebackhide__ = True
        simulation.set(sim)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sim.watch_over, limit)
            await scenario(sim)
            await sim.finish()
            nursery.cancel_scope.cancel()

    async def main() -> None:
        with nothing_real(sim.fail), sim.scope:
            await play()

    error: BaseException | None = None
    try:
        with ordered_by(choices, sim.tasks), _seeded(seed):
            trio.run(main, clock=MockClock(autojump_threshold=0))
    except BaseException as raised:  # noqa: BLE001 - whatever it is, it is what the run came to
        error = _without(Abandoned, raised)
        _let_out(error)
    return Run(
        record=choices.record,
        log=sim.log,
        said=sim.said,
        steps=sim.steps,
        task_steps=sim.task_steps,
        picks=choices.picks,
        exposure=sim.misfortune.exposure,
        endless=sim.endless,
        error=sim.failed or error,
        seen=sim.properties.seen,
        expected=sim.properties.expected,
    )


def leaf(error: BaseException) -> BaseException:
    """The only failure of a group, or the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _without(kind: type[BaseException], error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        rest = error.split(kind)[1]
        return None if rest is None else leaf(rest)
    return None if isinstance(error, kind) else error


def _let_out(error: BaseException | None) -> None:
    """Raise what is about the whole test: Ctrl-C, and that it is skipped or expected to fail."""
    if error is None:
        return
    pytest = sys.modules.get("pytest")
    kinds: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, SkipTest)
    if pytest is not None:
        kinds += (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)
    if isinstance(error, kinds):
        raise error
    if isinstance(error, BaseExceptionGroup) and (about := error.subgroup(kinds)) is not None:
        raise leaf(about)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Within the block the chance that belongs to no system, that of the module `random`, is of this seed."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
