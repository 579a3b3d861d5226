"""What goes wrong in a simulated run, how often, and what is a consequence of it."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import attrs
import trio

from relay.actors import ActorStopped, DeadlineExpired, MailboxFull, StopOverran, Unavailable

if TYPE_CHECKING:
    from ._choices import Choices

__all__ = ["Faults", "InjectedFault", "Misfortune"]

CONSEQUENCES = (ActorStopped, DeadlineExpired, MailboxFull, StopOverran, trio.TooSlowError)
"""What befalls those who depend on an actor that crashes or is late."""


class InjectedFault(Exception):
    """What a simulated crash is made of."""


def _probable(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} is a probability, from 0 to 1, not {value}")


def _all_probable(_: object, attribute: attrs.Attribute[dict[str, float]], value: dict[str, float]) -> None:
    for name, probability in value.items():
        if not 0 <= probability <= 1:
            raise ValueError(f"{attribute.name}[{name!r}] is a probability, from 0 to 1, not {probability}")


@attrs.frozen(kw_only=True)
class Faults:
    """What goes wrong, and how often: probabilities, from 0 to 1.

    `crash`: an actor fails, before a message and again after it. `delay`: an actor is kept from a turn, or a message over
    `Sim.unreliable` is under way, up to `longest` seconds. `lose`, `duplicate`: what becomes of a message over
    `Sim.unreliable`. `named`: the faults that code asks for by name with `System.fault`, such as `{"store.commit": 0.05}`.
    At most `most` faults happen in one run; where there would be more, they are spread over the whole of it. Only actors
    whose address fits one of the patterns `only` crash and are delayed. Raises `ValueError` for what is no probability.
    """

    crash: float = attrs.field(default=0.0, validator=_probable)
    delay: float = attrs.field(default=0.0, validator=_probable)
    longest: float = 10.0
    lose: float = attrs.field(default=0.0, validator=_probable)
    duplicate: float = attrs.field(default=0.0, validator=_probable)
    named: dict[str, float] = attrs.field(factory=dict, validator=_all_probable)
    most: int = 5
    only: tuple[str, ...] = ("*",)


class Misfortune:
    """The faults of one run.

    `exposure` is how many there would be if `most` did not end them; that of an earlier run makes those of this one so
    much rarer that they come throughout the run, and not only at its begin. While it is `calm`, nothing goes wrong.
    """

    def __init__(self, choices: Choices, faults: Faults, expected: float = 0.0) -> None:
        self.exposure = 0.0
        self.calm = False
        self._choices = choices
        self._faults = faults
        self._happened = 0
        self._rarer = min(1.0, faults.most / expected) if expected else 1.0

    def named(self, name: str) -> bool:
        return self._happens(self._faults.named.get(name, 0.0))

    def crashes(self, address: str) -> bool:
        crash = self._faults.crash
        return crash > 0 and self._concerns(address) and self._happens(crash)

    def delays(self, address: str) -> float:
        """How long the actor is kept from its turn, in seconds."""
        return self.detains() if self._faults.delay > 0 and self._concerns(address) else 0.0

    def detains(self) -> float:
        """How long a message is under way, in seconds."""
        if not self._happens(self._faults.delay):
            return 0.0
        return self._faults.longest * (1 + self._choices.choose(4)) / 4

    def loses(self) -> bool:
        return self._happens(self._faults.lose)

    def repeats(self) -> float | None:
        """After how many seconds the message comes again, if it does."""
        if not self._happens(self._faults.duplicate):
            return None
        return self._faults.longest * self._choices.choose(5) / 4

    def caused(self, error: BaseException) -> bool:
        """Whether `error` is a fault of this run or a consequence of one, and no defect of what is tested."""
        return any(self._is_fault(one) for one in _behind(error))

    def _is_fault(self, error: BaseException) -> bool:
        if isinstance(error, InjectedFault | Unavailable):
            return True
        return self._happened > 0 and isinstance(error, CONSEQUENCES)

    def _happens(self, probability: float) -> bool:
        if probability <= 0 or self.calm:
            return False
        if probability < 1:
            self.exposure += probability
            probability *= self._rarer
        if self._happened >= self._faults.most or not self._choices.chance(probability):
            return False
        self._happened += 1
        return True

    def _concerns(self, address: str) -> bool:
        return any(fnmatch(address, pattern) for pattern in self._faults.only)


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The error, what it is made of, and what caused it."""
    waiting = [error]
    for one in waiting:
        yield one
        waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [one.__cause__] if one.__cause__ is not None and one.__cause__ not in waiting else ()
