"""When a failed actor is started again, how soon, and when enough is enough.

A policy says which ends are followed by a restart and what the budget of restarts is. Each child has a budget of
its own. A child that exceeds it takes its parent with it, except in a family, where it is put in quarantine: its
neighbours have done nothing wrong. So it is with a child that was given a budget of its own under a `Supervisor`.
"""

from __future__ import annotations

import enum
from collections import deque
from random import Random  # noqa: TID251 - the type; the source is the system's
from typing import Any

import attrs

from ._errors import ActorFailed, RestartsExhausted, Unavailable
from ._protocols import IncompleteHandler

__all__ = ["Budget", "Restart", "Supervision", "delay", "exhausted"]


MOST_DOUBLINGS = 64
LEAST_FREE_DELAY = 0.01  # seconds before a restart that costs nothing, so that nothing but time limits


class Restart(enum.Enum):
    """Which ends of a child are followed by a restart."""

    PERMANENT = "permanent"  # every end but a stop from outside
    TRANSIENT = "transient"  # failures only
    TEMPORARY = "temporary"  # none


def _at_least(least: float, *, above: bool = False) -> Any:
    def check(_: object, attribute: attrs.Attribute[float], value: Any) -> None:
        if not isinstance(value, int | float):
            raise TypeError(f"{attribute.name} must be a number, and is {value!r}")
        if not (value > least if above else value >= least):
            raise ValueError(
                f"{attribute.name} must be {'above' if above else 'at least'} {least:g}, and is {value!r}"
            )

    return check


def _share(_: object, attribute: attrs.Attribute[float], value: Any) -> None:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} must be a number from 0 to 1, and is {value!r}")


def _a_restart(_: object, attribute: attrs.Attribute[Restart], value: Any) -> None:
    if not isinstance(value, Restart):
        raise TypeError(f"{attribute.name} must be a Restart, such as Restart.TRANSIENT, and is {value!r}")


@attrs.frozen(kw_only=True)
class Supervision:
    """How a child is supervised, one_for_one.

    `restarts` failures within `within` seconds are forgiven; the next one is escalated. The delay before the n-th
    restart in that window is `backoff * 2**(n-1)` seconds, at most `backoff_limit`, spread by +-`jitter`.
    An end that is no failure, or nobody's (`Unavailable`), costs nothing, and is followed by the first delay, of at least
    10 ms.
    `stop_budget` is how long (seconds) a child may take to stop before it is cancelled and named.
    """

    restart: Restart = attrs.field(default=Restart.TRANSIENT, validator=_a_restart)
    restarts: int = attrs.field(default=5, validator=_at_least(0))
    within: float = attrs.field(default=30.0, validator=_at_least(0, above=True))
    backoff: float = attrs.field(default=0.1, validator=_at_least(0))
    backoff_limit: float = attrs.field(default=10.0, validator=_at_least(0))
    jitter: float = attrs.field(default=0.2, validator=_share)
    stop_budget: float = attrs.field(default=5.0, validator=_at_least(0))


class Budget:
    """The failures of one child that still count."""

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures: deque[float] = deque()

    def spend(
        self, error: BaseException | None, policy: Supervision, now: float, random: Random
    ) -> float | None:
        """Note an end at `now`. Seconds to wait before the restart, or None when there is to be none.

        An end without failure, and one that is nobody's defect, costs nothing. A handler that misses a message will
        miss it for ever.
        """
        if isinstance(error, IncompleteHandler):
            return None
        if error is None or _blameless(error):
            return max(LEAST_FREE_DELAY, delay(policy, 1, random))
        failures = self._failures
        failures.append(now)
        while failures[0] <= now - policy.within:
            failures.popleft()
        return delay(policy, len(failures), random) if len(failures) <= policy.restarts else None


def delay(policy: Supervision, failure: int, random: Random) -> float:
    """Seconds to wait before the restart that follows the `failure`-th failure in the window."""
    exact = min(policy.backoff_limit, policy.backoff * 2.0 ** min(failure - 1, MOST_DOUBLINGS))
    return exact * (1 + policy.jitter * (2 * random.random() - 1))


def exhausted(who: str, policy: Supervision, error: BaseException | None) -> RestartsExhausted:
    """What is raised when the budget is used up, `error` being the last straw."""
    if isinstance(error, IncompleteHandler):
        failure = RestartsExhausted(f"{who} cannot be started: {error}")
    else:
        failure = RestartsExhausted(
            f"{who} failed more than {policy.restarts} times within {policy.within} s"
        )
    failure.__cause__ = error
    return failure


def _blameless(error: BaseException) -> bool:
    """Whether `error` comes from something that is away, possibly by way of an actor that depends on it."""
    cause: BaseException | None = error
    while isinstance(cause, ActorFailed):
        cause = cause.__cause__
    return isinstance(cause, Unavailable)
