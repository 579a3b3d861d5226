"""Where agents get to work: worktrees are made completely or not at all, and never outside the base directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from checkouts import Repo

from relay import wire
from relay.orchestrator import Refused
from relay.orchestrator.repolock import RepositoryLocks
from relay.orchestrator.worktrees import Request, resolve

ISOLATED, SHARED, INHERIT = wire.WorkspaceMode.ISOLATED, wire.WorkspaceMode.SHARED, wire.WorkspaceMode.INHERIT


def request(cwd: Path, mode: wire.WorkspaceMode = ISOLATED, **given: object) -> Request:
    return Request(**{"cwd": cwd, "mode": mode, "id": "sp_1", "owner": "docs", **given})


async def made(base_dir: Path, asked: Request) -> wire.WorkspaceReport:
    return await resolve(asked, base_dir, RepositoryLocks())


def leftovers(repo: Repo, base_dir: Path) -> list[str]:
    listed = repo.git("worktree", "list", "--porcelain").count("worktree ") - 1
    branches = repo.git("for-each-ref", "--format=%(refname)", "refs/heads/agent")
    files = [str(path) for path in (base_dir / ".agent-relay").rglob("*") if path.is_file()]
    return [*files, *branches.splitlines(), *(["worktree"] * listed)]


@pytest.mark.spec("R-101")
async def test_a_scheduled_spawn_gets_a_worktree_at_the_sources_commit(repo: Repo, base_dir: Path):
    workspace = await made(base_dir, request(repo.path, INHERIT, scheduled=True))
    assert workspace.mode is ISOLATED
    assert workspace.requested_mode is INHERIT
    assert (workspace.branch, workspace.base_ref, workspace.base_sha) == ("agent/docs/1", "main", repo.head)
    assert workspace.repo_root == str(repo.path)
    worktree = Repo(Path(workspace.worktree_path or ""))
    assert worktree.path.parent.parent == base_dir / ".agent-relay" / "workspaces"
    assert worktree.path.name == "sp_1"
    assert worktree.head == repo.head
    assert worktree.git("symbolic-ref", "--short", "HEAD") == "agent/docs/1"


@pytest.mark.spec("R-102")
async def test_isolation_outside_a_repository_is_an_error_that_says_what_to_do(base_dir: Path):
    with pytest.raises(Refused, match="git init"):
        await made(base_dir, request(base_dir))


@pytest.mark.spec("R-103")
async def test_inherit_without_a_policy_shares_the_directory(repo: Repo, base_dir: Path):
    workspace = await made(base_dir, request(repo.path, INHERIT))
    assert (workspace.mode, workspace.worktree_path, workspace.source_cwd) == (SHARED, None, str(repo.path))


@pytest.mark.spec("R-104")
async def test_an_agents_branch_is_never_a_base(repo: Repo, base_dir: Path):
    repo.git("switch", "-qc", "agent/x/1")
    repo.commit("more", "more\n")
    workspace = await made(base_dir, request(repo.path))
    assert (workspace.base_ref, workspace.base_sha) == ("main", repo.tip("main"))


@pytest.mark.spec("R-105")
async def test_a_branch_name_that_is_taken_gets_a_number(repo: Repo, base_dir: Path):
    repo.git("branch", "agent/docs/1")
    assert (await made(base_dir, request(repo.path))).branch == "agent/docs/1-2"


async def test_a_spawn_out_of_a_worktree_belongs_to_the_same_repository(repo: Repo, base_dir: Path):
    first = await made(base_dir, request(repo.path))
    second = await made(base_dir, request(Path(first.worktree_path or ""), id="sp_2"))
    assert second.repo_root == first.repo_root == str(repo.path)
    assert Path(second.worktree_path or "").parent == Path(first.worktree_path or "").parent


async def test_a_repeated_spawn_finds_its_worktree(repo: Repo, base_dir: Path):
    first = await made(base_dir, request(repo.path))
    assert await made(base_dir, request(repo.path)) == first


@pytest.mark.parametrize(
    "owner", ["--upload-pack=touch evil", "../../x", "a b~c^:?*[\\", ".lock", "", "ä/ö", "x.lock"]
)
async def test_any_label_becomes_a_branch_that_git_takes(repo: Repo, base_dir: Path, owner: str):
    workspace = await made(base_dir, request(repo.path, owner=owner, id=owner or "-"))
    assert (workspace.branch or "").startswith("agent/")
    repo.git("check-ref-format", "--branch", workspace.branch or "")
    assert Path(workspace.worktree_path or "").resolve().is_relative_to(base_dir / ".agent-relay")


async def test_a_base_branch_that_looks_like_an_option_is_refused(repo: Repo, base_dir: Path):
    with pytest.raises(Refused, match="branch"):
        await made(base_dir, request(repo.path, base_ref="--upload-pack=evil"))
    assert not leftovers(repo, base_dir)


async def test_an_unknown_base_branch_is_refused(repo: Repo, base_dir: Path):
    with pytest.raises(Refused, match="nowhere"):
        await made(base_dir, request(repo.path, base_ref="nowhere"))
    assert not leftovers(repo, base_dir)


async def test_a_repository_without_a_commit_is_refused(empty_repo: Callable[[str], Repo], base_dir: Path):
    with pytest.raises(Refused, match="no commit"):
        await made(base_dir, request(empty_repo("empty").path))


async def test_a_folder_that_only_looks_like_a_repository_is_refused(base_dir: Path):
    (base_dir / "fake" / ".git").mkdir(parents=True)
    with pytest.raises(Refused, match="not in a git repository"):
        await made(base_dir, request(base_dir / "fake"))


@pytest.mark.spec("R-90")
async def test_a_directory_beside_the_base_directory_is_refused(repo: Repo, base_dir: Path):
    evil = base_dir.with_name("projects-evil")
    evil.mkdir()
    with pytest.raises(Refused, match="base directory"):
        await made(base_dir, request(evil, SHARED))


async def test_a_link_out_of_the_base_directory_is_refused(base_dir: Path, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (base_dir / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match="base directory"):
        await made(base_dir, request(base_dir / "link", SHARED))


async def test_a_base_directory_inside_the_repository_is_refused(repo: Repo):
    inner = repo.path / "packages"
    inner.mkdir()
    with pytest.raises(Refused, match=r"repository .* is not inside"):
        await made(inner, request(inner))
    assert not leftovers(repo, inner)


async def test_a_missing_directory_is_refused(base_dir: Path):
    with pytest.raises(Refused, match="not a directory"):
        await made(base_dir, request(base_dir / "nothing"))


async def test_a_worktree_that_cannot_be_made_leaves_nothing_behind(repo: Repo, base_dir: Path):
    repo.git("branch", "agent/docs")  # a file where a folder of branches should be
    before = repo.git("for-each-ref")
    with pytest.raises(Refused):
        await made(base_dir, request(repo.path))
    assert repo.git("for-each-ref") == before
    assert leftovers(repo, base_dir) == ["refs/heads/agent/docs"]


async def test_hooks_of_the_repository_do_not_run(repo: Repo, base_dir: Path):
    hook = repo.path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ran\nexit 1\n")
    hook.chmod(0o755)
    workspace = await made(base_dir, request(repo.path))
    assert not os.path.lexists(Path(workspace.worktree_path or "", "ran"))
