"""Landing a workspace: `rebase-ff` (2.14, 2.15), and what is left afterwards (2.22, 2.23).

The agent's commits stay as they are. The base is fast-forwarded to them, or, when it has moved on, receives a merge
commit that is made in memory. Nothing is checked out to find out whether it fits.

The one step that changes the base is a git transaction of two references: the base, from the value that was looked
at, and the fence `refs/relay/merge-fence`, which holds the token of the newest merge lease that landed here. A holder
whose lease was given to somebody else meanwhile has an older token than the fence and cannot land.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from ._git import GitError, git, git_result, is_safe_ref
from .gitstate import Landed, contained, preview, resolve_base, state

__all__ = ["Merge", "cleanup", "land", "reconcile"]

FENCE = "refs/relay/merge-fence"
NOTHING = "0" * 40
MERGE_WITHIN = 2_400.0  # seconds: 40 minutes in all
CLEANUP_WITHIN = 60.0
IDENTITY = {
    "GIT_AUTHOR_NAME": "relay",
    "GIT_AUTHOR_EMAIL": "relay@localhost",
    "GIT_COMMITTER_NAME": "relay",
    "GIT_COMMITTER_EMAIL": "relay@localhost",
}


class Stopped(Exception):
    """The merge goes no further; branch and worktree are as they were. `status` is what the workspace becomes."""

    def __init__(self, status: str, why: str, **facts: Any) -> None:
        super().__init__(why)
        self.status = status
        self.facts = facts


@attrs.frozen(kw_only=True)
class Merge:
    """What a `workspace.merge` or `workspace.cleanup` command asks for."""

    workspace_id: str | None
    repo_root: str
    worktree: Path
    branch: str | None
    base_ref: str | None
    base_sha: str | None
    strategy: str = "auto"
    delete_branch: bool = True
    lease_token: int | None = None

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Merge:
        """From a command's params; raises `KeyError` or `ValueError` when one that is needed is missing."""
        for name in ("repoRoot", "worktreePath"):
            if not isinstance(params.get(name), str) or not params[name].startswith("/"):
                raise ValueError(f"params.{name} must be an absolute path")
        return cls(
            workspace_id=params.get("workspaceId"),
            repo_root=params["repoRoot"],
            worktree=Path(params["worktreePath"]),
            branch=params.get("branch"),
            base_ref=params.get("baseRef"),
            base_sha=params.get("baseSha"),
            strategy=params.get("strategy", "auto"),
            delete_branch=params.get("deleteBranch") is not False,
            lease_token=params.get("leaseToken"),
        )


async def land(merge: Merge) -> dict[str, Any]:
    """The result of the merge (12.1). With `error` no work landed, and the command has failed."""
    facts = {
        "workspaceId": merge.workspace_id,
        "strategy": "rebase-ff",
        "branch": merge.branch,
        "baseRef": merge.base_ref,
    }
    try:
        with trio.fail_after(MERGE_WITHIN):
            return _present({**facts, **await _land(merge)})
    except Stopped as stopped:
        return _present(
            {**facts, "merged": False, "status": stopped.status, "error": str(stopped), **stopped.facts}
        )
    except (GitError, OSError) as error:
        return _present({**facts, "merged": False, "status": "review_requested", "error": str(error)})
    except trio.TooSlowError:
        error_ = f"the merge took longer than {MERGE_WITHIN:.0f} s"
        return _present({**facts, "merged": False, "status": "review_requested", "error": error_})


async def _land(merge: Merge) -> dict[str, Any]:
    base = _checked(merge)
    seen = await preview(merge.worktree, base, None, merge.strategy)
    if "missing" in seen:
        raise Stopped("cleaned", f"the worktree {merge.worktree} is not there any more")
    if "error" in seen:
        raise Stopped("review_requested", seen["error"])
    if seen.get("noop"):
        return await _nothing_to_land(merge, seen)
    if "reason" in seen:
        raise Stopped("review_requested", f"{merge.worktree}: {seen['reason']}")
    old, head = await git(merge.worktree, "rev-parse", f"refs/heads/{base}"), seen["headSha"]
    new = head if seen["behind"] == 0 else await _merge_commit(merge, base, old, head)
    commits = (await git(merge.worktree, "rev-list", "--reverse", f"{old}..{head}")).split()
    subject = await git(merge.worktree, "log", "-1", "--format=%s", head)
    checkout = await _checkout_of(merge.worktree, base)
    await _advance(merge, base, old, new)
    landed = {
        "merged": True,
        "mergedSha": new,
        "baseSha": new,
        "previousBaseSha": old,
        "landedCommitShas": commits,
        "subject": subject,
        "pushed": False,
    }
    if checkout is not None:
        landed["baseWorktreeSync"] = await _follow(checkout, old, new)
    return landed | await _tear_down(merge, base, head)


