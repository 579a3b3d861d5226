"""What is true of a worktree: its state, what a merge would do, how it differs from its base (2.9, 2.12, 2.13).

Nothing here changes anything (only a preview may fetch), and nothing raises for a broken worktree: the answer says
`missing` or `error`.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import attrs
import trio

from ._git import GitError, git, git_result
from .landed import Landed, contained, unmerged
from .publishing import fetched, upstream_of

__all__ = [
    "Base",
    "branch_of",
    "diff",
    "preview",
    "probe",
    "resolve_base",
    "state",
    "unfinished",
    "worktrees",
]

Answer = dict[str, Any]

SHAS_SHOWN = 20
PATCH_SHOWN = 200_000  # characters
FETCH_WITHIN = 4.0  # seconds of a preview
UNFINISHED = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}
"""What git keeps while somebody is in the middle of something, and what that is."""


def _never_raising(ask: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
    @wraps(ask)
    async def answer(path: str | Path, *arguments: Any, **options: Any) -> Answer:
        if not Path(path).is_dir():
            return {"missing": True}
        try:
            return await ask(path, *arguments, **options)
        except (GitError, OSError) as error:
            return {"error": str(error)}

    return answer


@attrs.frozen
class Base:
    """What work is compared to: its name, and the commit that is meant. Git itself would take a tag of that name."""

    name: str
    tip: str


async def resolve_base(path: str | Path, *candidates: str | None) -> Base | None:
    """The first candidate that names a commit; a branch goes before a tag of the same name."""
    for candidate in candidates:
        if candidate and not candidate.startswith("-"):
            for name in (f"refs/heads/{candidate}", candidate):
                code, tip, _ = await git_result(
                    path, "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}"
                )
                if code == 0:
                    return Base(candidate, tip)
    return None


async def branch_of(path: str | Path) -> str | None:
    """The branch that is checked out; None when none is. Git's own short form is another where a tag has that name."""
    _, ref, _ = await git_result(path, "symbolic-ref", "--quiet", "HEAD")
    return ref.removeprefix("refs/heads/") or None


async def unfinished(path: str | Path) -> str | None:
    """What somebody is in the middle of there; half of it is no result, also when nothing is uncommitted."""
    asked = [part for name in UNFINISHED for part in ("--git-path", name)]
    places = (await git(path, "rev-parse", *asked)).splitlines()
    there = (
        what for what, place in zip(UNFINISHED.values(), places, strict=True) if Path(path, place).exists()
    )
    return next(there, None)


async def probe(path: str | Path) -> Answer:
    """What kind of place this is, and the worktrees of its repository (2.9)."""
    found: Answer = {"path": str(path), "isGitRepo": False, "detached": False, "worktrees": []}
    if not Path(path).is_dir():
        return {**found, "error": "it is not a directory"}
    code, root, said = await git_result(path, "rev-parse", "--show-toplevel")
    if code:
        return {**found, "error": said} if "dubious ownership" in said else found
    found |= {"isGitRepo": True, "repoRoot": root}
    branch = await branch_of(path)
    found |= {"branch": branch} if branch else {"detached": True}
    code, head, _ = await git_result(path, "rev-parse", "--verify", "--quiet", "HEAD")
    if code == 0:
        found["headSha"] = head
    found["dirty"] = bool((await git_result(path, "status", "--porcelain", "--ignore-submodules=none"))[1])
    found["worktrees"] = await worktrees(path)
    return found


async def worktrees(path: str | Path) -> list[Answer]:
    """The worktrees of the repository; its main one comes first."""
    listing = (await git_result(path, "worktree", "list", "--porcelain"))[1]
    return [tree for block in listing.split("\n\n") if (tree := _worktree(block))]


def _worktree(block: str) -> Answer:
    tree: Answer = {}
    for line in block.splitlines():
        name, _, value = line.partition(" ")
        if name == "worktree":
            tree["path"] = value
        elif name == "HEAD":
            tree["headSha"] = value
        elif name == "branch":
            tree["branch"] = value.removeprefix("refs/heads/")
        elif name in {"bare", "detached", "prunable", "locked"}:
            tree[name] = True
            if value:
                tree["reason"] = value
    return tree


@_never_raising
async def state(path: str | Path, base_ref: str | None = None, base_sha: str | None = None) -> Answer:
    """The state of a worktree against its base (2.12)."""
    return await _state(path, base_ref, base_sha)


