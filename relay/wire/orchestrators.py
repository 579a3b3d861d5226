"""Orchestrators: the host daemons (messaging-control 14, runner-orchestrator 2.2 and 2.3)."""

import re
from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .tokens import IssuedToken
from .vocabulary import (
    ApprovalMode,
    Effort,
    OrchestratorStatus,
    Provider,
    UpgradePart,
    UpgradeStatus,
    WorkspaceMode,
)
from .workspaces import WorkspaceReport

__all__ = [
    "ExitedAgent",
    "ManagedAgent",
    "Orchestrator",
    "OrchestratorAction",
    "OrchestratorHeartbeat",
    "QueuedSpawn",
    "Reclaim",
    "RegisterOrchestrator",
    "RegisteredOrchestrator",
    "Roster",
    "SpawnAgent",
    "Upgrade",
    "UpgradeOrchestrator",
]

URL = 500  # characters
VERSION = f.Form(
    "a version like 1.2.3 or 1.2.3-rc.1", re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?\Z", re.ASCII)
)


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
    lifecycle: str | None = f.text(80)
    workspace: WorkspaceReport | None = f.item(WorkspaceReport, nested)
    session_name: str | None = f.text(200)
    tmux_session: str | None = f.text(200)
    supervisor: str | None = f.text(80)
    systemd_unit: str | None = f.text(240)
    terminal_session: str | None = f.text(200)
    terminal_available: bool | None = f.boolean()
    cwd: str | None = f.text(1_000)
    label: str | None = f.text(240)
    approval_mode: str | None = f.text(80)
    policy_name: str | None = f.text(120)
    spawn_request_id: str | None = f.text(160)
    automation_run_id: str | None = f.text(160)
    pid: int | None = f.integer(0)
    started_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class ExitedAgent:
    """An agent whose session has ended, and what is known of why."""

    agent_id: str = f.text(240, required=True)
    provider: str | None = f.text(80)
    label: str | None = f.text(240)
    session_name: str | None = f.text(200)
    tmux_session: str | None = f.text(200)
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
class QueuedSpawn:
    """A spawn that waits for room on its host. Memory is in mebibytes."""

    provider: str | None = f.text(80)
    spawn_request_id: str | None = f.text(160)
    label: str | None = f.text(240)
    cwd: str | None = f.text(1_000)
    spawned_by: str | None = f.text(240)
    reason: str | None = f.text(1_000)
    free_mem_mb: int | None = f.integer(0)
    min_free_mem_mb: int | None = f.integer(0)
    queued_at: f.Instant | None = f.instant()
    max_wait_ms: int | None = f.integer(0)


@attrs.frozen(kw_only=True)
class Roster:
    """`PATCH /api/orchestrators/:id/agents`: replaces the host's list of managed agents, and of spawns that wait."""

    agents: list[ManagedAgent] = f.items(ManagedAgent, nested, required=True)
    exited_agents: list[ExitedAgent] = f.items(ExitedAgent, nested)
    queued_spawns: list[QueuedSpawn] = f.items(QueuedSpawn, nested)


@attrs.frozen(kw_only=True)
class Upgrade:
    """The last upgrade that was asked of a host (agents-workspaces 6.5)."""

    desired_version: str = f.text(80, required=True)
    status: UpgradeStatus = f.choice(UpgradeStatus, default=UpgradeStatus.PENDING)
    command_id: str | None = f.text(240)
    providers: list[UpgradePart] = f.choices(UpgradePart, lambda: [UpgradePart.ORCHESTRATOR])
    from_version: str | None = f.text(80)
    requested_by: str | None = f.text(240)
    requested_at: f.Instant | None = f.instant()
    settled_at: f.Instant | None = f.instant()
    error: str | None = f.text(4_000)


@attrs.frozen(kw_only=True)
class Orchestrator:
    """The record of a host (14.1). `api_addresses` are those of its API that it is called at: they were judged when it
    registered."""

    id: str = f.text(120, required=True)
    agent_id: str = f.text(240, required=True)
    hostname: str = f.text(240, required=True)
    status: OrchestratorStatus = f.choice(OrchestratorStatus, default=OrchestratorStatus.ONLINE)
    providers: list[Provider] = f.choices(Provider, _all_providers)
    base_dir: str = f.text(500, required=True)
    api_url: str | None = f.text(URL)
    api_addresses: list[str] = f.texts()
    env_keys: list[str] = f.texts()
    version: str | None = f.text(80)
    protocol_version: int | None = f.integer(1)
    git_sha: str | None = f.text(80)
    package: dict[str, Any] | None = f.mapping(default=None)
    contracts: dict[str, Any] | None = f.mapping(default=None)
    capabilities: dict[str, Any] | None = f.mapping(default=None)
    provider_status: list[dict[str, Any]] | None = f.documents()
    provider_catalog: list[dict[str, Any]] | None = f.documents()
    meta: dict[str, Any] = f.document()
    managed_agents: list[ManagedAgent] = f.items(ManagedAgent, nested)
    queued_spawns: list[QueuedSpawn] = f.items(QueuedSpawn, nested)
    upgrade: Upgrade | None = f.item(Upgrade, nested)
    last_seen: f.Instant | None = f.instant()
    created_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class RegisteredOrchestrator(Orchestrator):
    """What a registration is answered with: the record, and by what relay is known to the host's API."""

    host_token: str | None = f.text(240)
    runtime_token: IssuedToken | None = f.item(IssuedToken, nested)


