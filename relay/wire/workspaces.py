"""Workspaces, merge leases, and what hosts report about them (agents-workspaces 8 to 12)."""

from typing import Any

import attrs

from . import _fields as f
from .vocabulary import AgentStatus, Strategy, WorkspaceMode, WorkspaceStatus, WorkspaceVerb

__all__ = ["MergeLease", "RepoSteward", "Workspace", "WorkspaceAction", "WorkspaceOutcome", "WorkspaceReport"]


@attrs.frozen(kw_only=True)
class Workspace:
    """The record of a workspace (8.1)."""

    id: str = f.text(160, required=True)
    mode: WorkspaceMode = f.choice(WorkspaceMode, default=WorkspaceMode.ISOLATED)
    requested_mode: WorkspaceMode | None = f.choice(WorkspaceMode)
    status: WorkspaceStatus = f.choice(WorkspaceStatus, default=WorkspaceStatus.ACTIVE)
    repo_root: str | None = f.text(1_000)
    source_cwd: str | None = f.text(1_000)
    worktree_path: str | None = f.text(1_000)
    branch: str | None = f.text(240)
    base_ref: str | None = f.text(240)
    base_sha: str | None = f.text(64)
    agent_id: str | None = f.text(240)
    orchestrator_id: str | None = f.text(120)
    metadata: dict[str, Any] = f.document()
    created_at: f.Instant | None = f.instant()
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class WorkspaceReport:
    """What a host says of a workspace when it has spawned an agent in it."""

    id: str = f.text(160, required=True)
    mode: WorkspaceMode = f.choice(WorkspaceMode, default=WorkspaceMode.ISOLATED)
    requested_mode: WorkspaceMode | None = f.choice(WorkspaceMode)
    repo_root: str | None = f.text(1_000)
    source_cwd: str | None = f.text(1_000)
    worktree_path: str | None = f.text(1_000)
    branch: str | None = f.text(240)
    base_ref: str | None = f.text(240)
    base_sha: str | None = f.text(64)


@attrs.frozen(kw_only=True)
class WorkspaceAction:
    """`POST /api/workspaces/:id/actions`. The last four belong to `merge`."""

    action: WorkspaceVerb = f.choice(WorkspaceVerb, required=True)
    agent_id: str | None = f.text(240)
    detail: str | None = f.text(4_000)
    metadata: dict[str, Any] = f.mapping()
    strategy: Strategy = f.choice(Strategy, default=Strategy.AUTO)
    delete_branch: bool = f.not_false()
    pr_title: str | None = f.text(240)
    pr_body: str | None = f.text(8_000)


@attrs.frozen(kw_only=True)
class WorkspaceOutcome:
    """The members of a workspace command's result that relay acts on (12.1)."""

    workspace_id: str | None = f.text(160)
    status: WorkspaceStatus | None = f.choice(WorkspaceStatus)
    removed: Any = f.anything()


@attrs.frozen(kw_only=True)
class MergeLease:
    """The lease that serialises the merges of one repository (11.4). `token` fences its holder."""

    repo_root: str = f.text(1_000, required=True)
    token: int = f.integer(1, required=True)
    workspace_id: str = f.text(160, required=True)
    holder: str = f.text(240, required=True)
    command_id: str = f.text(240, required=True)
    acquired_at: f.Instant = f.instant(required=True)
    expires_at: f.Instant = f.instant(required=True)


@attrs.frozen(kw_only=True)
class RepoSteward:
    """Who looks after the merge queue of a repository (agents-workspaces 13); `status` is the agent's."""

    repo_root: str = f.text(1_000, required=True)
    agent_id: str = f.text(240, required=True)
    status: AgentStatus = f.choice(AgentStatus, required=True)
    updated_at: f.Instant | None = f.instant()
