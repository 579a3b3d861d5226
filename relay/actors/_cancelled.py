"""What of an error is trio's own `Cancelled`, which belongs to a scope, and what is a failure."""

from __future__ import annotations

import trio

__all__ = ["as_failure", "split"]


def split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """The `Cancelled` in an error, and what else there is. Of a group that held both, a single rest is taken out."""
    if not isinstance(error, BaseExceptionGroup):
        return (error, None) if isinstance(error, trio.Cancelled) else (None, error)
    cancelled, own = error.split(trio.Cancelled)
    while cancelled is not None and isinstance(own, BaseExceptionGroup) and len(own.exceptions) == 1:
        own = own.exceptions[0]
    return cancelled, own


def as_failure(error: BaseException | None) -> BaseException:
    """A failure of an actor, with no `Cancelled` in it: one that reaches the runtime belongs to no scope around it."""
    assert error is not None
    cancelled, own = split(error)
    if own is not None:
        return own
    failure = RuntimeError("it let a trio.Cancelled out of the scope that it belongs to")
    failure.__cause__ = cancelled
    return failure
