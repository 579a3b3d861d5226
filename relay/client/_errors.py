"""What a call to relay can end in besides an answer."""

__all__ = [
    "Garbled",
    "Overloaded",
    "Refused",
    "RelayError",
    "ServerFailed",
    "Superseded",
    "Unauthorized",
    "Unreachable",
]


class RelayError(Exception):
    """Root of the client's errors."""


class Unreachable(RelayError):
    """No answer came. A change that was asked for may or may not have happened."""


class Garbled(RelayError):
    """Something answered that does not speak as relay does: another program, or a relay of another age. A change that
    was asked for may or may not have happened."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"what {url} answered is not relay's: {why}")


class Refused(RelayError):
    """Relay said no. `status` is the HTTP status, `error` its words."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(f"{error} ({status})")
        self.status = status
        self.error = error


class Unauthorized(Refused):
    """The token is missing or wrong (401), or may not do this (403)."""


class Superseded(Refused):
    """Another session has taken the agent over (409): this one is at its end."""


class Overloaded(Refused):
    """Relay has too much to do, or did not come to it in time (408, 429, 503, 504). `retry_after` is in seconds."""

    def __init__(self, status: int, error: str, retry_after: float) -> None:
        super().__init__(status, error)
        self.retry_after = retry_after


class ServerFailed(RelayError):
    """Relay failed inside, or what stands before it did (500, 501, 502, other 5xx): no refusal. A change that was asked
    for may or may not have happened. `status` is the HTTP status, `error` its words."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(f"{error} ({status})")
        self.status = status
        self.error = error
