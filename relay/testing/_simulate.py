"""`@simulate`: a test that is run in many ways."""

from __future__ import annotations

import functools
import inspect
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import attrs

from ._choices import Record
from ._explore import explore
from ._faults import Faults
from ._report import replayed, report
from ._run import Scenario, run_once
from ._session import session
from ._sim import Sim

__all__ = ["simulate"]

P = ParamSpec("P")
T = TypeVar("T")


class Simulate(Protocol):
    """What makes a test of a scenario, be that a function or a method."""

    @overload
    def __call__(self, scenario: Callable[Concatenate[Sim, P], Awaitable[None]], /) -> Callable[P, None]: ...
    @overload
    def __call__(
        self, scenario: Callable[Concatenate[T, Sim, P], Awaitable[None]], /
    ) -> Callable[Concatenate[T, P], None]: ...


def simulate(
    misplaced: None = None,
    /,
    *,
    runs: int = 200,
    faults: Faults | None = None,
    seed: int | None = None,
    exhaustive: bool = False,
    limit: float = 1e6,
    keeps_failures: bool = False,
) -> Simulate:
    """Run an async test, whose first parameter is a `Sim` called `sim`, under many schedules and with the given faults.

    The runs differ in the order of tasks and messages and in what goes wrong. They are the same each time, unless
    `--relay-seed` says otherwise. A failing run is made simpler and reported with the command that repeats it. With
    `exhaustive` every choice is tried, up to `runs` runs. `limit` is how long (virtual seconds) a run may wait.

    A run fails also when an actor does by itself, and not because of a fault, unless the scenario takes that out of
    `system.failures`, or with `keeps_failures`. Raises `TypeError` for what is no scenario.
    """
    if misplaced is not None:
        raise TypeError("write @simulate(), with parentheses")
    if runs < 1:
        raise ValueError(f"runs is how many there are, at least 1, not {runs}")
    how = _How(runs, faults or Faults(), seed, exhaustive, limit, keeps_failures)
    return functools.partial(_decorated, how)


@attrs.frozen
class _How:
    runs: int
    faults: Faults
    seed: int | None
    exhaustive: bool
    limit: float
    keeps_failures: bool

    def run(self, scenario: Scenario, name: str) -> None:
        """What the test does."""
        __tracebackhide__ = True
        first = zlib.crc32(name.encode()) if self.seed is None else self.seed
        start = first if session.seed is None else session.seed
        chosen: dict[str, Any] = {
            "faults": self.faults,
            "seed": start,
            "limit": self.limit,
            "keeps_failures": self.keeps_failures or session.marked("keeps_failures"),
        }
        if session.replay is not None:
            record = Record(session.replay)
            replayed(run_once(scenario, record, **chosen), record)
            return
        found = explore(scenario, runs=session.runs or self.runs, exhaustive=self.exhaustive, **chosen)
        session.note(found.runs, found.steps, found.seconds)
        if found.failed is not None:
            report(found)


def _decorated(how: _How, scenario: Callable[..., Awaitable[None]], /) -> Callable[..., None]:
    parameters = _checked(scenario)
    before = 1 if parameters[0].name == "self" else 0

    @functools.wraps(scenario)
    def test(*given: Any, **named: Any) -> None:
        __tracebackhide__ = True
        owner, rest = given[:before], given[before:]
        how.run(lambda sim: scenario(*owner, sim, *rest, **named), scenario.__qualname__)

    del parameters[before]
    vars(test)["__signature__"] = inspect.Signature(parameters)
    vars(test)["is_simulated"] = True
    del test.__wrapped__
    return test


def _checked(scenario: Callable[..., Awaitable[None]]) -> list[inspect.Parameter]:
    """The parameters of what is a scenario."""
    name = getattr(scenario, "__qualname__", repr(scenario))
    if not inspect.iscoroutinefunction(scenario):
        raise TypeError(f"{name} is no scenario: write async def {name}(sim: Sim)")
    parameters = list(inspect.signature(scenario).parameters.values())
    own = parameters[1:] if parameters and parameters[0].name == "self" else parameters
    if (
        not own
        or own[0].name != "sim"
        or own[0].kind not in (own[0].POSITIONAL_ONLY, own[0].POSITIONAL_OR_KEYWORD)
    ):
        raise TypeError(f"the first parameter of {name} must be sim: the simulated run")
    return parameters
