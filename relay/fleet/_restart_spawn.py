"""How a host is to start an agent again (agents-workspaces 4.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay import wire
from relay.store import Store

from ._moment import Moment
from ._records import text_member

__all__ = ["restart_spawn", "resuming", "spawned_by"]

PROVIDERS = ("claude", "codex")
AS_BEFORE = ("providerArgs", "providerConfig", "workspaceMode", "env", "profile")
"""What only the command that started the agent knows of it."""
FROM_META = {
    "model": "model",
    "effort": "effort",
    "approvalMode": "approvalMode",
    "permissionMode": "approvalMode",
}


def spawned_by(store: Store, card: wire.Agent) -> Mapping[str, Any]:
    """The params of the command that started this session of the agent; empty when it was started otherwise."""
    request = text_member(card.meta, "spawnRequestId")
    row = store.row(
        "select record from commands where correlation_id = ? and type = 'agent.spawn' order by seq desc limit 1",
        request,
    )
    return wire.decode(wire.Command, row[0]).params if row is not None else {}


def restart_spawn(
    card: wire.Agent, before: Mapping[str, Any], resume: str | None, moment: Moment
) -> dict[str, Any] | None:
    """Spawn params for the agent as it is; None when relay cannot say how its provider is started.

    `before` is what it was started by, `resume` the session to go on with.
    """
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
    params = {
        "action": "spawn",
        "provider": provider,
        "agentId": card.id,
        "tags": card.tags,
        "capabilities": card.capabilities,
        **{name: value for name, value in known.items() if value is not None},
        "spawnRequestId": text_member(card.meta, "spawnRequestId") or moment.new_id("sp"),
        "requestedBy": "dashboard-restart" if resume is None else "dashboard-resume",
        "requestedAt": moment.ms,
    }
    return params if resume is None else resuming(params, card.id, resume)


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
