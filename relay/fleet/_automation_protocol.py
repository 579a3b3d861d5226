"""What can be said to the actor of one automation."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask, Tell

from ._audit import Caller

__all__ = [
    "AutomationProtocol",
    "Change",
    "Create",
    "Ended",
    "Happened",
    "Look",
    "Occurrence",
    "Remove",
    "RunNow",
]


class AutomationProtocol:
    """What the actor of one automation understands."""


@attrs.frozen
class Occurrence:
    """An event that the automation waits for. `chain` names the automations that it goes back to."""

    id: int
    type: str
    subject: str | None
    chain: tuple[str, ...] = ()


@attrs.frozen
class Create(Ask[AutomationProtocol, wire.Automation]):
    asked: wire.NewAutomation
    by: Caller | None = None


@attrs.frozen
class Change(Ask[AutomationProtocol, wire.Automation]):
    asked: wire.ChangeAutomation
    by: Caller | None = None


@attrs.frozen
class Remove(Ask[AutomationProtocol, None]):
    by: Caller | None = None


@attrs.frozen
class RunNow(Ask[AutomationProtocol, wire.RunDispatch]):
    """Begin a run, whatever the schedule says (AUT-5, AUT-11). Raises `Invalid` if it cannot be dispatched."""

    by: Caller | None = None


@attrs.frozen
class Happened(Ask[AutomationProtocol, None]):
    """These happened, in this order, which is what `schedule` waits for. The answer: they will not be forgotten."""

    schedule: wire.EventSchedule
    occurrences: tuple[Occurrence, ...]


@attrs.frozen
class Ended(Ask[AutomationProtocol, None]):
    """What this run had begun has ended."""

    run_id: str


@attrs.frozen
class Look(Tell[AutomationProtocol]):
    """Begin what is due, finish what was left, and plan what comes."""
