"""When a failed actor is started again, how soon, and when enough is enough.

A policy says which ends are followed by a restart and what the budget of restarts is. Each child has a budget of
its own. A child that exceeds it takes its parent with it, except in a family, where it is put in quarantine: its
neighbours have done nothing wrong.
"""

from __future__ import annotations

import enum
from collections import deque
from random import Random  # noqa: TID251 - the type; the source is the system's

import attrs

from ._errors import ActorFailed, Unavailable

__all__ = ["Budget", "Restart", "Supervision", "delay"]


MOST_DOUBLINGS = 64


class Restart(enum.Enum):
    """Which ends of a child are followed by a restart."""

    PERMANENT = "permanent"  # every end but a stop from outside
    TRANSIENT = "transient"  # failures only
    TEMPORARY = "temporary"  # none


@attrs.frozen(kw_only=True)
class Supervision:
    """How a child is supervised, one_for_one.

    `restarts` failures within `within` seconds are forgiven; the next one is escalated. The delay before the n-th
    restart in that window is `backoff * 2**(n-1)` seconds, at most `backoff_limit`, spread by +-`jitter`.
    `stop_budget` is how long (seconds) a child may take to stop before it is cancelled and named.
    """

    restart: Restart = Restart.TRANSIENT
    restarts: int = 5
    within: float = 30.0
    backoff: float = 0.1
    backoff_limit: float = 10.0
    jitter: float = 0.2
    stop_budget: float = 5.0


class Budget:
    """The failures of one child that still count."""

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures: deque[float] = deque()

    def spend(self, error: BaseException | None, policy: Supervision, now: float) -> int | None:
        """Note an end at `now`. Its number among the failures within the window, or None when the budget is exhausted.

        An end without failure, and one that is nobody's defect, costs nothing.
        """
        if error is None or _blameless(error):
            return 1
        failures = self._failures
        failures.append(now)
        while failures[0] <= now - policy.within:
            failures.popleft()
        return len(failures) if len(failures) <= policy.restarts else None


def delay(policy: Supervision, failure: int, random: Random) -> float:
    """Seconds to wait before the restart that follows the `failure`-th failure in the window."""
    exact = min(policy.backoff_limit, policy.backoff * 2.0 ** min(failure - 1, MOST_DOUBLINGS))
    return exact * (1 + policy.jitter * (2 * random.random() - 1))


def _blameless(error: BaseException) -> bool:
    """Whether `error` comes from something that is away, possibly by way of an actor that depends on it."""
    cause: BaseException | None = error
    while isinstance(cause, ActorFailed):
        cause = cause.__cause__
    return isinstance(cause, Unavailable)
