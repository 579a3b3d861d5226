"""What is true of a worktree: its state, whether its work has landed, what a merge would do, how it differs.

Nothing here changes anything, and nothing raises for a broken worktree: the answer says `missing` or `error`.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

from ._git import GitError, git, git_result

__all__ = ["Landed", "contained", "diff", "preview", "probe", "resolve_base", "state"]

SHAS_SHOWN = 20
PATCH_SHOWN = 200_000  # characters


class Landed(enum.Enum):
    """Whether everything of a tip is in a base already. For deletions unknown means no (2.12-4)."""

    CONTAINED = "contained"
    CARRIES_NEW = "carries-new"
    UNKNOWN = "unknown"


async def resolve_base(path: str | Path, *candidates: str | None) -> str | None:
    """The first candidate that names a commit."""
    for candidate in candidates:
        if candidate and not candidate.startswith("-"):
            code, _, _ = await git_result(path, "rev-parse", "--quiet", "--verify", f"{candidate}^{{commit}}")
            if code == 0:
                return candidate
    return None


async def contained(path: str | Path, base: str, tip: str) -> Landed:
    """Whether everything of `tip` is in `base`: by ancestry, by tree, by patch, by merging in memory."""
    try:
        if (await git_result(path, "merge-base", "--is-ancestor", tip, base))[0] == 0:
            return Landed.CONTAINED
        if (await git_result(path, "diff", "--quiet", base, tip, "--"))[0] == 0:
            return Landed.CONTAINED
        cherry = await git(path, "cherry", base, tip)
        if not any(line.startswith("+") for line in cherry.splitlines()):
            return Landed.CONTAINED
        code, out, _ = await git_result(path, "merge-tree", "--write-tree", base, tip)
        if code > 1:
            return Landed.UNKNOWN
        same = code == 0 and out.split("\n", 1)[0] == await git(path, "rev-parse", f"{base}^{{tree}}")
        return Landed.CONTAINED if same else Landed.CARRIES_NEW
    except GitError:
        return Landed.UNKNOWN


async def probe(path: str | Path) -> dict[str, Any]:
    """What kind of place this is, and the worktrees of its repository (2.9)."""
    found: dict[str, Any] = {"path": str(path), "isGitRepo": False, "detached": False, "worktrees": []}
    if not Path(path).is_dir():
        return {**found, "error": "it is not a directory"}
    code, root, _ = await git_result(path, "rev-parse", "--show-toplevel")
    if code:
        return found
    found |= {"isGitRepo": True, "repoRoot": root}
    code, branch, _ = await git_result(path, "symbolic-ref", "--quiet", "--short", "HEAD")
    found |= {"branch": branch} if code == 0 else {"detached": True}
    code, head, _ = await git_result(path, "rev-parse", "--verify", "--quiet", "HEAD")
    if code == 0:
        found["headSha"] = head
    found["dirty"] = bool((await git_result(path, "status", "--porcelain"))[1])
    found["worktrees"] = _worktrees((await git_result(path, "worktree", "list", "--porcelain"))[1])
    return found


def _worktrees(listing: str) -> list[dict[str, Any]]:
    trees = []
    for block in listing.split("\n\n"):
        tree: dict[str, Any] = {}
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
        if tree:
            trees.append(tree)
    return trees


async def state(path: str | Path, base_ref: str | None = None, base_sha: str | None = None) -> dict[str, Any]:
    """The state of a worktree against its base (2.12)."""
    if not Path(path).is_dir():
        return {"missing": True}
    try:
        return await _state(path, base_ref, base_sha)
    except GitError as error:
        return {"error": str(error)}


async def _state(path: str | Path, base_ref: str | None, base_sha: str | None) -> dict[str, Any]:
    changes = (await git(path, "status", "--porcelain")).splitlines()
    found: dict[str, Any] = {"dirty": bool(changes), "dirtyCount": len(changes)}
    code, branch, _ = await git_result(path, "symbolic-ref", "--quiet", "--short", "HEAD")
    if code == 0:
        found["branch"] = branch
    sha, at, message = (await git(path, "log", "-1", "--format=%H%x00%ct%x00%s")).split("\0")
    found["headSha"] = sha
    found["lastCommit"] = {"sha": sha, "message": message, "at": int(at) * 1000}
    base = await resolve_base(path, base_ref, base_sha)
    if base is None:
        return {**found, "error": f"neither {base_ref} nor {base_sha} names a commit"}
    counts = await git(path, "rev-list", "--left-right", "--count", f"{base}...HEAD")
    behind, ahead = (int(count) for count in counts.split())
    found |= {"baseRef": base, "ahead": ahead, "behind": behind}
    if ahead:
        found |= await _unmerged(path, base)
    return found


async def _unmerged(path: str | Path, base: str) -> dict[str, Any]:
    if await contained(path, base, "HEAD") is Landed.CONTAINED:
        return {"unmergedAhead": 0, "landed": True, "landedSha": await git(path, "rev-parse", base)}
    new = [line[2:] for line in (await git(path, "cherry", base, "HEAD")).splitlines() if line.startswith("+")]
    return {"unmergedAhead": len(new), "unmergedShas": [sha[:8] for sha in new[:SHAS_SHOWN]], "landed": False}


async def preview(
    path: str | Path, base_ref: str | None, base_sha: str | None, strategy: str = "auto"
) -> dict[str, Any]:
    """What a merge would do (2.13). Order of the verdict: missing, error, dirty, nothing to do, conflict."""
    now = await state(path, base_ref, base_sha)
    if "missing" in now:
        return {"strategy": "rebase-ff", **now}
    remotes = (await git_result(path, "remote"))[1].split()
    verdict = {
        "strategy": "pr" if strategy == "pr" else "rebase-ff",
        "hasRemote": "origin" in remotes,
        "ghAvailable": False,
        **{name: value for name, value in now.items() if name not in {"lastCommit", "branch"}},
    }
    if "error" in now:
        return verdict
    if now["dirty"]:
        return {**verdict, "reason": f"{now['dirtyCount']} uncommitted changes: commit them first"}
    if now.get("unmergedAhead", 0) == 0:
        return {**verdict, "noop": True, "reason": "there is nothing that is not in the base already"}
    code, _, _ = await git_result(path, "merge-tree", "--write-tree", "--name-only", now["baseRef"], "HEAD")
    if code in (0, 1):
        verdict |= {"conflict": code == 1, "cleanFastForward": code == 0 and now["behind"] == 0}
    return verdict


async def diff(
    path: str | Path, base_ref: str | None, base_sha: str | None, *, patch: bool = True
) -> dict[str, Any]:
    """How the worktree's branch differs from its base (2.12-6)."""
    now = await state(path, base_ref, base_sha)
    if "missing" in now or "error" in now:
        return now
    span = f"{now['baseRef']}...HEAD"
    files = []
    for line in (await git(path, "diff", "--numstat", "-z", "--no-renames", span, "--")).split("\0"):
        if line:
            added, removed, name = line.split("\t", 2)
            binary = added == "-"
            counts = {} if binary else {"additions": int(added), "deletions": int(removed)}
            files.append({"path": name, "binary": binary, **counts})
    answer = {"files": files, **{key: now[key] for key in ("baseRef", "ahead", "dirtyCount")}}
    if patch:
        text = await git(path, "diff", "--no-color", "--no-ext-diff", span, "--")
        answer |= {"patch": text[:PATCH_SHOWN], "truncated": len(text) > PATCH_SHOWN}
    return answer
