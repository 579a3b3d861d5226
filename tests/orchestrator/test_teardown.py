"""Removing worktrees: only what is proven to be elsewhere goes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from checkouts import Repo, new_repository

from relay import wire
from relay.orchestrator import merging, teardown
from relay.orchestrator.repolock import RepositoryLocks
from relay.orchestrator.teardown import Merge
from relay.orchestrator.worktrees import Request, resolve


@pytest.fixture
async def asked(repo: Repo, base_dir: Path) -> Merge:
    """The cleanup of a fresh worktree."""
    request = Request(cwd=repo.path, mode=wire.WorkspaceMode.ISOLATED, id="sp_1", owner="docs")
    made = await resolve(request, base_dir, RepositoryLocks())
    return Merge(
        workspace_id="w1",
        repo_root=str(repo.path),
        worktree=Path(made.worktree_path or ""),
        branch=made.branch,
        base_ref="main",
    )


async def cleanup(asked: Merge, **given: Any) -> dict[str, Any]:
    return await teardown.cleanup(attrs.evolve(asked, **given))


@pytest.mark.spec("R-126", "R-I52")
async def test_a_clean_worktree_goes_with_branch_and_container(repo: Repo, asked: Merge):
    result = await cleanup(asked)
    assert result == {
        "workspaceId": "w1",
        "worktreePath": str(asked.worktree),
        "removed": True,
        "branchDeleted": True,
        "containerRemoved": True,
    }
    assert not asked.worktree.parent.exists()
    assert repo.tip("agent/docs/1") == ""
    assert repo.git("worktree", "list").count("\n") == 0


async def test_a_branch_can_be_kept(repo: Repo, asked: Merge):
    assert (await cleanup(asked, delete_branch=False))["branchDeleted"] is False
    assert repo.tip("agent/docs/1") == repo.head


@pytest.mark.spec("R-127", "R-I50")
async def test_uncommitted_work_is_not_removed(asked: Merge):
    tree = Repo(asked.worktree)
    tree.write("readme", "changed\n")
    tree.write("new", "untracked\n")
    before = tree.fingerprint()
    for given in ({}, {"force": True}, {"force": True, "reason": ""}, {"reason": "because"}):
        result = await cleanup(asked, **given)
        assert result["removed"] is False
        assert "uncommitted" in result["error"]
    assert tree.fingerprint() == before


@pytest.mark.spec("R-128", "R-I50")
async def test_who_insists_finds_everything_under_a_reference(repo: Repo, asked: Merge):
    tree = Repo(asked.worktree)
    tree.write("readme", "changed\n")
    tree.write("new", "untracked\n")
    result = await cleanup(asked, force=True, reason="the disk is full")
    assert result["removed"] is True
    saved = result["dirtySnapshotRef"]
    assert saved.startswith("refs/agent-relay/workspace-tips/w1-dirty-")
    assert repo.git("show", f"{saved}:readme") == "changed"
    assert repo.git("show", f"{saved}:new") == "untracked"


@pytest.mark.spec("R-129", "R-I51")
async def test_unlanded_commits_keep_their_branch(repo: Repo, asked: Merge):
    sha = Repo(asked.worktree).commit("notes", "a\n")
    result = await cleanup(asked)
    assert result["removed"] is False
    assert asked.worktree.exists()
    result = await cleanup(asked, force=True, reason="abandoned")
    assert (result["removed"], result["branchDeleted"]) == (True, False)
    assert result["branchPreservedReason"]
    assert repo.tip("agent/docs/1") == sha


@pytest.mark.spec("R-130")
async def test_a_directory_that_is_gone_already_is_no_error(repo: Repo, asked: Merge, tmp_path: Path):
    asked.worktree.rename(tmp_path / "moved")
    result = await cleanup(asked)
    assert (result["removed"], result["branchDeleted"]) == (True, True)
    assert repo.git("worktree", "list").count("\n") == 0


@pytest.mark.spec("R-123")
async def test_a_link_is_not_followed(asked: Merge, base_dir: Path):
    link = base_dir / "link"
    link.symlink_to(asked.worktree)
    assert (await cleanup(asked, worktree=link))["removed"] is False
    assert asked.worktree.exists()


async def test_what_a_person_checked_out_is_not_removed(repo: Repo, asked: Merge, base_dir: Path):
    repo.git("worktree", "add", "-q", "-b", "mine", str(base_dir / "mine"))
    for path in (base_dir / "mine", repo.path, repo.path / ".git"):
        result = await cleanup(asked, worktree=path, force=True, reason="try")
        assert result["removed"] is False
        assert path.exists()


async def test_a_worktree_somebody_works_in_is_not_removed(asked: Merge):
    result = await cleanup(asked, occupant=lambda path: "agent-7")
    assert result["removed"] is False
    assert "agent-7" in result["error"]


async def test_without_a_base_nothing_is_proven(repo: Repo, asked: Merge):
    repo.git("branch", "-m", "main", "trunk")
    assert (await cleanup(asked, base_ref="gone"))["removed"] is False
    assert asked.worktree.exists()


@pytest.mark.spec("R-131", "R-I54")
async def test_an_untouched_worktree_of_a_gone_owner_is_removed(repo: Repo, asked: Merge):
    result = await teardown.reconcile(asked)
    assert (result["removed"], result["status"], result["workspaceId"]) == (True, "cleaned", "w1")
    assert not asked.worktree.exists()
    assert (await teardown.reconcile(asked))["status"] == "cleaned"


@pytest.mark.spec("R-132", "R-I54")
@pytest.mark.parametrize("committed", [False, True])
async def test_work_of_a_gone_owner_is_left_for_review(asked: Merge, committed: bool):
    tree = Repo(asked.worktree)
    tree.write("notes", "a\n")
    if committed:
        tree.commit("notes", "a\n")
    before = tree.fingerprint()
    result = await teardown.reconcile(asked)
    assert (result["removed"], result["status"]) == (False, "review_requested")
    assert result["gitState"]["ahead"] == int(committed)
    assert tree.fingerprint() == before


@pytest.mark.spec("R-I54")
async def test_a_worktree_whose_owner_is_here_is_not_reconciled(asked: Merge):
    result = await teardown.reconcile(attrs.evolve(asked, occupant=lambda path: "agent-7"))
    assert "agent-7" in result["error"]
    assert "status" not in result
    assert asked.worktree.exists()


@pytest.mark.spec("R-I54")
async def test_a_worktree_that_git_takes_too_long_about_is_left_for_review(
    asked: Merge, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(teardown, "CLEANUP_WITHIN", 0.0)
    result = await teardown.reconcile(asked)
    assert (result["removed"], result["status"]) == (False, "review_requested")
    assert "longer" in result["gitState"]["error"]
    assert asked.worktree.exists()


@pytest.mark.spec("R-I54")
async def test_any_doubt_is_left_for_review(repo: Repo, asked: Merge):
    assert (await teardown.reconcile(attrs.evolve(asked, base_ref="gone")))["status"] == "review_requested"
    assert asked.worktree.exists()


# -- what only looks as if nothing were lost


async def test_work_that_appears_at_the_last_moment_is_not_removed(
    asked: Merge, monkeypatch: pytest.MonkeyPatch
):
    """Something that the agent left running writes between the last look and the removal."""
    remove = teardown._remove

    async def written_meanwhile(*given: Any, **options: Any) -> None:
        (asked.worktree / "late").write_text("x\n")
        await remove(*given, **options)

    monkeypatch.setattr(teardown, "_remove", written_meanwhile)
    for result in (await cleanup(asked), await teardown.reconcile(asked)):
        assert result["removed"] is False
    assert (asked.worktree / "late").read_text() == "x\n"


async def test_a_repository_inside_the_worktree_is_not_thrown_away(asked: Merge):
    """A snapshot would hold its name only, so nobody may insist."""
    inner = new_repository(asked.worktree / "inner")
    head = inner.commit("notes", "a\n")
    for given in ({}, {"force": True, "reason": "test"}):
        result = await cleanup(asked, **given)
        assert result["removed"] is False
    assert "inner" in result["error"]
    assert "move" in result["error"]
    assert inner.head == head


async def test_commits_of_a_submodule_that_are_nowhere_else_are_not_removed(
    repo: Repo, base_dir: Path, empty_repo: Callable[[str], Repo]
):
    part = empty_repo("part")
    part.commit("part", "one\n")
    allowed = ("-c", "protocol.file.allow=always", "submodule", "--quiet")
    repo.git(*allowed, "add", str(part.path), "part")
    repo.git("commit", "-qm", "Add a submodule")
    request = Request(cwd=repo.path, mode=wire.WorkspaceMode.ISOLATED, id="sp_1", owner="docs")
    made = await resolve(request, base_dir, RepositoryLocks())
    tree = Repo(Path(made.worktree_path or ""))
    asked = Merge(repo_root=str(repo.path), worktree=tree.path, branch=made.branch, base_ref="main")
    tree.git(*allowed, "update", "--init")
    inner = Repo(tree.path / "part")
    inner.commit("part", "two\n")
    tree.git("commit", "-qam", "Move the submodule")
    repo.git("merge", "-q", "--ff-only", made.branch or "")
    for end in (teardown.cleanup, teardown.reconcile, merging.land):
        result = await end(asked)
        assert not result.get("removed")
        assert not result.get("worktreeRemoved")
    assert (tree.path / "part" / "part").read_text() == "two\n"
    inner.git("push", "-q", "origin", "HEAD:refs/heads/more")
    assert (await cleanup(asked))["removed"] is True


async def test_a_submodule_that_is_hidden_from_git_is_work_too(
    repo: Repo, asked: Merge, empty_repo: Callable[[str], Repo]
):
    tree = Repo(asked.worktree)
    tree.write(".gitmodules", '[submodule "part"]\n path = part\n url = x\n ignore = all\n')
    tree.git("add", ".gitmodules")
    repo.git("config", "submodule.part.ignore", "all")
    tree.git("update-index", "--add", "--cacheinfo", f"160000,{repo.head},part")
    tree.git("commit", "-qm", "Add a submodule")
    repo.git("merge", "-q", "--ff-only", "agent/docs/1")
    tree.git("update-index", "--cacheinfo", f"160000,{tree.head},part")
    tree.git("commit", "-qm", "Move it")
    head = tree.head
    assert (await teardown.reconcile(asked))["status"] == "review_requested"
    assert repo.tip("agent/docs/1") == head


async def test_other_worktrees_that_are_away_are_not_forgotten(repo: Repo, asked: Merge, tmp_path: Path):
    """A disk that is not mounted now: git's record of the worktree there holds its head and its index."""
    repo.git("worktree", "add", "-q", str(tmp_path / "person"), "-b", "mine")
    (tmp_path / "person").rename(tmp_path / "away")
    repo.git("worktree", "lock", str(asked.worktree))
    shutil.rmtree(asked.worktree)
    assert (await cleanup(asked))["removed"] is True
    listed = repo.git("worktree", "list")
    assert str(tmp_path / "person") in listed
    assert str(asked.worktree) not in listed


async def test_a_cleanup_that_git_takes_too_long_about_says_where(
    asked: Merge, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(teardown, "CLEANUP_WITHIN", 0.0)
    result = await cleanup(asked)
    assert result["removed"] is False
    assert f"in {asked.worktree}: see what holds it up" in result["error"]
    assert asked.worktree.exists()
