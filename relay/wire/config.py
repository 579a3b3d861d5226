"""Configured values: the versioned entries of the config store, and what the namespaces that relay knows may hold
(messaging-control 15 and 16.1, agents-workspaces 14, runner-orchestrator 1.23)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .vocabulary import ApprovalMode, Effort, Provider, RestartMode, Strategy, WorkspaceMode

__all__ = [
    "AgentProfile",
    "ConfigEntry",
    "ConfigKey",
    "ProfileInstructions",
    "Restart",
    "SetConfig",
    "SpawnPolicy",
    "StewardConfig",
    "UpdatedBy",
]


def _long_text(value: Any, _: type[str]) -> str:
    if not isinstance(value, str) or f.length(value) > 32_000:
        raise ValueError("expected a text of at most 32000 characters")
    return value


@attrs.frozen(kw_only=True)
class ConfigKey:
    """What an entry is found by (CFG-2)."""

    namespace: str = f.text(240, required=True)
    key: str = f.text(240, required=True)


@attrs.frozen(kw_only=True)
class UpdatedBy:
    """Who changes it, in the words of whoever does: in a body beside the value, or in the query."""

    updated_by: str | None = f.text(200)


@attrs.frozen(kw_only=True)
class SetConfig(UpdatedBy):
    """`PUT /api/config/:namespace/:key`. `value` must be there, and may be null (CFG-5)."""

    value: Any = f.value()


@attrs.frozen(kw_only=True)
class ConfigEntry:
    """One version of a configured value (CFG-1). `deleted` marks the version that took it away (CFG-9).

    Version 0 is what holds as long as nothing was written.
    """

    namespace: str = f.text(240, required=True)
    key: str = f.text(240, required=True)
    value: Any = f.value()
    version: int = f.integer(0, required=True)
    deleted: bool | None = f.boolean()
    updated_by: str | None = f.text(200)
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class Restart:
    """When a policy's agent that is gone is started again.

    The first time after `delay_ms`, then after twice as long each time, at most `max_delay_ms`; as after the first, once
    it has run for `healthy_after_ms`. After so many failures in a row (`quarantine_after`; 0: never) it is left alone
    until a person starts it.
    """

    mode: RestartMode = f.choice(RestartMode, default=RestartMode.ON_FAILURE)
    delay_ms: int = f.integer(1, 3_600_000, default=5_000)
    max_delay_ms: int = f.integer(1, 86_400_000, default=300_000)
    healthy_after_ms: int = f.integer(1, 86_400_000, default=600_000)
    quarantine_after: int = f.integer(0, 1_000, default=8)


@attrs.frozen(kw_only=True)
class SpawnPolicy:
    """An agent that the server keeps startable: the value of a spawn policy (16.1). Where it has no `permission_mode` its profile's
    counts, else its provider's, which is `guarded` unless told otherwise."""

    name: str | None = f.text(120)
    orchestrator_id: str = f.text(120, required=True)
    provider: Provider = f.choice(Provider, required=True)
    cwd: str | None = f.text(500)
    label: str | None = f.text(120)
    tags: list[str] = f.texts()
    capabilities: list[str] = f.texts()
    provider_args: list[str] = f.texts()
    permission_mode: ApprovalMode | None = f.choice(ApprovalMode)
    prompt: str | None = f.text(4_000)
    model: str | None = f.text(120)
    effort: Effort | None = f.choice(Effort)
    profile: str | None = f.text(120)
    workspace_mode: WorkspaceMode | None = f.choice(WorkspaceMode)
    provider_config: dict[str, Any] | None = f.mapping(default=None)
    restart: Restart = f.item(Restart, nested, default=Restart)


@attrs.frozen(kw_only=True)
class StewardConfig:
    """How the stewards of merge queues work: the value of `/api/steward-config` (agents-workspaces 14)."""

    enabled: bool = f.boolean(default=False)
    auto_merge: bool = f.boolean(default=False)
    strategy: Strategy = f.choice(Strategy, default=Strategy.AUTO)
    delete_branch: bool = f.boolean(default=True)
    instructions: str | None = f.text(8_000)


@attrs.frozen(kw_only=True)
class ProfileInstructions:
    """What a kind of agent is told. `system` and then each of `append` go into its system prompt; the other two say whether it
    reads what the repository and its user say to agents."""

    system: str | None = f.text(32_000)
    append: list[str] = f.items(str, _long_text, most=20)
    repo_instructions: bool | None = f.boolean()
    global_instructions: bool | None = f.boolean()


@attrs.frozen(kw_only=True)
class AgentProfile:
    """What a kind of agent is given: the value of an agent profile (runner-orchestrator 1.23).

    `model` to `provider_args` hold for a spawn that does not say otherwise. `provider` is whose agents it is for: all, when
    absent or `any`. `env` and `instructions` go to the host alone, and into no command.
    """

    name: str | None = f.text(120)
    base: str | None = f.text(120)
    provider: str | None = f.text(80)
    description: str | None = f.text(4_000)
    model: str | None = f.text(120)
    effort: Effort | None = f.choice(Effort)
    approval_mode: ApprovalMode | None = f.choice(ApprovalMode)
    prompt: str | None = f.text(4_000)
    tags: list[str] = f.texts()
    capabilities: list[str] = f.texts()
    provider_args: list[str] = f.texts()
    relay: dict[str, Any] = f.mapping()
    instructions: ProfileInstructions = f.item(ProfileInstructions, nested, default=ProfileInstructions)
    skills: list[Any] = f.values()
    plugins: list[Any] = f.values()
    mcp: dict[str, Any] = f.mapping()
    hooks: dict[str, Any] = f.mapping()
    permissions: dict[str, Any] = f.mapping()
    env: dict[str, str] | None = f.environment()
