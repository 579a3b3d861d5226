"""Activity: what happened, for people to read.

The server writes its own records with the decisions they tell of (`_audit`). Clients write theirs through one actor,
so that the same client id is one record however often, and from however many sides, it is written (ACT-2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from relay import wire
from relay.actors import Ask, Context
from relay.store import Decision, Store, chain
from relay.store.witnesses import RESTORED

from ._actor import FleetActor
from ._audit import record_activity
from ._errors import Invalid
from ._records import find_activity, fitting

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["ActivityLog", "ActivityProtocol", "Noted", "WriteDown", "find_activity", "list_activity"]


class ActivityProtocol:
    """What the activity log understands."""


@attrs.frozen
class Noted:
    activity: wire.Activity
    new: bool


@attrs.frozen
class WriteDown(Ask[ActivityProtocol, Noted]):
    """Keep this record, unless its client id is known: then the earlier one is the answer."""

    asked: wire.NewActivity


class ActivityLog(FleetActor[ActivityProtocol]):
    """Takes the records of clients, one after the other."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)

    async def handle(self, message: WriteDown, context: Context[ActivityProtocol]) -> None:
        for own in (chain.TRIMMED, RESTORED):
            if message.asked.client_id.startswith(own):
                raise Invalid(
                    f"clientId: what begins with {own} tells of the audit itself, and is relay's own"
                )
        known = find_activity(self.store, message.asked.client_id)
        if known is not None:
            context.reply(message, Noted(known, new=False))
            return
        moment = self.moment()
        given = attrs.asdict(message.asked, recurse=False)
        record = wire.Activity(id=moment.next_id("activity"), created_at=wire.Instant(moment.at), **given)
        write, event = record_activity(record, moment)
        await self.commit(Decision(reply=None, writes=(write,), events=(event,)), context)
        kept = (
            find_activity(self.store, record.client_id) or record
        )  # the server may have used the id meanwhile
        context.reply(message, Noted(kept, new=kept.id == record.id))


def list_activity(
    store: Store,
    *,
    agent_id: str | None = None,
    kind: wire.ActivityKind | None = None,
    view: str | None = None,
    message_id: int | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[wire.Activity]:
    """The newest records first that fit all filters; `before` is an activity id, exclusive, to go further back."""
    filters = {
        "agent_id = ?": agent_id,
        "kind = ?": kind,
        "view = ?": view,
        "message_id = ?": message_id,
        "id < ?": before,
    }
    return fitting(store, wire.Activity, "activity", filters, order="id desc", limit=limit)
