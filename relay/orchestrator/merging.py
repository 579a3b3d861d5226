"""Landing a workspace: `rebase-ff` (2.14, 2.15, 3.6).

The agent's commits stay as they are. The base is fast-forwarded to them, or, when it has moved on, receives a merge
commit that is made in memory. Nothing is checked out to find out whether it fits.

    claim      the fence takes this lease's token; an older holder is stopped, a repeated command finds its own work
    look       missing, broken, dirty, nothing to land, conflicting: each ends here, and nothing has changed
    compose    the commit that the base is to become
    advance    base and fence move in one git transaction, from the values that were looked at: the point of no return
    follow     checkouts of the base, the remote, worktree and branch (`aftermath`)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs
import trio

from . import fence
from ._git import GitError, git, git_result, is_safe_ref
from .aftermath import is_in, landed
from .basesync import checkouts_of, hindrance
from .gitstate import branch_of, preview, unfinished
from .publishing import Upstream, fetched, push
from .teardown import Merge, Stopped, present, tear_down

__all__ = ["land"]

MERGE_WITHIN = 2_400.0  # seconds: 40 minutes in all (2.21)
ADVANCE_WITHIN = 60.0  # seconds for the point of no return, which the limit above does not stop
NAMES_SHOWN = 10
IDENTITY = {
    "GIT_AUTHOR_NAME": "relay",
    "GIT_AUTHOR_EMAIL": "relay@localhost",
    "GIT_COMMITTER_NAME": "relay",
    "GIT_COMMITTER_EMAIL": "relay@localhost",
}


async def land(merge: Merge) -> dict[str, Any]:
    """The result of the merge (12.1). With `error` no work landed, and the command has failed."""
    facts = {
        "workspaceId": merge.workspace_id,
        "strategy": "rebase-ff",
        "branch": merge.branch,
        "baseRef": merge.base_ref,
    }
    stopped: dict[str, Any] = {"merged": False, "status": "review_requested"}
    try:
        with trio.fail_after(MERGE_WITHIN):
            return present({**facts, **await _land(merge)})
    except Stopped as stop:
        return present({**facts, **stopped, "status": stop.status, "error": str(stop), **stop.facts})
    except fence.FenceMoved as moved:
        why = f"{merge.base_ref} could not be moved, nothing has landed: {_what_to_do(str(moved))} ({moved})"
        return present({**facts, **stopped, "error": why})
    except fence.FenceBroken as broken:
        remedy = f"git -C {merge.repo_root} update-ref -d {fence.REFERENCE}"
        why = f"what relay noted of the last merge there cannot be read ({broken}): see in `git log` that it is whole, run `{remedy}`, then ask again"
        return present({**facts, **stopped, "error": why})
    except (GitError, OSError) as error:
        return present({**facts, **stopped, "error": str(error)})
    except trio.TooSlowError:
        why = f"git took too long in {merge.repo_root}: see what it waits for there, then ask again"
        return present({**facts, **stopped, "error": why})


def _what_to_do(said: str) -> str:
    if ".lock'" in said:
        return (
            "if no git runs in that repository any more, remove the lock that is named here, then ask again"
        )
    return "it moved while this was being merged; ask again"


async def _land(merge: Merge) -> dict[str, Any]:
    base = _checked(merge)
    await _belongs(merge)
    if not merge.worktree.is_dir():
        return await _gone(merge, base)
    mark = await _claim(merge)
    if mark.landed is not None:
        return await _landed_before(merge, base, mark)
    upstream = await fetched(merge.worktree, base)
    seen = await _looked(merge, base)
    old = await _base_tip(merge, base)
    if seen.get("noop"):
        return await _nothing_to_land(merge, base, old, upstream)
    onto = await _integration_base(merge, base, old, upstream)
    new = await _composed(merge, base, onto, str(seen["headSha"]))
    checkouts = await checkouts_of(merge.worktree, base)
    for checkout in checkouts:
        if reason := await hindrance(checkout, old, new):
            raise Stopped("review_requested", f"{base} is checked out: {reason}")
    with trio.CancelScope(shield=True):
        after = attrs.evolve(mark, landed=(old, new, str(seen["headSha"])))
        with trio.fail_after(ADVANCE_WITHIN):
            mark = await fence.move(merge.worktree, mark, after, (base, new, old))
        facts = await landed(merge, base, mark, checkouts, upstream)
    return facts  # noqa: RET504 - a scope may end a block early, for all that mypy knows


async def _gone(merge: Merge, base: str) -> dict[str, Any]:
    """The worktree is not there. This very command may have removed it, and had no time to say so."""
    known = await fence.read(merge.repo_root)
    if merge.command_id and known.command_id == merge.command_id:
        if known.landed is not None:
            return await _landed_before(merge, base, known)
        done = await tear_down(merge, base, "")
        if done["branchDeleted"]:
            return {"merged": False, "noop": True, **done}
    branch = merge.branch or "its branch"
    why = f"the worktree {merge.worktree} is not there any more: what {branch} holds can be merged by hand"
    raise Stopped("cleaned", why)


async def _landed_before(merge: Merge, base: str, mark: fence.Fence) -> dict[str, Any]:
    """An earlier life of the daemon landed it and did not come to tell: what is still open is done now."""
    assert mark.landed is not None
    try:
        upstream = await fetched(merge.place, base)
    except GitError:
        upstream = None  # it is published by the next merge
    tip, new = await _base_tip(merge, base), mark.landed[1]
    if not await is_in(merge, new, tip):
        why = f"this landed on {base} as {new[:10]} and was taken back since: ask again to land it once more"
        raise Stopped("review_requested", why)
    still_there = tip == new
    checkouts = await checkouts_of(merge.place, base) if still_there else []
    return await landed(merge, base, mark, checkouts, upstream)


def _checked(merge: Merge) -> str:
    if merge.strategy not in {"auto", "rebase-ff"}:
        raise Stopped(
            "review_requested", f"this host cannot merge by {merge.strategy!r}: ask for strategy rebase-ff"
        )
    if merge.base_ref is None:
        raise Stopped(
            "review_requested",
            "the workspace has no base branch to merge into, because its source was not on a branch when it was made:"
            f" merge {merge.branch or 'its branch'} by hand, or spawn from a branch",
        )
    for name in (merge.base_ref, merge.branch):
        if name is not None and not is_safe_ref(name):
            raise Stopped("review_requested", f"{name!r} cannot be the name of a branch: rename it")
    if merge.worktree.is_symlink():
        raise Stopped(
            "review_requested", f"{merge.worktree} is a symbolic link, and only real worktrees are merged"
        )
    return merge.base_ref


async def _belongs(merge: Merge) -> None:
    """A lease is for one repository, so the worktree must be one of it."""
    asked = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    ours, theirs = await git(merge.repo_root, *asked), await git(merge.place, *asked)
    if os.path.realpath(ours) != os.path.realpath(theirs):
        raise Stopped(
            "review_requested",
            f"{merge.worktree} belongs to the repository {theirs}, not to {merge.repo_root}",
        )


async def _claim(merge: Merge) -> fence.Fence:
    """Put this lease's token into the fence, unless this very command has been here before."""
    known = await fence.read(merge.worktree)
    if merge.lease_token is None:
        mine = bool(merge.command_id) and known.command_id == merge.command_id
        return known if mine else attrs.evolve(known, command_id=merge.command_id, landed=None)
    if known.token > merge.lease_token:
        raise Stopped(
            "review_requested", "the repository's merge lease went to another merge meanwhile; ask again"
        )
    if known.token == merge.lease_token:
        if known.command_id != merge.command_id:
            raise Stopped("review_requested", "another merge has the same lease; ask again")
        return known
    return await fence.move(merge.worktree, known, fence.Fence(merge.lease_token, merge.command_id))


