"""`/api/activity` (messaging-control 7)."""

from relay import wire
from relay.fleet import activity

from . import reach
from .answers import Answer, created, ok
from .errors import Refused
from .query import LARGEST
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()

OURS = ("server-", "workspace-")
"""How the ids of audit records begin: whoever took one before would keep relay's own from being written (ACT-2)."""


@route("GET", "/api/activity", scope="activity:read")
async def list_(call: Call[None]) -> Answer:
    query = call.query
    reach.of_everybody(call.fleet.store, call.principal, query.text("agentId"), "agentId")
    found = activity.list_activity(
        call.fleet.store,
        agent_id=query.text("agentId"),
        kind=query.choice("kind", wire.ActivityKind),
        view=query.text("view", longest=80),
        message_id=query.integer("messageId", 1, LARGEST),
        before=query.integer("before", 1, LARGEST),
        limit=query.integer("limit", 1, 500) or 100,
    )
    return ok(found)


@route("POST", "/api/activity", scope="activity:write", body=wire.NewActivity)
async def write(call: Call[wire.NewActivity]) -> Answer:
    call.need("activity:write", agent=call.body.agent_id)
    if not call.principal.is_root and (call.body.client_id or "").startswith(OURS):
        raise Refused(403, f"clientId: {' and '.join(OURS)} begin those of relay's own records")
    noted = await call.fleet.activity.ask(activity.WriteDown(call.body))
    return created(noted.activity, new=noted.new)
