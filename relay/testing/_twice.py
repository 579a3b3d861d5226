"""The same choices must give the same run; when they do not, something comes from outside the simulation."""

from __future__ import annotations

from itertools import zip_longest

import attrs

from ._failures import ActorsFailed
from ._guard import SimulationLeak
from ._properties import PropertyViolated
from ._run import Run

__all__ = ["HiddenNondeterminism", "alike", "hidden", "same_again"]

SHOWN = 300  # characters of a step


class HiddenNondeterminism(AssertionError):
    """The same choices gave two different runs: something comes from outside the simulation."""


def same_again(first: Run, second: Run) -> Run:
    """`first`, unless `second` shows that its choices do not determine it."""
    where = _difference(first, second)
    if where is None:
        return first
    return attrs.evolve(first, error=hidden(where, first.error or second.error))


def hidden(where: str, cause: BaseException | None) -> HiddenNondeterminism:
    """The error that says what was different."""
    error = HiddenNondeterminism(
        f"the same choices gave two different runs; {where}. "
        "Take time, ids and chance from the system, and do not depend on the order of sets or on addresses of objects."
    )
    error.__cause__ = cause
    return error


def alike(one: BaseException | None, other: BaseException | None) -> bool:
    """Whether two runs failed in the same way, or neither."""
    if type(one) is not type(other):
        return False
    if isinstance(one, ActorsFailed) and isinstance(other, ActorsFailed):
        return type(one.__cause__) is type(other.__cause__)
    return not isinstance(one, PropertyViolated | SimulationLeak) or str(one) == str(other)


def _difference(first: Run, second: Run) -> str | None:
    closely = first.said and second.said
    pairs = (first.said, second.said) if closely else (first.log, second.log)
    for step, (one, other) in enumerate(zip_longest(*pairs, fillvalue="the end"), start=1):
        if one != other:
            return f"at step {step} one has {_shown(one)}, the other {_shown(other)}"
    if first.record != second.record:
        return "with the same steps of actors, but other choices beside them"
    if not alike(first.error, second.error):
        return f"one came to {first.error!r}, the other to {second.error!r}"
    return None


def _shown(step: str) -> str:
    return repr(step if len(step) <= SHOWN else f"{step[:SHOWN]}...")
