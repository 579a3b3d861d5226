"""What an exception becomes on the wire. Every error answer is JSON, and none shows what happens inside.

Handlers raise; they never build error answers. The table is searched in order, so a subclass stands before its base.
"""

import logging

import trio

from relay import fleet, wire
from relay.actors import ActorStopped, DeadlineExpired, MailboxFull
from relay.store import StoreError

from .answers import Answer, Header, failure

__all__ = ["Refused", "answer_to"]

log = logging.getLogger(__name__)

RETRY: Header = (b"retry-after", b"1")
CHALLENGE: Header = (b"www-authenticate", b"Bearer")

STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (wire.Invalid, 400),
    (fleet.Invalid, 400),
    (fleet.Forbidden, 403),
    (fleet.NotFound, 404),
    (fleet.Conflict, 409),
    (fleet.Unprocessable, 422),
)
OVERLOADED = (MailboxFull, ActorStopped)
LATE = (DeadlineExpired, trio.TooSlowError)


class Refused(Exception):
    """The edge itself says no, with this status."""

    def __init__(self, status: int, text: str, *headers: Header) -> None:
        super().__init__(text)
        self.answer = failure(status, text, *headers)


def answer_to(error: Exception) -> Answer:
    """The answer that tells a client about `error`."""
    if isinstance(error, Refused):
        return error.answer
    if isinstance(error, fleet.Settled):
        return failure(409, str(error), **{error.name: error.record})
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return failure(status, str(error) or kind.__name__)
    if isinstance(error, OVERLOADED):
        return failure(503, "the server has more to do than it can take; try again", RETRY)
    if isinstance(error, LATE):
        return failure(504, "no answer in time; whether the request took effect is unknown")
    if isinstance(error, StoreError) or isinstance(error.__cause__, StoreError):
        log.error("a request could not be stored: %s", error)
        return failure(503, "the request could not be stored, and has had no effect; try again", RETRY)
    log.error("a request failed", exc_info=error)
    return failure(500, "internal error")
