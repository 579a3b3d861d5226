"""Taking worktrees away: after a landing, on request, and when their owner is gone (2.22, 2.23).

Nothing is deleted without proof that all of it is elsewhere: a worktree only when it is clean and its commits have
landed, a branch only when its content is in the base. Whoever insists (`force` with a `reason`) gets a worktree
removed after what it holds was saved under a reference. That a directory is gone is seen on disk, not taken from git.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from ._git import GitError, git, git_result
from .gitstate import Base, branch_of, resolve_base, state, worktrees
from .landed import Landed, contained
from .nested import unsaved_inside
from .publishing import upstream_of

__all__ = ["Merge", "Stopped", "cleanup", "present", "reconcile", "tear_down"]

CLEANUP_WITHIN = 60.0  # seconds
OWN_BRANCHES = "agent/"
KEPT = "refs/agent-relay/workspace-tips"
IDENTITY = {
    "GIT_AUTHOR_NAME": "relay",
    "GIT_AUTHOR_EMAIL": "relay@localhost",
    "GIT_COMMITTER_NAME": "relay",
    "GIT_COMMITTER_EMAIL": "relay@localhost",
}


class Stopped(Exception):
    """It goes no further; branch and worktree are as they were. `status` is what the workspace becomes."""

    def __init__(self, status: str, why: str, **facts: Any) -> None:
        super().__init__(why)
        self.status = status
        self.facts = facts


def _nobody(path: str) -> str | None:
    return None


@attrs.frozen(kw_only=True)
class Merge:
    """What a workspace command asks for. `occupant` says which live session works in a directory."""

    command_id: str = ""
    workspace_id: str | None = None
    repo_root: str
    worktree: Path
    branch: str | None = None
    base_ref: str | None = None
    base_sha: str | None = None
    strategy: str = "auto"
    delete_branch: bool = True
    expected_head: str | None = None
    lease_token: int | None = None
    force: bool = False
    reason: str | None = None
    occupant: Callable[[str], str | None] = _nobody

    @property
    def place(self) -> str:
        """Where git is asked: in the worktree, and in its repository when that is gone."""
        return str(self.worktree) if self.worktree.is_dir() else self.repo_root

    @classmethod
    def read(
        cls, params: Mapping[str, Any], command_id: str = "", occupant: Callable[[str], str | None] = _nobody
    ) -> Merge:
        """From a command's params; raises `ValueError` when one that is needed is missing or of another kind."""
        for name in ("repoRoot", "worktreePath"):
            if not str(params.get(name, "")).startswith("/"):
                raise ValueError(f"params.{name} must be an absolute path")
        for name in ("workspaceId", "branch", "baseRef", "baseSha", "strategy", "expectedHeadSha", "reason"):
            if not isinstance(params.get(name, ""), str):
                raise ValueError(f"params.{name} must be a text")
        token = params.get("leaseToken")
        return cls(
            command_id=command_id,
            workspace_id=params.get("workspaceId"),
            repo_root=params["repoRoot"],
            worktree=Path(params["worktreePath"]),
            branch=params.get("branch"),
            base_ref=params.get("baseRef"),
            base_sha=params.get("baseSha"),
            strategy=params.get("strategy", "auto"),
            delete_branch=params.get("deleteBranch") is not False,
            expected_head=params.get("expectedHeadSha"),
            lease_token=token if isinstance(token, int) else None,
            force=params.get("force") is True,
            reason=params.get("reason"),
            occupant=occupant,
        )


