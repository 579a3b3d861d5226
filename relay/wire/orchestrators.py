"""Orchestrators: the host daemons (messaging-control 14, runner-orchestrator 2.2 and 2.3)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .vocabulary import ApprovalMode, Effort, OrchestratorStatus, Provider, WorkspaceMode
from .workspaces import WorkspaceReport

__all__ = [
    "ExitedAgent",
    "ManagedAgent",
    "Orchestrator",
    "OrchestratorAction",
    "OrchestratorHeartbeat",
    "RegisterOrchestrator",
    "Roster",
    "SpawnAgent",
]


def _all_providers() -> list[Provider]:
    return [Provider.CLAUDE, Provider.CODEX]


@attrs.frozen(kw_only=True)
class ManagedAgent:
    """One agent of a host's roster (ORC-11)."""

    agent_id: str = f.text(240, required=True)
    provider: str | None = f.text(80)
    model: str | None = f.text(120)
    effort: str | None = f.text(80)
    profile: str | None = f.text(120)
    workspace_mode: str | None = f.text(80)
    workspace: WorkspaceReport | None = f.item(WorkspaceReport, nested)
    session_name: str | None = f.text(200)
    tmux_session: str | None = f.text(200)
    supervisor: str | None = f.text(80)
    cwd: str | None = f.text(1_000)
    label: str | None = f.text(240)
    approval_mode: str | None = f.text(80)
    policy_name: str | None = f.text(120)
    spawn_request_id: str | None = f.text(160)
    pid: int | None = f.integer(0)
    started_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class ExitedAgent:
    """An agent whose session has ended, and what is known of why."""

    agent_id: str = f.text(240, required=True)
    session_name: str | None = f.text(200)
    policy_name: str | None = f.text(120)
    spawn_request_id: str | None = f.text(160)
    pid: int | None = f.integer(0)
    started_at: f.Instant | None = f.instant()
    detected_at: f.Instant | None = f.instant()
    runtime_ms: int | None = f.integer(0)
    signal: str | None = f.text(80)
    exit_code: int | None = f.integer(-256, 256)
    log_file: str | None = f.text(1_000)
    log_tail: str | None = f.text(8_000)
    last_error: str | None = f.text(4_000)
    restarted: bool | None = f.boolean()
    workspace: WorkspaceReport | None = f.item(WorkspaceReport, nested)


@attrs.frozen(kw_only=True)
class Roster:
    """`PATCH /api/orchestrators/:id/agents`: replaces the host's list of managed agents."""

    agents: list[ManagedAgent] = f.items(ManagedAgent, nested, required=True)
    exited_agents: list[ExitedAgent] = f.items(ExitedAgent, nested)


@attrs.frozen(kw_only=True)
class Orchestrator:
    """The record of a host (14.1)."""

    id: str = f.text(120, required=True)
    agent_id: str = f.text(240, required=True)
    hostname: str = f.text(240, required=True)
    status: OrchestratorStatus = f.choice(OrchestratorStatus, default=OrchestratorStatus.ONLINE)
    providers: list[Provider] = f.choices(Provider, _all_providers)
    base_dir: str = f.text(500, required=True)
    api_url: str | None = f.text(500)
    env_keys: list[str] = f.texts()
    version: str | None = f.text(80)
    protocol_version: int | None = f.integer(1)
    git_sha: str | None = f.text(80)
    meta: dict[str, Any] = f.document()
    managed_agents: list[ManagedAgent] = f.items(ManagedAgent, nested)
    last_seen: f.Instant | None = f.instant()
    created_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class RegisterOrchestrator:
    """`POST /api/orchestrators`."""

    id: str = f.text(120, required=True)
    hostname: str = f.text(240, required=True)
    base_dir: str = f.text(500, form=f.ABSOLUTE_PATH, required=True)
    api_url: str | None = f.text(500, form=f.HTTP_URL)
    providers: list[Provider] = f.choices(Provider, _all_providers)
    env_keys: list[str] = f.texts()
    version: str | None = f.text(80)
    protocol_version: int | None = f.integer(1)
    git_sha: str | None = f.text(80)
    meta: dict[str, Any] = f.mapping()

    @property
    def address(self) -> str | None:
        """Where its API is: `api_url`, else an address in `meta.apiUrl` (O-41)."""
        told = self.meta.get("apiUrl")
        fits = isinstance(told, str) and f.HTTP_URL.pattern.match(told)
        return self.api_url or (told if fits else None)


@attrs.frozen(kw_only=True)
class OrchestratorHeartbeat:
    """`POST /api/orchestrators/:id/heartbeat`. What is absent keeps its value."""

    version: str | None = f.text(80)
    protocol_version: int | None = f.integer(1)
    git_sha: str | None = f.text(80)


@attrs.frozen(kw_only=True)
class SpawnAgent:
    """`POST /api/orchestrators/:id/spawn` and `POST /api/agents/spawn`.

    `provider_config`, `workspace_mode`, `agent_id`, `model`, `effort` and `env` are handed on to the host.
    """

    provider: Provider = f.choice(Provider, required=True)
    cwd: str | None = f.text(500)
    label: str | None = f.text(120)
    tags: list[str] = f.texts()
    capabilities: list[str] = f.texts()
    approval_mode: ApprovalMode = f.choice(ApprovalMode, default=ApprovalMode.GUARDED)
    provider_args: list[str] = f.texts()
    prompt: str | None = f.text(4_000)
    policy_name: str | None = f.text(120)
    spawn_request_id: str | None = f.text(160)
    agent_id: str | None = f.text(240)
    model: str | None = f.text(120)
    effort: Effort | None = f.choice(Effort)
    workspace_mode: WorkspaceMode | None = f.choice(WorkspaceMode)
    provider_config: dict[str, Any] | None = f.mapping(default=None)
    env: dict[str, str] | None = f.environment()


@attrs.frozen(kw_only=True)
class OrchestratorAction:
    """`POST /api/orchestrators/:id/actions`: `restart` or `shutdown` of managed agents."""

    action: str = f.one_of("restart", "shutdown")
    agent_id: str | None = f.text(240)
    policy_name: str | None = f.text(120)
    spawn_request_id: str | None = f.text(160)
    tmux_session: str | None = f.text(200)
    reason: str = f.text(200, default="manual")