async def _looked(merge: Merge, base: str) -> Mapping[str, Any]:
    seen = await preview(merge.worktree, base, None, merge.strategy)
    if "error" in seen:
        raise Stopped("review_requested", seen["error"])
    if merge.expected_head not in {None, seen["headSha"]}:
        raise Stopped(
            "review_requested",
            f"the branch is at {seen['headSha'][:10]}, not where the merge was asked for: look at what came, ask again",
        )
    if seen["dirty"]:
        raise Stopped("review_requested", f"{merge.worktree}: {seen['reason']}")
    if seen["strategy"] == "pr":
        raise Stopped("review_requested", "this host cannot open pull requests: ask for strategy rebase-ff")
    await _all_there(merge, str(seen["headSha"]))
    return seen


async def _all_there(merge: Merge, head: str) -> None:
    """Half of a rebase, or a commit that somebody only looks at, is not the work that is to be merged."""
    if what := await unfinished(merge.worktree):
        why = f"{merge.worktree} is in the middle of a {what}: finish or abort it, then merge again"
        raise Stopped("review_requested", why)
    if merge.branch is None or await branch_of(merge.worktree) is not None:
        return
    code, tip, _ = await git_result(
        merge.worktree, "rev-parse", "--verify", "--quiet", f"refs/heads/{merge.branch}"
    )
    if code == 0 and tip != head:
        why = f"{merge.worktree} is on no branch, and {merge.branch} is elsewhere: run `git switch {merge.branch}` there, then merge again"
        raise Stopped("review_requested", why)