def _checked(merge: Merge) -> str:
    if merge.strategy == "pr":
        raise Stopped("review_requested", "this host cannot open pull requests; merge with strategy rebase-ff")
    if merge.base_ref is None:
        raise Stopped("review_requested", "the workspace has no base branch to merge into")
    for name in (merge.base_ref, merge.branch):
        if name is not None and not is_safe_ref(name):
            raise Stopped("review_requested", f"{name!r} cannot be the name of a branch")
    if merge.worktree.is_symlink():
        raise Stopped("review_requested", f"{merge.worktree} is a symbolic link")
    return merge.base_ref


async def _merge_commit(merge: Merge, base: str, old: str, head: str) -> str:
    """The base has moved on: a merge commit of both, made without a checkout."""
    code, out, err = await git_result(merge.worktree, "merge-tree", "--write-tree", "--name-only", old, head)
    if code == 1:
        names = sorted(set(out.split("\n\n")[0].splitlines()[1:]))
        why = f"it conflicts with {base} in {', '.join(names[:10])}: rebase on {base}, then ask again"
        raise Stopped("conflict", why, conflict=True)
    if code:
        raise Stopped("review_requested", f"git could not merge in memory: {err}")
    tree = out.split("\n", 1)[0]
    message = f"Merge {merge.branch or merge.workspace_id} into {base}"
    return await git(
        merge.worktree, "commit-tree", tree, "-p", old, "-p", head, "-m", message, env=IDENTITY
    )


async def _checkout_of(path: Path, base: str) -> str | None:
    """Where the base is checked out. It must be clean: what somebody is editing there is not ours to touch."""
    listing = (await git(path, "worktree", "list", "--porcelain")).split("\n\n")
    for block in listing:
        lines = block.splitlines()
        if f"branch refs/heads/{base}" in lines:
            checkout = lines[0].removeprefix("worktree ")
            changed = await git(checkout, "status", "--porcelain", "--untracked-files=no")
            if changed:
                raise Stopped(
                    "review_requested",
                    f"{base} is checked out in {checkout} with uncommitted changes:"
                    " commit or stash them there, then ask again",
                )
            return checkout
    return None


async def _advance(merge: Merge, base: str, old: str, new: str) -> None:
    """Move the base from the value that was looked at, and the fence with it, in one transaction."""
    lines = [f"update refs/heads/{base} {new} {old}"]
    if merge.lease_token is not None:
        fence, token = await _fence(merge)
        if token > merge.lease_token:
            raise Stopped("review_requested", "another merge has taken over this repository since; ask again")
        mark = await git(merge.worktree, "hash-object", "-w", "--stdin", stdin=b"%d\n" % merge.lease_token)
        lines.append(f"update {FENCE} {mark} {fence}")
    script = "\n".join(["start", *lines, "prepare", "commit", ""])
    code, _, err = await git_result(merge.worktree, "update-ref", "--stdin", stdin=script.encode())
    if code:
        raise Stopped("review_requested", f"{base} moved while this was being merged; ask again ({err})")


async def _fence(merge: Merge) -> tuple[str, int]:
    code, blob, _ = await git_result(merge.worktree, "rev-parse", "--verify", "--quiet", FENCE)
    if code:
        return NOTHING, 0
    return blob, int(await git(merge.worktree, "cat-file", "blob", blob))


async def _follow(checkout: str, old: str, new: str) -> dict[str, Any]:
    """Bring the clean checkout of the base after it. Refuses as a whole rather than overwrite a file."""
    with trio.CancelScope(shield=True):
        code, _, err = await git_result(checkout, "read-tree", "-m", "-u", old, new)
    if code == 0:
        return {"reconciled": True}
    return {"reconciled": False, "message": f"{checkout} was left as it is: {err}"}


async def _nothing_to_land(merge: Merge, seen: Mapping[str, Any]) -> dict[str, Any]:
    head = str(seen["headSha"])
    left = await _tear_down(merge, str(seen["baseRef"]), head)
    return {"merged": False, "noop": True, **left}


