"""What can be said to the actor of a command."""

from __future__ import annotations

from typing import Any

import attrs

from relay import wire
from relay.actors import Ask, Tell

__all__ = [
    "Adopt",
    "Cancel",
    "Claim",
    "CommandProtocol",
    "Conclude",
    "Create",
    "Expire",
    "ExpireIfDue",
    "HostLeft",
    "Patch",
    "Withdraw",
]


class CommandProtocol:
    """What the actor of one command understands."""


@attrs.frozen
class Create(Ask[CommandProtocol, wire.Command]):
    asked: wire.NewCommand


@attrs.frozen
class Adopt(Tell[CommandProtocol]):
    """The row is there: watch over its life time."""


@attrs.frozen
class Patch(Ask[CommandProtocol, wire.Command]):
    """Whoever executes the command reports (CMD-6)."""

    change: wire.PatchCommand


@attrs.frozen
class Claim(Ask[CommandProtocol, int | None]):
    """Take it, if it is still pending, or was the claimant's before: the answer is the token of the claim, and None
    for everybody else (CMD-14)."""

    claimant: str | None = None


@attrs.frozen
class Conclude(Ask[CommandProtocol, wire.Command]):
    """Relay itself has learned how it ended (ORC-46), whoever has claimed it. The answer is the command: as this makes
    it, or as it had ended before. `status` is an end."""

    status: wire.CommandStatus
    result: dict[str, Any] | None = None
    error: str | None = None


@attrs.frozen
class Cancel(Ask[CommandProtocol, None]):
    """End it before it is done; refused as unknown when it has ended (CMD-9)."""


@attrs.frozen
class Withdraw(Tell[CommandProtocol]):
    """Whoever asked for it does not want it any more. It is canceled, unless somebody has begun it."""


@attrs.frozen
class HostLeft(Tell[CommandProtocol]):
    """The host that it is for may have gone offline."""


@attrs.frozen
class Expire(Tell[CommandProtocol]):
    """Its time is long over."""


@attrs.frozen
class ExpireIfDue(Ask[CommandProtocol, bool]):
    """Time out, if its time is over; the answer is whether it did (step 4 of 19.2).

    `missed`: seconds that the server was held up. They are added to its time first, for nobody could report.
    """

    missed: float = 0.0
