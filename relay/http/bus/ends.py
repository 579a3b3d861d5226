"""Why connections of the bus end, as the client is told."""

import attrs

__all__ = [
    "DELETED",
    "FORBIDDEN",
    "GOING_AWAY",
    "GONE",
    "MALFORMED",
    "NO_HELLO",
    "SILENT",
    "SUPERSEDED",
    "TAKEN_OVER",
    "TOO_LARGE",
    "UNAUTHORIZED",
    "End",
    "Ended",
]


FORBIDDEN = 403
"""The status, as in HTTP, of what is refused."""


@attrs.frozen
class End:
    """`close` is the code of the WebSocket's close frame, `error` that of the error frame before it, if there is one."""

    close: int
    reason: str
    error: str | None = None


GONE = End(1006, "the client has left")  # nobody is told
GOING_AWAY = End(1001, "the server is stopping")
TOO_LARGE = End(1009, "a frame is longer than 1048576 bytes", "too_large")
MALFORMED = End(4400, "too many malformed frames")
UNAUTHORIZED = End(
    4401, "a valid token is required, in the hello or in the headers of the upgrade", "unauthorized"
)
DELETED = End(4404, "the agent was deleted; say hello again to register it", "not_found")
NO_HELLO = End(4408, "there was no hello in time")
SILENT = End(4408, "there was no frame for too long")
SUPERSEDED = End(4409, "a newer connection of the agent took its place", "superseded")
TAKEN_OVER = End(4409, "the agent is bound to another session", "instance_mismatch")


class Ended(Exception):
    """The connection ends here."""

    def __init__(self, end: End) -> None:
        super().__init__(end.reason)
        self.end = end
