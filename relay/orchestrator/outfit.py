"""What a runner is told by its environment, of all that is said about its start (2.5-10).

What the profile says comes first, then the command; neither can change what relay says of itself. Profile and provider come
from relay with the runner's token, for no command holds their secrets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire

from .entitling import Grant
from .session import Launch

__all__ = ["outfit", "outfitted_anew"]


def outfit(
    asked: wire.SpawnAgent, grant: Grant, workspace: wire.WorkspaceReport, hostname: str
) -> dict[str, str]:
    """The variables of the launch. `asked` has its spawn request."""
    profile = dict(grant.profile or {})
    variables: Mapping[str, str] = profile.pop("env", None) or {}
    config = grant.provider_config if grant.provider_config is not None else asked.provider_config or {}
    return {
        **variables,
        **(asked.env or {}),
        "AGENT_RELAY_HEADLESS": "1",
        "AGENT_RELAY_LABEL": asked.label or "",
        "AGENT_RELAY_TAGS": ",".join(["headless", "dashboard-spawned", hostname, *asked.tags]),
        "AGENT_RELAY_CAPS": ",".join(asked.capabilities),
        "AGENT_RELAY_SPAWN_REQUEST_ID": asked.spawn_request_id or "",
        "AGENT_RELAY_POLICY": asked.policy_name or "",
        "AGENT_RELAY_AUTOMATION_ID": asked.automation_id or "",
        "AGENT_RELAY_AUTOMATION_RUN_ID": asked.automation_run_id or "",
        "AGENT_RELAY_PROMPT": asked.prompt or "",
        "AGENT_RELAY_MODEL": asked.model or "",
        "AGENT_RELAY_EFFORT": asked.effort or "",
        "AGENT_RELAY_AGENT_PROFILE": asked.profile or "",
        "AGENT_RELAY_AGENT_PROFILE_JSON": _json(profile) if grant.profile is not None else "",
        "AGENT_RELAY_PROVIDER_ARGS_JSON": _json(asked.provider_args),
        "AGENT_RELAY_PROVIDER_CONFIG_JSON": _json(config),
        "AGENT_RELAY_WORKSPACE_JSON": _json(wire.to_json(workspace)),
        "AGENT_RELAY_WORKSPACE_MODE": workspace.mode.value,
        **grant.token,
    }


def outfitted_anew(launch: Launch, wish: Mapping[str, Any]) -> Launch:
    """The launch of a session that is started again, with what the wish says of how its provider is started; what it does not
    say stays. Raises `wire.Invalid`."""
    asked = wire.decode(wire.SpawnAgent, dict(wish))
    said = {
        "model": ("AGENT_RELAY_MODEL", asked.model or ""),
        "effort": ("AGENT_RELAY_EFFORT", asked.effort or ""),
        "providerArgs": ("AGENT_RELAY_PROVIDER_ARGS_JSON", _json(asked.provider_args)),
    }
    variables = dict(variable for member, variable in said.items() if wish.get(member) is not None)
    mode = asked.approval_mode.value if asked.approval_mode is not None else launch.approval_mode
    return attrs.evolve(launch, environment={**launch.environment, **variables}, approval_mode=mode)


def _json(value: Any) -> str:
    return json.dumps(value)