def present(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts without those that are not known."""
    return {name: value for name, value in facts.items() if value is not None}


async def tear_down(merge: Merge, base: str, head: str) -> dict[str, Any]:
    """After a landing of `head`: an owner who stays goes on in its worktree, otherwise worktree and branch go."""
    kept = {"status": "active", "worktreeRemoved": False, "branchDeleted": False}
    if not merge.delete_branch:
        return kept
    if occupant := merge.occupant(str(merge.worktree)):
        return {**kept, "branchPreservedReason": f"{occupant} still works in it"}
    now = await state(merge.worktree, base)
    if not str(now.get("branch") or merge.branch or "").startswith(OWN_BRANCHES):
        return {**kept, "branchPreservedReason": "the worktree is a person's, not an agent's"}
    if "missing" not in now and (now.get("dirty") is not False or now.get("headSha") != head):
        return {**kept, "branchPreservedReason": "the worktree has changed while it was merged"}
    if merge.worktree.is_dir() and (inside := await unsaved_inside(merge.worktree)):
        return {**kept, "branchPreservedReason": f"the worktree {_holds(inside)}"}
    owner, branch = await _owner(merge), now.get("branch") or merge.branch
    try:
        await _remove(merge, owner)
    except Stopped as stopped:
        return {**kept, "branchPreservedReason": str(stopped)}
    dropped = await _drop_branch(owner, branch, await resolve_base(owner, base))
    return {"status": "merged", "worktreeRemoved": True, **dropped}


async def cleanup(merge: Merge) -> dict[str, Any]:
    """Remove a worktree that holds nothing unlanded, and its branch; otherwise say why not (2.22)."""
    facts = {"workspaceId": merge.workspace_id, "worktreePath": str(merge.worktree)}
    try:
        with trio.fail_after(CLEANUP_WITHIN):
            return present({**facts, **await _cleanup(merge)})
    except (GitError, Stopped, OSError) as error:
        return present({**facts, "removed": False, "error": str(error)})
    except trio.TooSlowError:
        why = f"git took longer than {CLEANUP_WITHIN:.0f} s in {merge.worktree}: see what holds it up, then ask again"
        return present({**facts, "removed": False, "error": why})


async def _cleanup(merge: Merge) -> dict[str, Any]:
    if merge.worktree.is_symlink():
        raise Stopped("", f"{merge.worktree} is a symbolic link, and only real worktrees are removed")
    owner = await _owner(merge)
    base = await resolve_base(owner, merge.base_ref, merge.base_sha, "main", "master")
    branch, saved = merge.branch, None
    if merge.worktree.exists():
        branch = await _branch_of(merge)
        if occupant := merge.occupant(str(merge.worktree)):
            raise Stopped("", f"{occupant} still works in {merge.worktree}: shut it down first")
        danger = await _danger(merge, base)
        if danger and not (merge.force and merge.reason):
            raise Stopped("", f"{merge.worktree} {danger}: land or discard it, or give force and a reason")
        saved = await _snapshot(merge) if danger else None
    await _remove(merge, owner, saved=saved is not None)
    dropped = await _drop_branch(owner, branch, base) if merge.delete_branch else {"branchDeleted": False}
    return {
        "removed": True,
        **dropped,
        "containerRemoved": not merge.worktree.parent.exists(),
        "dirtySnapshotRef": saved,
    }


async def _owner(merge: Merge) -> str:
    """The main worktree of the repository that the worktree really belongs to; the recorded one when it is gone."""
    if merge.worktree.is_dir():
        listed = await worktrees(merge.worktree)
        if listed:
            return str(listed[0]["path"])
    return merge.repo_root


async def _branch_of(merge: Merge) -> str:
    """The live branch. A worktree that is not on an agent's branch belongs to a person."""
    top = await git(merge.worktree, "rev-parse", "--show-toplevel")
    branch = await branch_of(merge.worktree)
    if branch is None or not branch.startswith(OWN_BRANCHES) or Path(top) != merge.worktree.resolve():
        raise Stopped(
            "",
            f"{merge.worktree} is not a worktree on a branch {OWN_BRANCHES}…, so it is not relay's to remove",
        )
    return branch


async def _danger(merge: Merge, base: Base | None) -> str | None:
    """What would be lost with the worktree."""
    if await git(merge.worktree, "status", "--porcelain", "--ignore-submodules=none"):
        return "has uncommitted changes"
    if inside := await unsaved_inside(merge.worktree):
        return _holds(inside)
    if base is None or not await _has_landed(merge.worktree, base, "HEAD"):
        return f"has commits that are not known to be in {base.name if base else 'any base'}"
    return None


def _holds(inside: str) -> str:
    return (
        f"holds the repository {inside}, and something of it that is nowhere else: push it, or move it away"
    )


async def _has_landed(path: str | Path, base: Base, tip: str) -> bool:
    if await contained(path, base.tip, tip) is Landed.CONTAINED:
        return True
    upstream = await upstream_of(path, base.name)
    return upstream is not None and await contained(path, upstream.tip, tip) is Landed.CONTAINED


async def _snapshot(merge: Merge) -> str:
    """Everything in the worktree that is not ignored, as a commit on top of its own, under a reference."""
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        await git(merge.worktree, "read-tree", "HEAD", env=env)
        await git(merge.worktree, "add", "--all", "--", ".", env=env)
        if inside := await unsaved_inside(merge.worktree, env):
            raise Stopped("", f"{merge.worktree} {_holds(inside)}; a snapshot cannot save it")
        tree = await git(merge.worktree, "write-tree", env=env)
    message = f"What was in {merge.worktree} when it was removed: {merge.reason}"
    commit = await git(merge.worktree, "commit-tree", tree, "-p", "HEAD", "-m", message, env=IDENTITY)
    name = f"{KEPT}/{merge.workspace_id or merge.worktree.name}-dirty-{round(time.time() * 1000)}"
    await git(merge.worktree, "update-ref", name, commit)
    return name


async def _remove(merge: Merge, owner: str, *, saved: bool = False) -> None:
    """Remove the worktree by way of its repository; raises `Stopped` when the directory is still there.

    Unless what is in it was `saved`, git looks once more itself, for something may still write there.
    """
    path = str(merge.worktree)
    if merge.worktree.exists():
        _, _, said = await git_result(
            owner, "worktree", "remove", *(["--force"] if saved else []), "--", path
        )
        if "submodules" in said:  # git does not remove those unasked, whatever is in them
            _, _, said = await git_result(owner, "worktree", "remove", "--force", "--", path)
        if merge.worktree.exists():
            raise Stopped("", f"git left {path} in place: {said}")
    if any(tree["path"] == path for tree in await worktrees(owner)):
        await git_result(owner, "worktree", "remove", "--force", "--force", "--", path)
    try:
        merge.worktree.parent.rmdir()
    except OSError:
        pass  # it holds other worktrees


async def _drop_branch(owner: str, branch: str | None, base: Base | None) -> dict[str, Any]:
    if branch is None or not branch.startswith(OWN_BRANCHES):
        return {"branchDeleted": False, "branchPreservedReason": "it is not an agent's branch"}
    code, tip, _ = await git_result(owner, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
    if code:
        return {"branchDeleted": True}
    if base is None or not await _has_landed(owner, base, tip):
        return {
            "branchDeleted": False,
            "branchPreservedReason": "it holds commits that are not known to have landed",
        }
    if any(tree.get("branch") == branch for tree in await worktrees(owner)):
        return {"branchDeleted": False, "branchPreservedReason": "it is checked out elsewhere"}
    code, _, said = await git_result(owner, "update-ref", "-d", f"refs/heads/{branch}", tip)
    return {"branchDeleted": True} if code == 0 else {"branchDeleted": False, "branchPreservedReason": said}


async def reconcile(merge: Merge) -> dict[str, Any]:
    """The owner of a worktree is gone: remove it when nothing is lost by that, else ask for a review (2.23).

    With `error` the question does not arise, for its owner is here; the command has failed, which changes nothing.
    """
    facts = {"workspaceId": merge.workspace_id, "removed": False}
    if occupant := merge.occupant(str(merge.worktree)):
        return present(
            {**facts, "error": f"{occupant} works in {merge.worktree}: nothing is to be reconciled"}
        )
    with trio.move_on_after(CLEANUP_WITHIN):
        now = await state(merge.worktree, merge.base_ref, merge.base_sha)
        if "missing" in now:
            base = await resolve_base(merge.repo_root, merge.base_ref, merge.base_sha)
            dropped = await _drop_branch(merge.repo_root, merge.branch, base)
            return present({**facts, **dropped, "status": "cleaned", "gitState": now})
        empty = now.get("dirtyCount") == 0 and (now.get("ahead") == 0 or now.get("landed") is True)
        if "error" not in now and empty:
            done = await cleanup(merge)
            if done["removed"]:
                return present({**done, "status": "cleaned", "gitState": now})
        return present({**facts, "status": "review_requested", "gitState": now})
    why = f"git took longer than {CLEANUP_WITHIN:.0f} s"
    return present({**facts, "status": "review_requested", "gitState": {"error": why}})
