"""What a policy's host is asked to do (POL-10, POL-12, POL-14).

Each carries a `policyEpoch` that only grows. A host does nothing for an older one than it has seen, so that commands that
come late, twice or in another order can never lead to two agents of one policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay import wire

from ._moment import Moment
from ._new_command import new_command

__all__ = ["New", "action", "next_epoch", "spawn", "spawn_params"]

New = tuple[wire.Command, tuple[Any, ...], tuple[Any, ...]]

GRACE_MS = 10_000


def next_epoch(before: int, moment: Moment) -> int:
    """Later than any the hosts have seen, also when the server was restored from a copy that is older than they are."""
    return max(before + 1, moment.ms)


def spawn_params(
    name: str, policy: wire.SpawnPolicy, request: str, epoch: int, moment: Moment
) -> dict[str, Any]:
    """How the policy's agent is started (POL-12), and what is handed on to the host besides. `policy` is as its profile makes
    it (`_outfits`)."""
    mode = policy.permission_mode or wire.ApprovalMode.GUARDED
    given = {
        "cwd": policy.cwd,
        "label": policy.label,
        "prompt": policy.prompt,
        "model": policy.model,
        "effort": policy.effort.value if policy.effort else None,
        "profile": policy.profile,
        "workspaceMode": policy.workspace_mode.value if policy.workspace_mode else None,
        "providerConfig": policy.provider_config,
    }
    return {
        "action": "spawn",
        "provider": policy.provider.value,
        **{member: value for member, value in given.items() if value is not None},
        "tags": policy.tags,
        "capabilities": policy.capabilities,
        "approvalMode": mode.value,
        "permissionMode": mode.value,
        "providerArgs": policy.provider_args,
        "headless": True,
        "policyName": name,
        "policyEpoch": epoch,
        "spawnRequestId": request,
        "requestedBy": "managed-agent",
        "requestedAt": moment.ms,
    }


def spawn(params: Mapping[str, Any], host: wire.Orchestrator, reason: str, moment: Moment) -> New:
    asked = wire.NewCommand(
        type="agent.spawn",
        source="system",
        target=host.agent_id,
        correlation_id=params["spawnRequestId"],
        params={**params, "reason": reason, "orchestratorId": host.id},
    )
    return new_command(moment, asked)


def action(
    verb: str,
    state: wire.PolicyState,
    host: wire.Orchestrator,
    reason: str,
    epoch: int,
    moment: Moment,
    again: Mapping[str, Any] | None = None,
) -> New:
    """A `shutdown` or `restart`. `again` is how the agent is started where the host does not know it any more."""
    given = {
        "spawnRequestId": state.spawn_request_id,
        "agentId": state.agent_id,
        "tmuxSession": state.tmux_session,
        "restartSpawn": again,
    }
    params = {
        "action": verb,
        "policyName": state.policy_name,
        "policyEpoch": epoch,
        **{member: value for member, value in given.items() if value is not None},
        "graceful": True,
        "timeoutMs": GRACE_MS,
        "reason": reason,
        "orchestratorId": host.id,
        "requestedBy": "managed-agent",
        "requestedAt": moment.ms,
    }
    asked = wire.NewCommand(
        type=f"agent.{verb}",
        source="system",
        target=host.agent_id,
        correlation_id=state.spawn_request_id,
        params=params,
    )
    return new_command(moment, asked)
