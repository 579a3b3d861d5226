"""`/api/tasks` (messaging-control 5)."""

from relay import wire
from relay.fleet import tasks

from . import reach
from .answers import Answer, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/tasks", scope="task:read")
async def list_(call: Call[None]) -> Answer:
    query = call.query
    found = tasks.list_tasks(
        call.fleet.store,
        status=query.choice("status", wire.TaskStatus),
        source=query.text("source"),
        target=query.text("target"),
        channel=query.text("channel"),
        claimed_by=query.text("claimedBy"),
        for_one_of=call.principal.constraints.agents,
        limit=query.integer("limit", 1, 500) or 100,
    )
    return ok(found)


@route("GET", "/api/tasks/:id", scope="task:read")
async def get(call: Call[None]) -> Answer:
    return ok(reach.task(call.fleet.store, call.principal, call.number("id")))


@route("GET", "/api/tasks/:id/events", scope="task:read")
async def events(call: Call[None]) -> Answer:
    task = reach.task(call.fleet.store, call.principal, call.number("id"))
    return ok(tasks.task_events(call.fleet.store, task.id))


@route("POST", "/api/tasks/:id/claim", scope="task:write", body=wire.ClaimTask)
async def claim(call: Call[wire.ClaimTask]) -> Answer:
    call.speak_as(call.body.agent_id, "agentId")
    return ok(await call.fleet.post_office.ask(tasks.ClaimTask(call.number("id"), call.body.agent_id)))


@route("POST", "/api/tasks/:id/status", scope="task:write", body=wire.SetTaskStatus)
async def set_status(call: Call[wire.SetTaskStatus]) -> Answer:
    reach.about(call.principal, call.body.agent_id, "agentId")
    if call.body.agent_id is not None:
        call.speak_as(call.body.agent_id, "agentId")
    return ok(await call.fleet.post_office.ask(tasks.SetTaskStatus(call.number("id"), call.body)))
