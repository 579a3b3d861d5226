"""What the tables of all state machines have in common: `{state: {event: state}}`, looked at wherever something moves.

What is not in a table does not happen: it is refused, or has no effect. `machines` has them all, for those who read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

__all__ = ["AS_BEFORE", "AS_GIVEN", "NONE", "Moves", "states_with"]

NONE = "none"
"""The state of what is not there: not yet, or not any more."""

AS_GIVEN = "as given"
"""In place of a new state: the one that the event itself names."""

AS_BEFORE = "as before"
"""In place of a new state: the one that was left for this one."""

Moves: TypeAlias = Mapping[Any, Mapping[str, Any]]


def states_with(event: str, moves: Moves) -> Iterable[Any]:
    """The states in which something can come of the event."""
    return [state for state, events in moves.items() if event in events]
