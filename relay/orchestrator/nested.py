"""Repositories inside a worktree: submodules, and what an agent has cloned or begun there.

Git removes them with the worktree, and saves of them no more than which commit is checked out. So whoever removes a
worktree asks here whether one of them holds something that is nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ._git import git

__all__ = ["unsaved_inside"]

LINK = "160000"
"""The mode of an index entry that is a repository of its own."""


async def unsaved_inside(worktree: Path, env: Mapping[str, str] | None = None) -> str | None:
    """The path of the first one that is dirty, or has commits that none of its remotes had when last asked. `env` may
    name another index. Raises `GitError`."""
    listed = await git(worktree, "ls-files", "--stage", "-z", env=dict(env or {}))
    for entry in listed.split("\0"):
        meta, _, name = entry.partition("\t")
        inner = worktree / name
        if meta.startswith(LINK) and (inner / ".git").exists() and await _is_unsaved(inner):
            return name
    return None


async def _is_unsaved(inner: Path) -> bool:
    if await git(inner, "status", "--porcelain", "--ignore-submodules=none"):
        return True
    news = ("--all", "HEAD", "--not", "--remotes")
    return (
        bool(await git(inner, "rev-list", "--max-count=1", *news)) or await unsaved_inside(inner) is not None
    )
