"""Commands about workspaces: what is looked at before git is asked for anything (2.14-1, 2.22-1).

All of it happens below the base directory, in a repository that is there, and one command at a time in each repository.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs

from relay import wire

from .paths import inside
from .repolock import RepositoryLocks
from .teardown import Merge

__all__ = ["Places"]

Result = dict[str, Any]


@attrs.frozen
class Places:
    """The repositories of one host. `occupant` names the agent that works in a worktree."""

    base_dir: Path
    occupant: Callable[[str], str | None]
    locks: RepositoryLocks

    async def work(self, work: Callable[[Merge], Awaitable[Result]], command: wire.Command) -> Result:
        """The result of the work; with `error` when nothing could be done here."""
        merge = Merge.read(command.params, command.id, self.occupant)
        why = self._unfit(merge)
        if why is not None:
            workspace = {"workspaceId": merge.workspace_id, "status": "review_requested"}
            return {**workspace, "removed": False, "error": why}
        async with self.locks.hold(merge.repo_root):
            return await work(merge)

    def _unfit(self, merge: Merge) -> str | None:
        for path in (merge.repo_root, merge.worktree):
            if not inside(self.base_dir, Path(path)):
                return (
                    f"{path} is not inside this host's base directory {self.base_dir}: start the orchestrator with a"
                    " --base-dir that holds it"
                )
        if not Path(merge.repo_root).is_dir():
            return f"there is no repository {merge.repo_root} on this host: put it back there, or ask the host that has it"
        return None
