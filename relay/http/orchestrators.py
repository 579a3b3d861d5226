"""`/api/orchestrators`, and spawning on whichever host fits (messaging-control 3.9 and 14)."""

from typing import Any

from relay import wire
from relay.actors import Ref
from relay.fleet import orchestrators, tokens

from .answers import OK, Answer, accepted, created, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("POST", "/api/orchestrators", scope="orchestrator:write", body=wire.RegisterOrchestrator)
async def register(call: Call[wire.RegisterOrchestrator]) -> Answer:
    """The answer has a token for the host, unless it has one that is good for long (ORC-3)."""
    call.need("orchestrator:write", orchestrator=call.body.id)
    host = call.fleet.orchestrators[call.body.id]
    registered = await host.ask(orchestrators.Register(call.body))
    record = registered.orchestrator
    asked = tokens.MintForHost(record.id, record.agent_id, call.principal.held, call.by)
    token = await call.fleet.tokens.ask(asked)
    given = {} if token is None else {"runtimeToken": wire.to_json(call.edge.tokens.issue(token))}
    return created({**wire.to_json(record), **given}, new=registered.new)


@route("GET", "/api/orchestrators", scope="orchestrator:read")
async def list_(call: Call[None]) -> Answer:
    status = call.query.choice("status", wire.OrchestratorStatus)
    return ok(orchestrators.list_orchestrators(call.fleet.store, status=status))


@route("GET", "/api/orchestrators/:id", scope="orchestrator:read")
async def get(call: Call[None]) -> Answer:
    return ok(orchestrators.get_orchestrator(call.fleet.store, call.path["id"]))


@route("POST", "/api/orchestrators/:id/heartbeat", scope="orchestrator:write", body=object)
async def heartbeat(call: Call[object]) -> Answer:
    """A body that is no object counts as an empty one (ORC-4)."""
    beat = (
        call.read(wire.OrchestratorHeartbeat) if isinstance(call.body, dict) else wire.OrchestratorHeartbeat()
    )
    await _host(call).ask(orchestrators.Heartbeat(beat))
    return OK


@route("PATCH", "/api/orchestrators/:id/agents", scope="orchestrator:write", body=wire.Roster)
async def report_roster(call: Call[wire.Roster]) -> Answer:
    return ok(await _host(call).ask(orchestrators.ReportRoster(call.body)))


@route("POST", "/api/orchestrators/:id/spawn", scope="agent:write", body=object)
async def spawn(call: Call[object]) -> Answer:
    """The host is looked for before the members of the body are (14.4)."""
    orchestrators.get_orchestrator(call.fleet.store, call.path["id"])
    made = await _host(call).ask(orchestrators.Spawn(call.read(wire.SpawnAgent)))
    return accepted({"ok": True, "orchestratorId": made.orchestrator_id, "command": made.command})


@route("POST", "/api/orchestrators/:id/actions", scope="command:write", body=object)
async def act(call: Call[object]) -> Answer:
    """The host is looked for before the members of the body are (ORC-25)."""
    orchestrators.get_orchestrator(call.fleet.store, call.path["id"])
    action = call.read(wire.OrchestratorAction)
    made = await _host(call).ask(orchestrators.Act(action))
    return accepted({"ok": True, "action": action.action, "command": made.command})


@route("DELETE", "/api/orchestrators/:id", scope="orchestrator:write")
async def remove(call: Call[None]) -> Answer:
    await _host(call).ask(orchestrators.Remove())
    return OK


@route("POST", "/api/agents/spawn", scope="agent:write", body=wire.SpawnAgent)
async def spawn_anywhere(call: Call[wire.SpawnAgent]) -> Answer:
    made = await orchestrators.spawn_anywhere(call.fleet, call.body)
    return accepted(
        {
            "ok": True,
            "orchestratorId": made.orchestrator_id,
            "provider": call.body.provider,
            "command": made.command,
        }
    )


def _host(call: Call[Any]) -> Ref[orchestrators.OrchestratorProtocol]:
    return call.fleet.orchestrators[call.path["id"]]
