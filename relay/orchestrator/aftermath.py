"""What follows a landing: checkouts of the base, the remote, worktree and branch (2.15-11 to 13, 2.20).

The base has moved, and that is a fact. Trouble is reported and undoes nothing, except that a base which its remote does
not take goes back. The merge's own time limit does not stop any of this; it has one for itself.
"""

from __future__ import annotations

from typing import Any

import attrs
import trio

from . import fence
from ._git import GitError, git, succeeds
from .basesync import Checkout, follow
from .publishing import Upstream, fetched, push
from .teardown import Merge, Stopped, tear_down

__all__ = ["is_in", "landed"]

FOLLOW_WITHIN = 600.0  # seconds


async def is_in(merge: Merge, commit: str, tip: str) -> bool:
    """Whether one commit is another, or behind it. Raises `GitError`."""
    return await succeeds(merge.place, "merge-base", "--is-ancestor", commit, tip)


async def landed(
    merge: Merge, base: str, mark: fence.Fence, checkouts: list[Checkout], upstream: Upstream | None
) -> dict[str, Any]:
    """The result of a merge whose landing `mark` tells of, when all that follows is done. Raises `Stopped` when the
    base went back."""
    assert mark.landed is not None
    old, new, head = mark.landed
    facts: dict[str, Any] = {
        "merged": True,
        "mergedSha": new,
        "baseSha": new,
        "previousBaseSha": old,
        "pushed": False,
        "status": "active",
        "worktreeRemoved": False,
        "branchDeleted": False,
    }
    try:
        with trio.fail_after(FOLLOW_WITHIN):
            facts["landedCommitShas"] = (
                await git(merge.place, "rev-list", "--reverse", f"{old}..{head}")
            ).split()
            facts["subject"] = await git(merge.place, "log", "-1", "--format=%s", head)
            facts["baseWorktreeSync"] = await follow(checkouts, old, new)
            facts["pushed"] = await _published(merge, base, mark, checkouts, upstream)
            facts |= await tear_down(merge, base, head)
    except (GitError, OSError) as error:
        facts["branchPreservedReason"] = f"after the landing: {error}"
    except trio.TooSlowError:
        facts["branchPreservedReason"] = f"after the landing git took longer than {FOLLOW_WITHIN:.0f} s"
    return facts


async def _published(
    merge: Merge, base: str, mark: fence.Fence, checkouts: list[Checkout], upstream: Upstream | None
) -> bool:
    """Whether the remote has it, too. Raises `Stopped` when it is to have it and does not take it."""
    assert mark.landed is not None
    new = mark.landed[1]
    if upstream is None:
        return False
    if not await is_in(merge, new, upstream.tip):
        refused = await push(merge.place, base, upstream, new)
        if refused is not None:
            await _go_back(merge, base, mark, checkouts, refused)
    return True


async def _go_back(
    merge: Merge, base: str, mark: fence.Fence, checkouts: list[Checkout], refused: str
) -> None:
    """The remote did not take it: the base returns to the remote's tip, or to where it was if it held more (2.20)."""
    assert mark.landed is not None
    old, new, _ = mark.landed
    try:
        upstream = await fetched(merge.place, base)
    except GitError:
        upstream = None
    back = upstream.tip if upstream and await is_in(merge, old, upstream.tip) else old
    try:
        await fence.move(merge.place, mark, attrs.evolve(mark, landed=None), (base, back, new))
    except fence.FenceMoved as moved:
        raise Stopped(
            "conflict", f"the push was refused ({refused}), and {base} moved on meanwhile: {moved}"
        ) from moved
    synced = await follow(checkouts, new, back)
    why = f"the push was refused, nothing has landed; ask again ({refused})"
    raise Stopped("review_requested", why, baseWorktreeSync=synced)
