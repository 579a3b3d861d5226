"""`/api/agents` (messaging-control 3)."""

from typing import Any

from relay import wire
from relay.actors import Ref
from relay.fleet import agents, hosts

from . import reach
from .answers import OK, Answer, accepted, created, ok
from .errors import Refused
from .query import LARGEST
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()

INSTANCE = b"x-agent-relay-instance-id"


@route("POST", "/api/agents", scope="agent:write", body=wire.RegisterAgent)
async def register(call: Call[wire.RegisterAgent]) -> Answer:
    reach.card(call.principal, call.fleet.store, call.body.id, reach.policy_named(call.body.meta))
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


@route("PATCH", "/api/agents/:id/status", scope="agent:write", body=wire.SetStatus, on="agent")
async def set_status(call: Call[wire.SetStatus]) -> Answer:
    await _agent(call).ask(agents.SetStatus(call.body.status, _instance(call, call.body.instance_id)))
    return OK


@route("PATCH", "/api/agents/:id/ready", scope="agent:write", body=wire.SetReady, on="agent")
async def set_ready(call: Call[wire.SetReady]) -> Answer:
    await _agent(call).ask(agents.SetReady(call.body.ready, _instance(call, call.body.instance_id)))
    return OK


@route("POST", "/api/agents/:id/heartbeat", scope="agent:write", optional=wire.Heartbeat, on="agent")
async def heartbeat(call: Call[wire.Heartbeat | None]) -> Answer:
    beat = call.body or wire.Heartbeat()
    call.need_reach(policy=reach.policy_named(beat.meta))
    await _agent(call).ask(agents.Heartbeat(_instance(call, beat.instance_id), beat.status, beat.meta))
    return OK


@route("PATCH", "/api/agents/:id/label", scope="agent:write", body=wire.SetLabel, on="agent")
async def set_label(call: Call[wire.SetLabel]) -> Answer:
    await _agent(call).ask(agents.SetLabel(call.body.label))
    return OK


@route("PATCH", "/api/agents/:id/tags", scope="agent:write", body=wire.SetTags, on="agent")
async def set_tags(call: Call[wire.SetTags]) -> Answer:
    return ok(await _agent(call).ask(agents.SetTags(call.body.tags)))


@route("DELETE", "/api/agents/:id", scope="agent:write", on="agent")
async def remove(call: Call[None]) -> Answer:
    await _agent(call).ask(agents.Remove())
    return OK


@route("GET", "/api/agents/:id/timeline", scope="agent:read", on="agent")
async def timeline(call: Call[None]) -> Answer:
    """The newest entries first; `before` is the id of an entry, to go further back."""
    limit = call.query.integer("limit", 1, 500) or 100
    before = call.query.integer("before", 1, LARGEST)
    card = agents.get_agent(call.fleet.store, call.path["id"])
    return ok(agents.list_timeline(call.fleet.store, card.id, before=before, limit=limit))


@route("POST", "/api/agents/:id/actions", scope="agent:write", body=wire.ActOnAgent, late=True)
async def act(call: Call[wire.ActOnAgent]) -> Answer:
    """Whether the agent can do it, now, is looked at before the scope is (AGT-31)."""
    card = agents.get_agent(call.fleet.store, call.path["id"])
    agents.means(call.fleet.store, card, call.body.action)
    host = hosts.controller(call.fleet.store, card)
    policy = reach.policy_named(card.meta)
    call.need("agent:write", agent=card.id, orchestrator=host.id if host else None, policy=policy)
    asked = await _agent(call).ask(agents.Act(call.body.action, call.by))
    return accepted({"ok": True, "action": asked.action, "command": asked.command})


@route("POST", "/api/agents/:id/prompt", scope="message:send", body=wire.PromptAgent, late=True)
async def prompt(call: Call[wire.PromptAgent]) -> Answer:
    """Whether the agent is there is looked at before the scope is (AGT-48)."""
    agents.promptable(agents.get_agent(call.fleet.store, call.path["id"]))
    call.need("message:send", target=call.path["id"])
    call.speak_as("user", "body")
    call.reach(call.path["id"])
    done = await _agent(call).ask(agents.Prompt(call.body.body))
    return created({"ok": True, "messageId": done.message_id, "commandId": done.command_id})


@route(
    "POST", "/api/agents/:id/permission-decision", scope="agent:write", body=wire.DecidePermission, late=True
)
async def decide(call: Call[wire.DecidePermission]) -> Answer:
    """A person's answer: no token of an agent's gives it, whatever else that may do."""
    card = agents.promptable(agents.get_agent(call.fleet.store, call.path["id"]))
    call.need("agent:write", agent=card.id)
    call.speak_as("user", "decision")
    command = await _agent(call).ask(agents.Decide(call.body, call.by))
    return accepted({"ok": True, "command": command})


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