async def _state(path: str | Path, base_ref: str | None, base_sha: str | None) -> Answer:
    changes = (await git(path, "status", "--porcelain", "--ignore-submodules=none")).splitlines()
    found: Answer = {"dirty": bool(changes), "dirtyCount": len(changes)}
    if branch := await branch_of(path):
        found["branch"] = branch
    sha, at, message = (await git(path, "log", "-1", "--format=%H%x00%ct%x00%s")).split("\0")
    found["headSha"] = sha
    found["lastCommit"] = {"sha": sha, "message": message, "at": int(at) * 1000}
    base = await resolve_base(path, base_ref, base_sha)
    if base is None:
        return {**found, "error": _no_base(base_ref, base_sha)}
    counts = await git(path, "rev-list", "--left-right", "--count", f"{base.tip}...HEAD")
    behind, ahead = (int(count) for count in counts.split())
    found |= {"baseRef": base.name, "comparedTo": base.tip, "ahead": ahead, "behind": behind}
    if ahead:
        found |= await _news(path, base)
    return found


def _no_base(*candidates: str | None) -> str:
    named = " or ".join(name for name in candidates if name)
    if not named:
        return "there is nothing to compare it with: give baseRef, the branch that it is to be merged into"
    return f"the repository has no branch or commit {named}: make the branch again, or name one that exists"


async def _news(path: str | Path, base: Base) -> Answer:
    """What of the branch is not in the base yet, nor in what the base follows."""
    upstream = await upstream_of(path, base.name)
    for place in (base.tip, upstream.tip if upstream else None):
        if place and await contained(path, place, "HEAD") is Landed.CONTAINED:
            return {"unmergedAhead": 0, "landed": True, "landedSha": place}
    new = await unmerged(path, base.tip, "HEAD")
    return {
        "unmergedAhead": max(1, len(new)),
        "unmergedShas": [sha[:8] for sha in new[:SHAS_SHOWN]],
        "landed": False,
    }


@_never_raising
async def preview(
    path: str | Path,
    base_ref: str | None,
    base_sha: str | None,
    strategy: str = "auto",
    *,
    fetch: bool = False,
) -> Answer:
    """What a merge would do (2.13). Order of the verdict: missing, error, dirty, nothing to do, conflict."""
    remotes = (await git_result(path, "remote"))[1].split()
    facts: Answer = {"hasRemote": "origin" in remotes, "ghAvailable": shutil.which("gh") is not None}
    if fetch and base_ref:
        with trio.move_on_after(FETCH_WITHIN):
            await fetched(path, base_ref)
    now = await _state(path, base_ref, base_sha)
    verdict: Answer = {
        "strategy": await _strategy(path, strategy, base_ref, facts),
        **facts,
        **{name: value for name, value in now.items() if name not in {"lastCommit", "branch"}},
    }
    if "error" in now:
        return verdict
    if now["dirty"]:
        return {**verdict, "reason": f"{now['dirtyCount']} uncommitted changes: commit them first"}
    if not now["ahead"] or now.get("landed"):
        return {**verdict, "noop": True, "reason": "there is nothing that is not in the base already"}
    code, _, _ = await git_result(
        path, "merge-tree", "--write-tree", "--name-only", now["comparedTo"], "HEAD"
    )
    if code in (0, 1):
        verdict |= {"conflict": code == 1, "cleanFastForward": code == 0 and now["behind"] == 0}
    return verdict


async def _strategy(path: str | Path, asked: str, base_ref: str | None, facts: Answer) -> str:
    """`auto` is `pr` where there is a remote, the hosting service's client, and a base branch (2.13-2)."""
    if asked != "auto":
        return asked
    if not (facts["hasRemote"] and facts["ghAvailable"] and base_ref):
        return "rebase-ff"
    code, _, _ = await git_result(path, "show-ref", "--verify", "--quiet", f"refs/heads/{base_ref}")
    return "rebase-ff" if code else "pr"


@_never_raising
async def diff(path: str | Path, base_ref: str | None, base_sha: str | None, *, patch: bool = True) -> Answer:
    """How the worktree's branch differs from its base (2.12-6)."""
    now = await _state(path, base_ref, base_sha)
    if "error" in now:
        return {"error": now["error"]}
    span = f"{now['comparedTo']}...HEAD"
    listed = (await git(path, "diff", "--numstat", "-z", "--no-renames", span, "--")).split("\0")
    answer = {
        "files": [_file(line) for line in listed if line],
        **{key: now[key] for key in ("baseRef", "ahead", "dirtyCount")},
    }
    if patch:
        options = ("--no-color", "--no-ext-diff", "--no-textconv")
        _, text, _ = await git_result(path, "diff", *options, span, "--", largest=4 * PATCH_SHOWN + 4)
        answer |= {"patch": text[:PATCH_SHOWN], "truncated": len(text) > PATCH_SHOWN}
    return answer


def _file(line: str) -> Answer:
    added, removed, name = line.split("\t", 2)
    if added == "-":
        return {"path": name, "binary": True}
    return {"path": name, "binary": False, "additions": int(added), "deletions": int(removed)}
