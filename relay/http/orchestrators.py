"""`/api/orchestrators`, and spawning on whichever host fits (messaging-control 3.9 and 14)."""

from contextlib import suppress
from typing import Any

from relay import wire
from relay.actors import ActorError, Ref
from relay.fleet import hosts, orchestrators, tokens
from relay.fleet.denials import Denied

from . import reach
from .answers import OK, Answer, accepted, created, ok
from .errors import Refused
from .host_addresses import Unfit, origin_of
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("POST", "/api/orchestrators", scope="orchestrator:write", body=wire.RegisterOrchestrator)
async def register(call: Call[wire.RegisterOrchestrator]) -> Answer:
    """The answer has a token for the host, unless it has one that is good for long (ORC-3)."""
    call.need("orchestrator:write", orchestrator=call.body.id)
    host = call.fleet.orchestrators[call.body.id]
    addresses = await _judged(call, call.body.address)
    registered = await host.ask(orchestrators.Register(call.body, addresses))
    record = registered.orchestrator
    asked = tokens.MintForHost(record.id, record.agent_id, call.principal.held, call.by)
    token = await call.fleet.tokens.ask(asked)
    given = {} if token is None else {"runtimeToken": wire.to_json(call.edge.tokens.issue(token))}
    known = {**wire.to_json(record), "hostToken": call.edge.upstream.token(record.id), **given}
    return created(known, new=registered.new)


async def _judged(call: Call[Any], api_url: str | None) -> tuple[str, ...]:
    """Where the host's API may be called; a place that must not be called refuses the registration, and is on record."""
    if api_url is None:
        return ()
    try:
        peer = origin_of(call.peer, call.headers)
        return tuple(await call.edge.upstream.networks.addresses(api_url, peer))
    except Unfit as unfit:
        with suppress(ActorError):
            route = f"POST /api/orchestrators for {call.body.id}"
            call.fleet.denials.tell(Denied(400, str(unfit), route, call.peer, call.by))
        raise Refused(400, str(unfit)) from None


@route("GET", "/api/orchestrators", scope="orchestrator:read")
async def list_(call: Call[None]) -> Answer:
    status = call.query.choice("status", wire.OrchestratorStatus)
    return ok(orchestrators.list_orchestrators(call.fleet.store, status=status))


@route("GET", "/api/orchestrators/:id", scope="orchestrator:read")
async def get(call: Call[None]) -> Answer:
    return ok(orchestrators.get_orchestrator(call.fleet.store, call.path["id"]))


@route("POST", "/api/orchestrators/:id/heartbeat", scope="orchestrator:write", body=object, on="orchestrator")
async def heartbeat(call: Call[object]) -> Answer:
    """A body that is no object counts as an empty one (ORC-4)."""
    beat = (
        call.read(wire.OrchestratorHeartbeat) if isinstance(call.body, dict) else wire.OrchestratorHeartbeat()
    )
    await _host(call).ask(orchestrators.Heartbeat(beat))
    return OK


@route(
    "PATCH", "/api/orchestrators/:id/agents", scope="orchestrator:write", body=wire.Roster, on="orchestrator"
)
async def report_roster(call: Call[wire.Roster]) -> Answer:
    return ok(await _host(call).ask(orchestrators.ReportRoster(call.body)))


@route("POST", "/api/orchestrators/:id/spawn", scope="agent:write", body=object)
async def spawn(call: Call[object]) -> Answer:
    """The host is looked for, and must be there, before the members of the body are looked at (14.4)."""
    host = orchestrators.get_orchestrator(call.fleet.store, call.path["id"])
    hosts.must_be_online(host)
    asked = _spawn(call)
    reach.starts(call, host, asked)
    made = await _host(call).ask(orchestrators.Spawn(asked, by=call.by))
    return accepted({"ok": True, "orchestratorId": made.orchestrator_id, "command": made.command})


@route(
    "POST",
    "/api/orchestrators/:id/actions",
    scope="command:write",
    body=object,
    late=True,
    on="orchestrator",
)
async def act(call: Call[object]) -> Answer:
    """Checked in this order: host (404), object and action (400), scope (403), members (400) (ORC-25, ORC-40)."""
    orchestrators.get_orchestrator(call.fleet.store, call.path["id"])
    verb = call.body.get("action") if isinstance(call.body, dict) else None
    if not isinstance(verb, str) or verb not in set(wire.OrchestratorVerb):
        raise Refused(400, f"action: expected one of {', '.join(wire.OrchestratorVerb)}")
    call.need("command:write", orchestrator=call.path["id"])
    if verb == wire.OrchestratorVerb.UPGRADE:
        return await _upgrade(call)
    action = call.read(wire.OrchestratorAction)
    call.need("command:write", agent=action.agent_id or "", policy=action.policy_name)
    made = await _host(call).ask(orchestrators.Act(action, call.by))
    return accepted({"ok": True, "action": action.action, "command": made.command})


async def _upgrade(call: Call[object]) -> Answer:
    call.need_reach(agent=orchestrators.get_orchestrator(call.fleet.store, call.path["id"]).agent_id)
    made = await _host(call).ask(orchestrators.Upgrade(call.read(wire.UpgradeOrchestrator), call.by))
    known = {"ok": True, "action": "upgrade", "command": made.command}
    return accepted({**known, "targetVersion": made.command.params["targetVersion"]})


@route("DELETE", "/api/orchestrators/:id", scope="orchestrator:write", on="orchestrator")
async def remove(call: Call[None]) -> Answer:
    await _host(call).ask(orchestrators.Remove())
    return OK


@route("POST", "/api/agents/spawn", scope="agent:write", body=object)
async def spawn_anywhere(call: Call[object]) -> Answer:
    asked = _spawn(call)
    reach.starts(call, None, asked)
    made = await orchestrators.spawn_anywhere(call.fleet, asked, call.by)
    return accepted(
        {
            "ok": True,
            "orchestratorId": made.orchestrator_id,
            "provider": asked.provider,
            "command": made.command,
        }
    )


def _spawn(call: Call[object]) -> wire.SpawnAgent:
    """What is to be started; the provider is that of its profile, if it names none itself."""
    return wire.decode(wire.SpawnAgent, orchestrators.completed(call.fleet.store, call.body))


def _host(call: Call[Any]) -> Ref[orchestrators.OrchestratorProtocol]:
    return call.fleet.orchestrators[call.path["id"]]
