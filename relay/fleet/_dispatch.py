"""What a host is asked to do: spawns, and actions on the agents it runs (14.4, 14.5)."""

from __future__ import annotations

from typing import Any

import attrs

from relay import wire
from relay.store import Decision

from ._audit import audit
from ._errors import Invalid
from ._moment import Moment
from ._new_command import new_command
from ._orchestrator_protocol import Act, Dispatched, Spawn
from ._owners import must_be_online
from ._paths import within

__all__ = ["act", "spawn", "spawn_order"]

ICONS = {"restart": "ti-refresh", "shutdown": "ti-power"}


def spawn_order(
    host: wire.Orchestrator,
    request: wire.SpawnAgent,
    moment: Moment,
    *,
    ttl_ms: int | None = None,
    **also: Any,
) -> wire.NewCommand:
    """An `agent.spawn` for the host, if it is there, has the provider, and owns the directory (14.4). `also` are further
    params: what the agent is for."""
    must_be_online(host)
    if request.provider not in host.providers:
        raise Invalid(f"host {host.id} does not have the provider {request.provider}")
    cwd = request.cwd or host.base_dir
    if not within(host.base_dir, cwd):
        raise Invalid(f"cwd {cwd} is outside the base directory {host.base_dir} of host {host.id}")
    spawn_request = request.spawn_request_id or moment.new_spawn_request()
    mode = request.approval_mode or wire.ApprovalMode.GUARDED
    params = {
        "action": "spawn",
        **wire.to_json(attrs.evolve(request, cwd=cwd, spawn_request_id=spawn_request, approval_mode=mode)),
        "permissionMode": mode.value,
        "orchestratorId": host.id,
        "requestedBy": "dashboard",
        "requestedAt": moment.ms,
        **also,
    }
    return wire.NewCommand(
        type="agent.spawn",
        source="system",
        target=host.agent_id,
        params=params,
        correlation_id=spawn_request,
        ttl_ms=ttl_ms,
    )


def spawn(
    host: wire.Orchestrator, message: Spawn, request: wire.SpawnAgent, moment: Moment
) -> Decision[Dispatched]:
    """The command for a spawn that was asked for, and the record of it. `request` is what is asked, with its profile."""
    asked = spawn_order(host, request, moment)
    cwd = asked.params["cwd"]
    command, writes, events = new_command(moment, asked)
    client_id = f"server-orchestrator-spawn-{host.id}-{command.id}"
    if message.anywhere:
        client_id = f"server-agent-spawn-{request.provider.value}-{moment.ms}"
    note, told = audit(
        moment,
        client_id,
        f"an agent of {request.provider.value} was asked for on host {host.id}",
        body=cwd,
        meta=host.id,
        icon="ti-plus",
        view="agents" if message.anywhere else "orchestrators",
        metadata={
            "orchestratorId": host.id,
            "provider": request.provider.value,
            "approvalMode": asked.params["approvalMode"],
            "label": request.label,
            "commandId": command.id,
        },
        by=message.by,
    )
    return Decision(reply=Dispatched(host.id, command), writes=(*writes, note), events=(*events, told))


def act(host: wire.Orchestrator, message: Act, moment: Moment) -> Decision[Dispatched]:
    """An `agent.restart` or `agent.shutdown` for one agent, or for all of the host's."""
    action = message.action
    asked = wire.NewCommand(
        type=f"agent.{action.action}",
        source="system",
        target=action.agent_id or host.agent_id,
        correlation_id=action.spawn_request_id,
        params={
            **wire.to_json(action),
            "requestedBy": "dashboard",
            "requestedAt": moment.ms,
            "orchestratorId": host.id,
        },
    )
    command, writes, events = new_command(moment, asked)
    note, told = audit(
        moment,
        f"server-orchestrator-action-{host.id}-{action.action}-{command.id}",
        f"{action.action} of {action.agent_id or 'all agents'} was asked of host {host.id}",
        body=action.agent_id or "all",
        meta=host.id,
        icon=ICONS[action.action],
        view="orchestrators",
        metadata={
            "orchestratorId": host.id,
            "action": action.action,
            "agentId": action.agent_id,
            "commandId": command.id,
        },
        by=message.by,
    )
    return Decision(reply=Dispatched(host.id, command), writes=(*writes, note), events=(*events, told))
