"""Actors that failed while a test passes: it was not about them, or it has overlooked them."""

from __future__ import annotations

from collections.abc import Sequence

from relay.actors import Failed, StopOverran

__all__ = ["ActorsFailed"]


class ActorsFailed(AssertionError):
    """Actors failed, restarted or not, and the test took none of it out of `system.failures`."""

    @classmethod
    def of(cls, failures: Sequence[Failed]) -> ActorsFailed:
        """What says so, with the first failure as its cause."""
        error = cls("\n".join(map(told, failures)))
        error.__cause__ = failures[0].error
        return error


def told(failed: Failed) -> str:
    """The failure in a line."""
    if isinstance(failed.error, StopOverran):
        return str(failed.error)
    return f"{failed.address} failed: {failed.error!r}"
