"""Workspaces: the git worktrees of agents, and their merges."""

from __future__ import annotations

from typing import Any

from relay import wire

from .base import Calls, segment


class WorkspaceCalls(Calls):
    async def workspaces(
        self, *, status: str | None = None, repo_root: str | None = None, agent_id: str | None = None
    ) -> list[wire.Workspace]:
        """Those that fit every filter, by id. `repo_root` is the absolute path of a repository."""
        query = {"status": status, "repoRoot": repo_root, "agentId": agent_id}
        return self._list(wire.Workspace, await self._get("/api/workspaces", query))

    async def workspace(self, id: str) -> wire.Workspace:
        """One workspace. 404: unknown."""
        return self._one(wire.Workspace, await self._get(f"/api/workspaces/{segment(id)}"))

    async def act(self, id: str, action: wire.WorkspaceAction) -> dict[str, Any]:
        """Do something to a workspace (8.3). The answer has `workspace`, and `command` for a merge or cleanup; that of `status`
        is the workspace itself. 409: its repository is being merged, or no host is there to do it. 422: it has no worktree
        of its own. 404: unknown. Not repeated: trouble leaves it open."""
        return self._object(await self._call("POST", f"/api/workspaces/{segment(id)}/actions", action))

    async def delete_workspace(self, id: str) -> None:
        """Forget the workspace; the disk is left as it is (W-I27). 404: unknown. Not repeated: trouble leaves open
        whether it is gone."""
        await self._call("DELETE", f"/api/workspaces/{segment(id)}")

    async def git_state(self, id: str) -> dict[str, Any]:
        """What the host says of the worktree, or `{"available": False, "reason": …}` when it cannot be asked (9.1). 404: unknown."""
        return await self._get_object(f"/api/workspaces/{segment(id)}/git-state")

    async def merge_preview(self, id: str, strategy: str | None = None) -> dict[str, Any]:
        """What the host says a merge would do; when it cannot be asked as `git_state`. 404: unknown."""
        return await self._get_object(f"/api/workspaces/{segment(id)}/merge-preview", {"strategy": strategy})

    async def diff(self, id: str, *, patch: bool = True) -> dict[str, Any]:
        """What the host says was changed, `patch`: with the text of it; when it cannot be asked as `git_state`. 404: unknown."""
        return await self._get_object(
            f"/api/workspaces/{segment(id)}/diff", {"patch": None if patch else "0"}
        )

    async def merge_leases(self) -> list[wire.MergeLease]:
        """The repositories that are being merged, by path, and for whom (11.4)."""
        return self._list(wire.MergeLease, await self._get("/api/merge-leases"))

    async def stewards(self) -> list[wire.RepoSteward]:
        """Who looks after the merge queue of which repository, by repository (agents-workspaces 13)."""
        return self._list(wire.RepoSteward, await self._get("/api/repo-stewards"))
