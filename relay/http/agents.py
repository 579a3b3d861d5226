"""`/api/agents` (messaging-control 3)."""

from typing import Any

from relay import wire
from relay.actors import Ref
from relay.fleet import agents

from .answers import OK, Answer, created, ok
from .errors import Refused
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()

INSTANCE = b"x-agent-relay-instance-id"


@route("POST", "/api/agents", scope="agent:write", body=wire.RegisterAgent)
async def register(call: Call[wire.RegisterAgent]) -> Answer:
    registered = await call.fleet.agents[call.body.id].ask(agents.Register(call.body))
    return created(registered.agent, new=registered.new)


@route("GET", "/api/agents", scope="agent:read")
async def list_(call: Call[None]) -> Answer:
    status = call.query.choice("status", wire.AgentStatus)
    kind = call.query.choice("kind", wire.AgentKind)
    return ok(agents.list_agents(call.fleet.store, status=status, kind=kind))


@route("GET", "/api/agents/:id", scope="agent:read")
async def get(call: Call[None]) -> Answer:
    return ok(agents.get_agent(call.fleet.store, call.path["id"]))


@route("PATCH", "/api/agents/:id/status", scope="agent:write", body=wire.SetStatus)
async def set_status(call: Call[wire.SetStatus]) -> Answer:
    await _agent(call).ask(agents.SetStatus(call.body.status, _instance(call, call.body.instance_id)))
    return OK


@route("PATCH", "/api/agents/:id/ready", scope="agent:write", body=wire.SetReady)
async def set_ready(call: Call[wire.SetReady]) -> Answer:
    await _agent(call).ask(agents.SetReady(call.body.ready, _instance(call, call.body.instance_id)))
    return OK


@route("POST", "/api/agents/:id/heartbeat", scope="agent:write", optional=wire.Heartbeat)
async def heartbeat(call: Call[wire.Heartbeat | None]) -> Answer:
    beat = call.body or wire.Heartbeat()
    await _agent(call).ask(agents.Heartbeat(_instance(call, beat.instance_id), beat.status, beat.meta))
    return OK


@route("PATCH", "/api/agents/:id/label", scope="agent:write", body=wire.SetLabel)
async def set_label(call: Call[wire.SetLabel]) -> Answer:
    await _agent(call).ask(agents.SetLabel(call.body.label))
    return OK


@route("PATCH", "/api/agents/:id/tags", scope="agent:write", body=wire.SetTags)
async def set_tags(call: Call[wire.SetTags]) -> Answer:
    return ok(await _agent(call).ask(agents.SetTags(call.body.tags)))


@route("DELETE", "/api/agents/:id", scope="agent:write")
async def remove(call: Call[None]) -> Answer:
    await _agent(call).ask(agents.Remove())
    return OK


def _agent(call: Call[Any]) -> Ref[agents.AgentProtocol]:
    return call.fleet.agents[call.path["id"]]


def _instance(call: Call[Any], given: str | None) -> str | None:
    """The session guard (AGT-20): the body's, else the header's."""
    if given is not None:
        return given
    value = call.headers.get(INSTANCE, b"").decode("latin1").strip()
    if len(value) > 160:
        raise Refused(400, "X-Agent-Relay-Instance-Id: longer than 160 characters")
    return value or None
