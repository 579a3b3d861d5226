"""Who else is to hear of a change of an agent: it went, came back, or answers to other names now.

The agent's own decision carries what they are told, so they hear of nothing that did not happen. The post office hears
only of agents that hold a task or serve a policy, or thousands who come and go at once would fill its mailbox. What a crash
of the server loses on the way is made up for when it starts again: each of them then compares what it keeps with the agents;
and a task that is taken while its holder goes is found by maintenance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay import wire
from relay.actors import Ref, Tell

from ._channel_protocol import Reconsider
from ._pair_protocol import Left, pairs_of
from ._policy_reports import came_back, left
from ._post_protocol import ResumeQueue
from ._queue import served_by
from ._task_protocol import Left as HolderLeft
from ._task_rows import holds_any

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["bystanders", "gone"]

Tells = tuple[tuple[Ref[Any], Tell[Any]], ...]


def bystanders(fleet: Fleet, before: wire.Agent | None, after: wire.Agent | None) -> Tells:
    """What to tell whom, once the card has become `after` in place of `before`."""
    if _seen(before) == _seen(after):
        return ()
    tells: list[tuple[Ref[Any], Tell[Any]]] = []
    if before is not None and gone(after):
        tells += [(fleet.pairs[key], Left(before.id)) for key in pairs_of(fleet.store, before.id)]
    if before is not None and gone(after) and not gone(before) and holds_any(fleet.store, before.id):
        tells.append((fleet.post_office, HolderLeft(before.id)))
    if before is not None and gone(after) and not gone(before):
        tells += left(fleet, before, after)
    if gone(before) and after is not None and not gone(after):
        tells += [(fleet.post_office, ResumeQueue(policy)) for policy in served_by(fleet.store, after.id)]
        tells += came_back(fleet, after)
    card = after or before
    if card is not None:
        tells.append((fleet.switchboard, Reconsider(card.id)))
    return tuple(tells)


def gone(card: wire.Agent | None) -> bool:
    """Nothing can be expected of this agent."""
    return card is None or card.status is wire.AgentStatus.OFFLINE


def _seen(card: wire.Agent | None) -> tuple[Any, ...] | None:
    """What others go by."""
    return (card.status, card.kind, card.label, card.tags, card.capabilities) if card is not None else None
