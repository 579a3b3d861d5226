"""The protocols the runtime's tests speak."""

import attrs

from relay.actors import Ask, Tell


class Counting:
    """A counter that can be made to misbehave."""


@attrs.frozen
class Add(Tell[Counting]):
    amount: int = 1


@attrs.frozen
class Total(Ask[Counting, int]):
    pass


@attrs.frozen
class Crash(Tell[Counting]):
    pass


@attrs.frozen
class CrashAsked(Ask[Counting, int]):
    pass


@attrs.frozen
class Refused(Ask[Counting, int]):
    pass


@attrs.frozen
class Unanswered(Ask[Counting, int]):
    pass


@attrs.frozen
class Slow(Ask[Counting, int]):
    seconds: float


@attrs.frozen
class Later(Ask[Counting, int]):
    pass


@attrs.frozen
class Arm(Tell[Counting]):
    key: str
    seconds: float
    message: Tell[Counting]


@attrs.frozen
class Leave(Tell[Counting]):
    pass
