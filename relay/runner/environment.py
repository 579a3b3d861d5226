"""What the agent's process finds in its environment (1.9).

Relay's variables do not pass through a runner: they tell this runner who it is and where it keeps things, and a runner
that the agent starts must not take itself for this one. What the agent may know of them is `PASSED_ON`, what it is told
is `told`; a provider's configuration may add variables, but not change those, and only where the agent's profile lets it.
"""

from __future__ import annotations

from collections.abc import Mapping

from .options import Options
from .profile import uses_host_globals

__all__ = ["PASSED_ON", "agent_environment"]

PREFIX = "AGENT_RELAY_"
PASSED_ON = frozenset(
    {"AGENT_RELAY_TOKEN_FILE", "AGENT_RELAY_WORKSPACE_JSON", "AGENT_RELAY_WORKSPACE_MODE"},
)


def agent_environment(options: Options, session_id: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables for one agent process. `session_id` is this process's own."""
    passed = {
        name: value for name, value in inherited.items() if name in PASSED_ON or not name.startswith(PREFIX)
    }
    told = {
        "AGENT_RELAY_URL": options.relay_url,
        "AGENT_RELAY_ID": options.agent_id,
        "AGENT_RELAY_RUNNER_ID": options.instance_id,
        "AGENT_RELAY_PROVIDER_SESSION_ID": session_id,
        "AGENT_RELAY_APPROVAL": options.approval_mode,
    }
    given = options.provider_config.get("env", {}) if uses_host_globals(options.agent_profile) else {}
    return {**passed, **given, **told, **options.credential.told}