@attrs.frozen(kw_only=True)
class RegisterOrchestrator:
    """`POST /api/orchestrators`."""

    id: str = f.text(120, required=True)
    hostname: str = f.text(240, required=True)
    base_dir: str = f.text(500, form=f.ABSOLUTE_PATH, required=True)
    api_url: str | None = f.text(URL, form=f.HTTP_URL)
    providers: list[Provider] = f.choices(Provider, _all_providers)
    env_keys: list[str] = f.texts()
    version: str | None = f.text(80)
    protocol_version: int | None = f.integer(1)
    git_sha: str | None = f.text(80)
    package: dict[str, Any] | None = f.mapping(default=None)
    contracts: dict[str, Any] | None = f.mapping(default=None)
    capabilities: dict[str, Any] | None = f.mapping(default=None)
    provider_status: list[dict[str, Any]] | None = f.documents()
    provider_catalog: list[dict[str, Any]] | None = f.documents()
    meta: dict[str, Any] = f.mapping()

    @property
    def address(self) -> str | None:
        """Where its API is: `api_url`, else an address in `meta.apiUrl` (O-41)."""
        told = self.meta.get("apiUrl")
        fits = isinstance(told, str) and len(told) <= URL and f.HTTP_URL.pattern.match(told)
        return self.api_url or (told if fits else None)


@attrs.frozen(kw_only=True)
class OrchestratorHeartbeat:
    """`POST /api/orchestrators/:id/heartbeat`. What is absent keeps its value."""

    version: str | None = f.text(80)
    protocol_version: int | None = f.integer(1)
    git_sha: str | None = f.text(80)
    package: dict[str, Any] | None = f.mapping(default=None)
    contracts: dict[str, Any] | None = f.mapping(default=None)
    capabilities: dict[str, Any] | None = f.mapping(default=None)
    provider_status: list[dict[str, Any]] | None = f.documents()
    provider_catalog: list[dict[str, Any]] | None = f.documents()
    providers: list[Provider] | None = f.choices(Provider, lambda: None)


@attrs.frozen(kw_only=True)
class SpawnAgent:
    """`POST /api/orchestrators/:id/spawn` and `POST /api/agents/spawn`.

    `provider_config`, `workspace_mode`, `agent_id`, `model`, `effort` and `env` are handed on to the host, and so is the run of
    an automation that it is for. `profile` is a name; what it says counts where this says nothing.
    """

    provider: Provider = f.choice(Provider, required=True)
    cwd: str | None = f.text(500)
    label: str | None = f.text(120)
    tags: list[str] = f.texts()
    capabilities: list[str] = f.texts()
    approval_mode: ApprovalMode | None = f.choice(ApprovalMode)
    provider_args: list[str] = f.texts()
    prompt: str | None = f.text(4_000)
    policy_name: str | None = f.text(120)
    spawn_request_id: str | None = f.text(160)
    agent_id: str | None = f.text(240)
    model: str | None = f.text(120)
    effort: Effort | None = f.choice(Effort)
    profile: str | None = f.text(120)
    workspace_mode: WorkspaceMode | None = f.choice(WorkspaceMode)
    provider_config: dict[str, Any] | None = f.mapping(default=None)
    env: dict[str, str] | None = f.environment()
    automation_id: str | None = f.text(160)
    automation_run_id: str | None = f.text(160)


@attrs.frozen(kw_only=True)
class OrchestratorAction:
    """`POST /api/orchestrators/:id/actions`: `restart` or `shutdown` of managed agents."""

    action: str = f.one_of("restart", "shutdown")
    agent_id: str | None = f.text(240)
    policy_name: str | None = f.text(120)
    spawn_request_id: str | None = f.text(160)
    tmux_session: str | None = f.text(200)
    reason: str = f.text(200, default="manual")


@attrs.frozen(kw_only=True)
class UpgradeOrchestrator:
    """`POST /api/orchestrators/:id/actions` with `upgrade` (6.3). Without `target_version` the server's own is meant; `force`
    counts only when it is true; parts that nobody knows are left out."""

    action: str = f.one_of("upgrade")
    target_version: str | None = f.text(80, form=VERSION)
    providers: list[str] | None = f.texts(default=None)
    force: Any = f.anything()

    @property
    def parts(self) -> list[UpgradePart]:
        """What of the host is meant, without what nobody knows."""
        if self.providers is None:
            return [UpgradePart.ORCHESTRATOR]
        return [UpgradePart(name) for name in self.providers if name in set(UpgradePart)]


@attrs.frozen(kw_only=True)
class Reclaim:
    """`POST /api/workspaces/orphans/reclaim`: a worktree that no workspace is in any more."""

    worktree_path: str = f.text(1_000, form=f.ABSOLUTE_PATH, required=True)
    repo_root: str = f.text(1_000, form=f.ABSOLUTE_PATH, required=True)
    branch: str | None = f.text(240)