async def _tear_down(merge: Merge, base: str, head: str) -> dict[str, Any]:
    """The owner of a kept branch goes on in its worktree; otherwise both go, if they hold nothing else."""
    if not merge.delete_branch:
        return {"status": "active", "worktreeRemoved": False, "branchDeleted": False}
    now = await state(merge.worktree, base)
    if now.get("dirty") is not False or now.get("headSha") != head:
        why = "the worktree changed while it was merged"
        return {"status": "active", "worktreeRemoved": False, "branchDeleted": False, "branchPreservedReason": why}
    removed = await _remove(merge)
    return {"status": "merged", "worktreeRemoved": removed, **await _drop_branch(merge, base)}


async def cleanup(merge: Merge) -> dict[str, Any]:
    """Remove a worktree that holds nothing unlanded, and its branch; otherwise say why not (2.22)."""
    facts = {"workspaceId": merge.workspace_id, "worktreePath": str(merge.worktree)}
    try:
        with trio.fail_after(CLEANUP_WITHIN):
            return _present({**facts, **await _cleanup(merge)})
    except (GitError, Stopped, OSError) as error:
        return _present({**facts, "removed": False, "error": str(error)})
    except trio.TooSlowError:
        return _present({**facts, "removed": False, "error": f"it took longer than {CLEANUP_WITHIN:.0f} s"})


async def _cleanup(merge: Merge) -> dict[str, Any]:
    if merge.worktree.is_symlink():
        raise Stopped("review_requested", f"{merge.worktree} is a symbolic link")
    base = await resolve_base(merge.repo_root, merge.base_ref, merge.base_sha, "main", "master")
    if merge.worktree.exists():
        await _assert_safe(merge, base)
    removed = await _remove(merge)
    if not removed:
        raise Stopped("review_requested", f"git left {merge.worktree} in place")
    return {"removed": True, **(await _drop_branch(merge, base) if merge.delete_branch else {})}


async def _assert_safe(merge: Merge, base: str | None) -> None:
    code, branch, _ = await git_result(merge.worktree, "symbolic-ref", "--quiet", "--short", "HEAD")
    if code or not branch.startswith("agent/"):
        raise Stopped("review_requested", f"{merge.worktree} is not on an agent's branch, so it is not relay's")
    if await git(merge.worktree, "status", "--porcelain"):
        raise Stopped("review_requested", f"{merge.worktree} has uncommitted changes")
    if base is None or await contained(merge.worktree, base, "HEAD") is not Landed.CONTAINED:
        raise Stopped("review_requested", f"{merge.worktree} has commits that are not in {base or 'any base'}")


async def _remove(merge: Merge) -> bool:
    """Whether the directory is gone; what git returns is no evidence."""
    await git_result(merge.repo_root, "worktree", "remove", "--force", "--", str(merge.worktree))
    if merge.worktree.exists():
        return False
    await git_result(merge.repo_root, "worktree", "prune")
    try:
        merge.worktree.parent.rmdir()
    except OSError:
        pass  # it holds other worktrees
    return True


async def _drop_branch(merge: Merge, base: str | None) -> dict[str, Any]:
    if merge.branch is None or not merge.branch.startswith("agent/"):
        return {"branchDeleted": False, "branchPreservedReason": "it is not an agent's branch"}
    tip = await git_result(merge.repo_root, "rev-parse", "--verify", "--quiet", f"refs/heads/{merge.branch}")
    if tip[0]:
        return {"branchDeleted": False}
    if base is None or await contained(merge.repo_root, base, tip[1]) is not Landed.CONTAINED:
        return {"branchDeleted": False, "branchPreservedReason": "it holds commits that have not landed"}
    code, _, err = await git_result(merge.repo_root, "update-ref", "-d", f"refs/heads/{merge.branch}", tip[1])
    return {"branchDeleted": True} if code == 0 else {"branchDeleted": False, "branchPreservedReason": err}


async def reconcile(merge: Merge) -> dict[str, Any]:
    """The owner of a worktree is gone: remove it when nothing is lost by that, else ask for a review (2.23)."""
    now = await state(merge.worktree, merge.base_ref, merge.base_sha)
    facts = {"workspaceId": merge.workspace_id, "removed": False, "gitState": now}
    if "missing" in now:
        return _present({**facts, "status": "cleaned"})
    empty = now.get("dirtyCount") == 0 and (now.get("ahead") == 0 or now.get("landed") is True)
    if "error" not in now and empty:
        done = await cleanup(merge)
        if done.get("removed"):
            return _present({**done, "status": "cleaned", "gitState": now})
    return _present({**facts, "status": "review_requested"})


def _present(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
