"""How a host is to start an agent again (agents-workspaces 4.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Store

from ._moment import Moment
from ._outfits import managed
from ._policy_commands import spawn_params
from ._policy_rules import find_last, find_policy_state
from ._policy_views import find_policy
from ._records import text_member

__all__ = ["Origin", "restart_spawn", "resuming", "spawned_by"]

PROVIDERS = ("claude", "codex")
AS_BEFORE = ("providerArgs", "providerConfig", "workspaceMode", "env", "profile")
"""What only the command that started the agent knows of it."""
FROM_META = {
    "model": "model",
    "effort": "effort",
    "approvalMode": "approvalMode",
    "permissionMode": "approvalMode",
}


@attrs.frozen
class Origin:
    """How an agent came to be: the params of the command that started this session, empty when it was started otherwise;
    and the policy that manages it, as its profile makes it, with the number of its last start if that was this one."""

    params: Mapping[str, Any]
    policy: wire.SpawnPolicy | None = None
    epoch: int = 0


def spawned_by(store: Store, card: wire.Agent) -> Origin:
    """Raises `Conflict` when the policy has a profile that is not there any more."""
    name = text_member(card.meta, "policyName")
    policy = find_policy(store, name) if name else None
    outfit = managed(store, policy) if policy is not None else None
    state = find_policy_state(store, name) if name else None
    is_last = state is not None and state.spawn_request_id == text_member(card.meta, "spawnRequestId")
    return Origin(_params(store, card), outfit, find_last(store, name).epoch if name and is_last else 0)


def _params(store: Store, card: wire.Agent) -> Mapping[str, Any]:
    request = text_member(card.meta, "spawnRequestId")
    row = store.row(
        "select record from commands where correlation_id = ? and type = 'agent.spawn' order by seq desc limit 1",
        request,
    )
    return wire.decode(wire.Command, row[0]).params if row is not None else {}


def restart_spawn(
    card: wire.Agent, origin: Origin, resume: str | None, moment: Moment
) -> dict[str, Any] | None:
    """Spawn params for the agent: as its policy says, else as it is. None when relay cannot say how its provider is started.

    `resume` is the session to go on with.
    """
    params = _managed(card, origin, moment) or _as_it_is(card, origin.params, moment)
    if params is None:
        return None
    params["requestedBy"] = "dashboard-restart" if resume is None else "dashboard-resume"
    return params if resume is None else resuming(params, card.id, resume)


def _request(card: wire.Agent, moment: Moment) -> str:
    return text_member(card.meta, "spawnRequestId") or moment.new_spawn_request()


def _managed(card: wire.Agent, origin: Origin, moment: Moment) -> dict[str, Any] | None:
    name = text_member(card.meta, "policyName")
    if name is None or origin.policy is None:
        return None
    params = spawn_params(name, origin.policy, _request(card, moment), origin.epoch, moment)
    return {**params, "agentId": card.id}


def _as_it_is(card: wire.Agent, before: Mapping[str, Any], moment: Moment) -> dict[str, Any] | None:
    provider = card.meta.get("provider")
    if provider not in PROVIDERS:
        return None
    known = {
        "cwd": before.get("cwd") or text_member(card.meta, "cwd"),
        "label": card.label,
        "policyName": text_member(card.meta, "policyName"),
        **{name: text_member(card.meta, member) or before.get(name) for name, member in FROM_META.items()},
        **{name: before.get(name) for name in AS_BEFORE},
    }
    return {
        "action": "spawn",
        "provider": provider,
        "agentId": card.id,
        "tags": card.tags,
        "capabilities": card.capabilities,
        **{name: value for name, value in known.items() if value is not None},
        "spawnRequestId": _request(card, moment),
        "requestedAt": moment.ms,
    }


def resuming(params: Mapping[str, Any], agent_id: str, resume: str) -> dict[str, Any]:
    """The same, to go on with that session."""
    given = params.get("providerArgs")
    return {
        **params,
        "providerArgs": _resumed(given if isinstance(given, list) else [], resume),
        "resumeOfAgentId": agent_id,
        "claudeResumeId": resume,
    }


def _resumed(args: list[Any], resume: str) -> list[str]:
    """The arguments without what they say of another session (W-I41); `--resume` takes the next one along, whatever it is."""
    kept: list[str] = []
    rest = iter([arg for arg in args if isinstance(arg, str) and arg.strip()])
    for arg in rest:
        if arg == "--resume":
            next(rest, None)
        elif not arg.startswith("--resume="):
            kept.append(arg)
    return [*kept, "--resume", resume]
