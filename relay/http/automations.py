"""`/api/automations` and `/api/automation-runs` (messaging-control 11).

An automation acts without whoever has made it. So whoever makes, changes or runs one must be allowed to do what it does.
"""

from typing import Any

import trio

from relay import wire
from relay.actors import Ref
from relay.fleet import automations

from .answers import OK, Answer, accepted, created, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()

COMING = 5


@route("GET", "/api/automations", scope="automation:read")
async def list_(call: Call[None]) -> Answer:
    return ok(automations.list_automations(call.fleet.store))


@route("POST", "/api/automations", scope="automation:write", body=wire.NewAutomation)
async def create(call: Call[wire.NewAutomation]) -> Answer:
    _need(call, call.body.action)
    key = call.fleet.system.new_id("auto")
    return created(await call.fleet.automations[key].ask(automations.Create(call.body, call.by)))


@route("GET", "/api/automations/:id", scope="automation:read")
async def get(call: Call[None]) -> Answer:
    return ok(automations.get_automation(call.fleet.store, call.path["id"]))


@route("PATCH", "/api/automations/:id", scope="automation:write", body=wire.ChangeAutomation)
async def change(call: Call[wire.ChangeAutomation]) -> Answer:
    _need(call, automations.get_automation(call.fleet.store, call.path["id"]).action)
    if call.body.action is not None:
        _need(call, call.body.action)
    return ok(await _automation(call).ask(automations.Change(call.body, call.by)))


@route("DELETE", "/api/automations/:id", scope="automation:write")
async def remove(call: Call[None]) -> Answer:
    await _automation(call).ask(automations.Remove(call.by))
    return OK


@route("POST", "/api/automations/:id/run", scope="automation:write")
async def run_now(call: Call[None]) -> Answer:
    _need(call, automations.get_automation(call.fleet.store, call.path["id"]).action)
    return accepted(await _automation(call).ask(automations.RunNow(call.by)))


@route("GET", "/api/automations/:id/next", scope="automation:read")
async def coming(call: Call[None]) -> Answer:
    limit = call.query.integer("limit", 1, automations.MOST_COMING) or COMING
    found = automations.get_automation(call.fleet.store, call.path["id"])
    times = await trio.to_thread.run_sync(automations.coming, found, limit)
    return ok(wire.ComingRuns(times=[round(at * 1000) for at in times]))


@route("GET", "/api/automation-runs", scope="automation:read")
async def runs(call: Call[None]) -> Answer:
    """A status that there is not has no runs (AUT-7)."""
    found = automations.list_runs(
        call.fleet.store,
        limit=call.query.integer("limit", 1, 500) or 100,
        automation_id=call.query.text("automationId"),
        status=call.query.text("status"),
    )
    return ok(found)


def _automation(call: Call[Any]) -> Ref[automations.AutomationProtocol]:
    return call.fleet.automations[call.path["id"]]


def _need(call: Call[Any], action: wire.AutomationAction) -> None:
    """Raises 403 unless the caller could do itself what the automation is to do."""
    match action:
        case wire.MessageAction(to=to):
            call.need("message:send", target=to)
            call.reach(to)
        case wire.TaskAction(target=target, channel=channel):
            call.need("task:write", target=target, channel=channel)
            call.reach(target, channel)
        case wire.SpawnAction(orchestrator_id=host, cwd=cwd):
            call.need("agent:write", orchestrator=host, path=cwd)
