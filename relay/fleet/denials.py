"""Access that was refused, on record: who wanted what, from where, and why not.

The first refusal is recorded at once. What is alike within the minute after it is counted, and recorded at its end as one.
Whoever wants to fill the record or the memory gets no further than `MOST` kinds of refusals in a minute, and `LONGEST`
characters of each: more are one kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from relay.actors import Context, Tell
from relay.store import Decision, Event, Write

from ._actor import FleetActor
from ._audit import Caller, audit

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["DenialProtocol", "Denials", "Denied"]

MINUTE = 60.0  # seconds
MOST = 200
LONGEST = 500  # characters of a reason, which may name what was asked for


class DenialProtocol:
    """What is told of refusals."""


@attrs.frozen
class Denied(Tell[DenialProtocol]):
    """Somebody was refused: with 401, not knowing who it is, or with 403. `route` is what was asked for, `peer` the address
    that it came from."""

    status: int
    reason: str
    route: str | None = None
    peer: str | None = None
    by: Caller | None = None


@attrs.frozen
class _Minute(Tell[DenialProtocol]):
    """Time to record what was counted."""


OTHERS = Denied(0, "more kinds of refusals than are told apart")


class Denials(FleetActor[DenialProtocol]):
    """Counts refusals that are alike, and records them."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._counted: dict[Denied, int] = {}

    def handle(self, message: Denied | _Minute, context: Context[DenialProtocol]) -> None:
        if isinstance(message, _Minute):
            counted = [self._record(kind, times) for kind, times in self._counted.items() if times]
            self._counted.clear()
            self.settle(message, _together(counted), context)
            return
        message = attrs.evolve(message, reason=message.reason[:LONGEST])
        kind = message if message in self._counted or len(self._counted) < MOST else OTHERS
        if kind in self._counted:
            self._counted[kind] += 1
            return
        if not self._counted:
            context.set_timer("minute", MINUTE, _Minute())
        self._counted[kind] = 0
        self.settle(message, _together([self._record(kind, 1)]), context)

    def _record(self, kind: Denied, times: int) -> tuple[Write, Event]:
        moment = self.moment()
        who = kind.by.subject if kind.by is not None else (kind.peer or "somebody")
        facts = {"status": kind.status, "route": kind.route, "peer": kind.peer, "reason": kind.reason}
        return audit(
            moment,
            f"server-denied-{moment.ms}",
            f"{who} was refused" if times == 1 else f"{who} was refused {times} times more",
            body=kind.reason,
            meta=kind.route,
            icon="ti-shield-x",
            view="security",
            metadata={**{name: value for name, value in facts.items() if value}, "count": times},
            by=kind.by,
        )


def _together(records: list[tuple[Write, Event]]) -> Decision[None]:
    return Decision(
        reply=None,
        writes=tuple(write for write, _ in records),
        events=tuple(event for _, event in records),
    )
