"""`@simulate`: a test that is run in many ways."""

from __future__ import annotations

import functools
import inspect
import os
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from ._choices import Record, decode, encode
from ._explore import Exploration, HiddenNondeterminism, explore, run_once
from ._sim import Faults

__all__ = ["Options", "options", "simulate", "summary"]


@attrs.define
class Options:
    """What the command line says; the pytest plugin fills it in."""

    seed: int | None = None
    runs: int | None = None
    replay: str | None = None


options = Options()
summary: list[tuple[str, Exploration]] = []


def simulate(
    *,
    runs: int = 200,
    faults: Faults | None = None,
    seed: int | None = None,
    exhaustive: bool = False,
    limit: float = 1e6,
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run an async test, whose first parameter is a `Sim`, under many schedules and with the given faults.

    The runs differ in the order of tasks and messages and in what goes wrong. They are the same each time, unless
    `--relay-seed` says otherwise. A failing run is made simpler and reported with the command that repeats it. With
    `exhaustive` every choice is tried, up to `runs` runs. `limit` is how long (virtual seconds) a run may wait.
    """

    def decorate(scenario: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        first = zlib.crc32(scenario.__qualname__.encode()) if seed is None else seed

        @functools.wraps(scenario)
        def test(**arguments: Any) -> None:
            __tracebackhide__ = True
            chosen = {"faults": faults or Faults(), "limit": limit, "arguments": arguments}
            start = first if options.seed is None else options.seed
            if options.replay is not None:
                run = run_once(scenario, Record(decode(options.replay)), seed=start, **chosen)  # type: ignore[arg-type]
                if run.error is not None:
                    raise run.error
                return
            found = explore(
                scenario,
                runs=options.runs or runs,
                seed=start,
                exhaustive=exhaustive,
                **chosen,  # type: ignore[arg-type]
            )
            summary.append((scenario.__qualname__, found))
            if found.failed is not None:
                _report(found)

        parameters = list(inspect.signature(scenario).parameters.values())[1:]
        vars(test)["__signature__"] = inspect.Signature(parameters)
        del test.__wrapped__
        return test

    return decorate


def _report(found: Exploration) -> None:
    """Raise the failure, with what is needed to see it again."""
    __tracebackhide__ = True
    assert found.failed is not None
    assert found.first is not None
    error = found.failed.error
    assert error is not None
    test = os.environ.get("PYTEST_CURRENT_TEST", "the test").partition(" ")[0]
    if found.seed is not None:
        choices = f"{len(found.failed.record)} choices, made of {len(found.first.record)}"
        error.add_note(f"run {found.runs} of this test failed; its schedule has {choices}. Last steps:")
        for line in found.failed.log[-12:]:
            error.add_note(f"  {line}")
        if isinstance(error, HiddenNondeterminism):
            error.add_note("no replay: the choices do not determine the run")
        else:
            error.add_note(
                f"replay: pytest {test} --relay-seed={found.seed} --relay-replay={encode(found.failed.record)}"
            )
    raise error
