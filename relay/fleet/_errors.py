"""How the fleet says no. Each is an answer, not a failure: nothing has changed when one is raised.

The edge turns them into 400, 403, 404, 409 and 422.
"""

from typing import Any

from relay.actors import Refusal

__all__ = ["Conflict", "Forbidden", "Invalid", "NotFound", "Over", "Settled", "Unprocessable"]


class Invalid(Refusal):
    """The request cannot mean anything here: 400."""


class Forbidden(Refusal):
    """The caller may not do this: 403."""


class NotFound(Refusal):
    """There is no such thing: 404."""


class Conflict(Refusal):
    """What is asked for contradicts the present state: 409."""


class Unprocessable(Refusal):
    """The request is well formed and does not apply to this thing: 422."""


class Over(Conflict):
    """What is asked for contradicts a state that is an end: asking again is of no use."""


class Settled(Over):
    """It ended otherwise before. `record` is how, and `name` is what the answer calls it."""

    def __init__(self, text: str, name: str, record: Any) -> None:
        super().__init__(text)
        self.name = name
        self.record = record
