"""Making a worktree: completely or not at all (2.10-9 to 2.10-12).

A worktree that is there is used again, in whatever state an agent has left it. One that git was killed over is not:
git keeps it locked until its files are there. What stands in the way and is not git's stays as it is. Branches are made
from nothing, so that taking one back can never take away somebody else's.
"""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import trio

from ._git import GitError, git, git_result, succeeds
from ._problems import Refused
from .gitstate import worktrees

__all__ = ["Found", "add", "existing"]

ADD_WITHIN = 60.0  # seconds (2.21)
TAKE_BACK_WITHIN = 30.0
HALF_MADE = "initializing"
"""Why git says that a worktree is locked while it is still making it."""


@attrs.frozen
class Found:
    """A worktree that is there; `branch` is None when it is on none, and not on its way back to one."""

    branch: str | None


async def existing(root: str, path: Path, base_sha: str) -> Found | None:
    """The worktree at `path`. What is left of one that is half made or gone is cleared away."""
    for tree in await worktrees(root):
        if tree["path"] != str(path.resolve()):
            continue
        if tree.get("locked") and tree.get("reason") == HALF_MADE:
            await _discard(root, path, str(tree.get("branch", "")), base_sha)
        elif not path.exists():
            await git_result(root, "worktree", "remove", "--force", "--", str(path))
        elif (path / ".git").is_file():
            return Found(tree.get("branch") or await _rebasing(path))
    return None


async def _rebasing(path: Path) -> str | None:
    """The branch that an unfinished rebase will return to."""
    for folder in ("rebase-merge", "rebase-apply"):
        file = Path(path, await git(path, "rev-parse", "--git-path", f"{folder}/head-name"))
        if file.is_file():
            return file.read_text().strip().removeprefix("refs/heads/")
    return None


async def _discard(root: str, path: Path, branch: str, base_sha: str) -> None:
    """Nobody has been in a worktree that is half made; its branch goes when it holds nothing."""
    _, _, said = await git_result(root, "worktree", "remove", "--force", "--force", "--", str(path))
    if path.exists():
        raise Refused(f"{path} is half made, and git cannot remove it ({said}): remove it, then spawn again")
    code, tip, _ = await git_result(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
    if code == 0 and await succeeds(root, "merge-base", "--is-ancestor", tip, base_sha):
        await git_result(root, "update-ref", "-d", f"refs/heads/{branch}", tip)


async def add(root: str, path: Path, branch: str, base_sha: str) -> None:
    """Make the branch and the worktree. Raises `Refused`; then nothing is left of either."""
    if os.path.lexists(path):
        raise Refused(
            f"{path} is there already, and is not a worktree of {root}: move it away, then spawn again"
        )
    with trio.move_on_after(ADD_WITHIN):
        code, _, said = await git_result(root, "update-ref", f"refs/heads/{branch}", base_sha, "")
        if code:
            raise Refused(f"git could not make the branch {branch} in {root}: {said}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            await git(root, "worktree", "add", "--", str(path), branch)
        except BaseException as error:
            await _take_back(root, path, branch, base_sha)
            if isinstance(error, GitError | OSError):
                why = error.stderr if isinstance(error, GitError) else str(error)
                raise Refused(f"git could not make a worktree at {path}: {why}") from error
            raise
        return
    raise Refused(
        f"git took longer than {ADD_WITHIN:.0f} s to make a worktree at {path}; nothing is left of it"
    )


async def _take_back(root: str, path: Path, branch: str, base_sha: str) -> None:
    with trio.move_on_after(TAKE_BACK_WITHIN, shield=True):
        if path.exists():
            await git_result(root, "worktree", "remove", "--force", "--force", "--", str(path))
        await git_result(root, "update-ref", "-d", f"refs/heads/{branch}", base_sha)
        for folder in path.parents[:3]:
            try:
                folder.rmdir()
            except OSError:
                return  # it holds something else