async def _base_tip(merge: Merge, base: str) -> str:
    code, tip, _ = await git_result(merge.place, "rev-parse", "--verify", "--quiet", f"refs/heads/{base}")
    if code:
        raise Stopped(
            "review_requested", f"{base!r} is not a branch of {merge.repo_root}: merge into a local branch"
        )
    return tip


async def _integration_base(merge: Merge, base: str, old: str, upstream: Upstream | None) -> str:
    """What the work must fit onto: the base, or its upstream when that has more (2.15-4 and 5)."""
    if upstream is None or await is_in(merge, upstream.tip, old):
        return old
    if not await is_in(merge, old, upstream.tip):
        why = (
            f"{base} and {upstream.remote}/{upstream.branch} have diverged: reconcile them, then merge again"
        )
        raise Stopped("review_requested", why)
    if not await is_in(merge, upstream.tip, "HEAD"):
        why = f"{upstream.remote}/{upstream.branch} has commits that the branch lacks: rebase on it, then merge again"
        raise Stopped("review_requested", why)
    return upstream.tip


async def _composed(merge: Merge, base: str, onto: str, head: str) -> str:
    """The commit that the base becomes: the branch's, or a merge of both made without a checkout."""
    if await is_in(merge, onto, head):
        return head
    code, out, said = await git_result(
        merge.worktree, "merge-tree", "--write-tree", "--name-only", onto, head
    )
    if code == 1:
        names = sorted(set(out.split("\n\n")[0].splitlines()[1:]))
        why = (
            f"it conflicts with {base} in {', '.join(names[:NAMES_SHOWN])}: rebase on {base}, then ask again"
        )
        raise Stopped("conflict", why, conflict=True, conflictFiles=names)
    if code:
        raise Stopped("review_requested", f"git could not merge in memory: {said}")
    tree = out.split("\n", 1)[0]
    message = f"Merge {merge.branch or merge.workspace_id} into {base}"
    return await git(merge.worktree, "commit-tree", tree, "-p", onto, "-p", head, "-m", message, env=IDENTITY)


async def _nothing_to_land(merge: Merge, base: str, old: str, upstream: Upstream | None) -> dict[str, Any]:
    """All of it is in the base already (2.18); a base that was never pushed is."""
    facts: dict[str, Any] = {"merged": False, "noop": True}
    if upstream is not None and not await is_in(merge, old, upstream.tip):
        if not await is_in(merge, upstream.tip, old):
            raise Stopped(
                "conflict", f"{base} and {upstream.remote}/{upstream.branch} have diverged: reconcile them"
            )
        refused = await push(merge.worktree, base, upstream, old)
        if refused is not None:
            raise Stopped("review_requested", f"{base} has commits that its remote refused: {refused}")
        facts["pushed"] = True
    head = await git(merge.worktree, "rev-parse", "HEAD")
    return facts | await tear_down(merge, base, head)
