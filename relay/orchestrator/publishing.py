"""The base at its remote: fetching it before a landing, pushing exactly what landed, and what follows when another
push was first (2.15 steps 2, 4, 12; 2.20).

A base without a remote that it follows is never pushed; neither is any while `AGENT_RELAY_WORKSPACE_PUSH` is 0.
"""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import trio

from ._git import GitError, git, git_result, is_safe_ref, succeeds

__all__ = ["Upstream", "fetched", "push", "upstream_of"]

FETCH_WITHIN = 60.0  # seconds (2.21)
PUSH_WITHIN = 60.0


@attrs.frozen
class Upstream:
    """What a base branch follows: `branch` of `remote`, last seen at `tip`."""

    remote: str
    branch: str
    tip: str


async def upstream_of(path: str | Path, base: str) -> Upstream | None:
    """What the base follows; None without a remote, and when that was never fetched."""
    _, remote, _ = await git_result(path, "config", f"branch.{base}.remote")
    _, merge, _ = await git_result(path, "config", f"branch.{base}.merge")
    branch = merge.removeprefix("refs/heads/")
    if not is_safe_ref(remote) or not is_safe_ref(branch):
        return None
    code, tip, _ = await git_result(
        path, "rev-parse", "--quiet", "--verify", f"{base}@{{upstream}}^{{commit}}"
    )
    return None if code else Upstream(remote, branch, tip)


def is_pushing() -> bool:
    return os.environ.get("AGENT_RELAY_WORKSPACE_PUSH") != "0"


async def fetched(path: str | Path, base: str) -> Upstream | None:
    """As `upstream_of`, after a fetch. Raises `GitError` when the remote does not answer, or not in time."""
    known = await upstream_of(path, base)
    if known is None or not is_pushing():
        return None
    with trio.move_on_after(FETCH_WITHIN) as limit:
        await git(path, "fetch", "--quiet", "--no-tags", "--", known.remote, known.branch)
    if limit.cancelled_caught:
        raise GitError(("fetch",), -1, f"{known.remote} did not answer within {FETCH_WITHIN:.0f} s")
    return await upstream_of(path, base)


async def push(path: str | Path, base: str, upstream: Upstream, tip: str) -> str | None:
    """Publish exactly `tip`, once more when the remote has moved and `tip` still continues it. None when it is
    published, also when only the answer was lost, otherwise why not."""
    said = await _push(path, upstream, tip)
    if said is None:
        return None
    try:
        moved = await fetched(path, base)
        if moved and await succeeds(path, "merge-base", "--is-ancestor", tip, moved.tip):
            return None
        if moved and await succeeds(path, "merge-base", "--is-ancestor", moved.tip, tip):
            return await _push(path, moved, tip)
    except GitError as error:
        return str(error)
    return said


async def _push(path: str | Path, upstream: Upstream, tip: str) -> str | None:
    with trio.move_on_after(PUSH_WITHIN):
        refspec = f"{tip}:refs/heads/{upstream.branch}"
        code, _, said = await git_result(path, "push", "--quiet", "--", upstream.remote, refspec)
        return (said or f"git push failed ({code})") if code else None
    return f"{upstream.remote} did not answer within {PUSH_WITHIN:.0f} s"
