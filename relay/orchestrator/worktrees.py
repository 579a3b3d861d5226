"""Worktrees: where they lie, what their branches are called, and how they are made (2.10).

<baseDir>/.agent-relay/workspaces/<repository ≤ 60>-<10 hex of its root>/<workspace id ≤ 80>
agent/<owner ≤ 48>/<workspace id without sp_ ≤ 40>
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import attrs
import trio

from relay import wire

from ._git import git, git_result, is_safe_ref
from ._problems import Refused
from .gitstate import probe, resolve_base
from .making import add, existing
from .paths import inside
from .repolock import RepositoryLocks

__all__ = ["Request", "container_of", "resolve"]

LOOK_WITHIN = 60.0  # seconds (2.21)
MAKE_WITHIN = 120.0  # seconds for all that is done under the repository's lock
ATTEMPTS = 50  # names tried for a branch


@attrs.frozen(kw_only=True)
class Request:
    """What a spawn asks of its workspace. `owner` names the branch."""

    cwd: Path
    mode: wire.WorkspaceMode
    id: str
    owner: str
    scheduled: bool = False
    base_ref: str | None = None


def container_of(base_dir: Path, repo_root: str) -> Path:
    """The directory that holds all worktrees of one repository."""
    name = _safe(Path(repo_root).name, 60)
    digest = hashlib.sha1(repo_root.encode(), usedforsecurity=False).hexdigest()[:10]
    return base_dir / ".agent-relay" / "workspaces" / f"{name}-{digest}"


async def resolve(request: Request, base_dir: Path, locks: RepositoryLocks) -> wire.WorkspaceReport:
    """The workspace of a spawn; makes the worktree when it is to be isolated. Raises `Refused`."""
    if not inside(base_dir, request.cwd):
        raise Refused(f"{request.cwd} is not inside this host's base directory {base_dir}")
    with trio.move_on_after(LOOK_WITHIN) as look:
        found = await probe(request.cwd)
    if look.cancelled_caught:
        raise Refused(f"git took longer than {LOOK_WITHIN:.0f} s to look at {request.cwd}")
    if "error" in found:
        raise Refused(f"{request.cwd}: {found['error']}")
    if not _isolates(request, is_repository=found["isGitRepo"]):
        return wire.WorkspaceReport(
            id=request.id,
            mode=wire.WorkspaceMode.SHARED,
            requested_mode=request.mode,
            source_cwd=str(request.cwd),
            repo_root=found.get("repoRoot"),
        )
    if not found["isGitRepo"]:
        raise Refused(
            f"{request.cwd} is not in a git repository, so it cannot have a worktree of its own:"
            " run `git init` there, or ask for workspaceMode shared"
        )
    if "headSha" not in found:
        raise Refused(f"{found['repoRoot']} has no commit yet: make one, then spawn again")
    root = found["worktrees"][0]["path"]
    if not inside(base_dir, Path(root)):
        raise Refused(
            f"the repository {root} is not inside this host's base directory {base_dir}: move it, or set baseDir"
        )
    async with locks.hold(root):
        with trio.move_on_after(MAKE_WITHIN):
            return await _isolated(request, base_dir, root, found)
    raise Refused(
        f"git took longer than {MAKE_WITHIN:.0f} s in {root}: see what holds it up, then spawn again"
    )


def _isolates(request: Request, *, is_repository: bool) -> bool:
    if request.mode is wire.WorkspaceMode.INHERIT:
        return request.scheduled and is_repository
    return request.mode is wire.WorkspaceMode.ISOLATED


async def _isolated(
    request: Request, base_dir: Path, root: str, found: dict[str, object]
) -> wire.WorkspaceReport:
    base_ref, base_sha = await _base(request, root, found)
    path = container_of(base_dir, root) / _safe(request.id, 80)
    if path.is_symlink():
        raise Refused(f"{path} is a symbolic link; remove it")
    if not inside(base_dir, path):
        raise Refused(
            f"{path} leads out of this host's base directory {base_dir}: remove the link on its way"
        )
    there = await existing(root, path, base_sha)
    branch = there.branch if there else await _free_branch(root, request)
    if there is None:
        assert branch is not None
        await add(root, path, branch, base_sha)
    return wire.WorkspaceReport(
        id=request.id,
        mode=wire.WorkspaceMode.ISOLATED,
        requested_mode=request.mode,
        repo_root=root,
        source_cwd=str(request.cwd),
        worktree_path=str(path),
        branch=branch,
        base_ref=base_ref,
        base_sha=base_sha,
    )


async def _base(request: Request, root: str, found: dict[str, object]) -> tuple[str | None, str]:
    """The branch that the work is to return to, and the commit it starts from (2.10-8)."""
    asked = request.base_ref
    name = await _main_line(root, found.get("branch")) if asked is None else asked
    if name is None:
        return None, await git(request.cwd, "rev-parse", "--verify", "HEAD")
    if not is_safe_ref(name):
        raise Refused(f"{name!r} cannot be a branch: git would take it for something else; rename it")
    base = await resolve_base(root, name)
    if base is None:
        raise Refused(f"{root} has no branch {name}: name one that exists, or none for the current one")
    return base.name, base.tip


async def _main_line(root: str, branch: object) -> str | None:
    """The source's branch; when that is an agent's, the repository's main line instead."""
    if isinstance(branch, str) and not branch.startswith("agent/"):
        return branch
    if branch is None:
        return None
    _, remote, _ = await git_result(root, "symbolic-ref", "--quiet", "refs/remotes/origin/HEAD")
    line = await resolve_base(root, remote.removeprefix("refs/remotes/origin/"), "main", "master")
    if line is None:
        raise Refused(
            f"{root} is on the agent's branch {branch} and has no main line: switch it to another branch"
        )
    return line.name


async def _free_branch(root: str, request: Request) -> str:
    stem = f"agent/{_safe(request.owner, 48)}/{_safe(request.id.removeprefix('sp_'), 40)}"
    for number in range(1, ATTEMPTS + 1):
        name = stem if number == 1 else f"{stem}-{number}"
        code, _, _ = await git_result(root, "show-ref", "--verify", "--quiet", f"refs/heads/{name}")
        if code:
            return name
    raise Refused(
        f"{stem} and {ATTEMPTS - 1} names after it are taken: delete branches that are no longer needed"
    )


def _safe(name: str, most: int) -> str:
    """`name` as a path or branch segment: never empty, never an option, never special to git."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:most].strip("-.")
    while ".." in cleaned:
        cleaned = cleaned.replace("..", ".")
    return cleaned.removesuffix(".lock") or "manual"
