"""Questions about worktrees: answered from git, without changing anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkouts import Repo

from relay.orchestrator.gitstate import diff, preview, probe, state
from relay.orchestrator.landed import Landed, contained


@pytest.fixture
def tree(repo: Repo, base_dir: Path) -> Repo:
    """A worktree on an agent's branch."""
    path = base_dir / "tree"
    repo.git("worktree", "add", "-q", "-b", "agent/a/1", str(path), "main")
    return Repo(path)


@pytest.mark.spec("R-106", "R-I53")
async def test_a_preview_of_a_clean_branch_changes_nothing(repo: Repo, tree: Repo):
    tree.commit("notes", "a\n")
    tree.commit("notes", "b\n")
    before = repo.fingerprint(), tree.fingerprint()
    seen = await preview(tree.path, "main", None)
    assert (seen["ahead"], seen["behind"], seen["unmergedAhead"]) == (2, 0, 2)
    assert (seen["cleanFastForward"], seen["conflict"], seen["strategy"]) == (True, False, "rebase-ff")
    assert (repo.fingerprint(), tree.fingerprint()) == before


@pytest.mark.spec("R-107")
async def test_a_preview_foresees_a_conflict(repo: Repo, tree: Repo):
    tree.commit("readme", "ours\n")
    repo.commit("readme", "theirs\n")
    seen = await preview(tree.path, "main", None)
    assert (seen["conflict"], seen["cleanFastForward"], seen["behind"]) == (True, False, 1)


async def test_a_preview_of_uncommitted_work_says_so(tree: Repo):
    tree.write("notes", "a\n")
    seen = await preview(tree.path, "main", None)
    assert "1 uncommitted" in seen["reason"]
    assert "noop" not in seen


@pytest.mark.spec("R-117")
async def test_work_that_was_squashed_upstream_has_landed(
    repo: Repo, origin: Repo, tree: Repo, tmp_path: Path
):
    tree.commit("notes", "a\n")
    tree.commit("notes", "b\n")
    other = origin.clone(tmp_path / "other")
    other.commit("notes", "b\n")
    other.commit("unrelated", "x\n")
    other.git("push", "-q", "origin", "main")
    seen = await preview(tree.path, "main", None, fetch=True)
    assert (seen["noop"], seen["landed"], seen["unmergedAhead"]) == (True, True, 0)


async def test_the_state_tells_commits_and_changes(repo: Repo, tree: Repo):
    sha = tree.commit("notes", "a\n")
    repo.commit("other", "x\n")
    tree.write("notes", "b\n")
    found = await state(tree.path, "main", None)
    assert (found["ahead"], found["behind"], found["branch"], found["baseRef"]) == (1, 1, "agent/a/1", "main")
    assert (found["dirty"], found["dirtyCount"], found["unmergedShas"]) == (True, 1, [sha[:8]])
    assert found["lastCommit"]["message"] == "Write notes"


async def test_a_base_branch_that_is_gone_falls_back_to_its_commit(repo: Repo, tree: Repo):
    assert (await state(tree.path, "gone", repo.head))["baseRef"] == repo.head
    assert "gone" in (await state(tree.path, "gone", None))["error"]
    assert "error" in (await state(tree.path, "--all", None))


async def test_missing_and_broken_places_are_answers(base_dir: Path):
    assert await state(base_dir / "none") == {"missing": True}
    assert await preview(base_dir / "none", "main", None) == {"missing": True}
    assert await diff(base_dir / "none", "main", None) == {"missing": True}
    assert "error" in await state(base_dir)
    assert "error" in await diff(base_dir, "main", None)
    assert (await probe(base_dir / "none"))["isGitRepo"] is False
    assert (await probe(base_dir))["isGitRepo"] is False


async def test_a_diff_lists_files(repo: Repo, tree: Repo):
    tree.commit("notes", "a\nb\n")
    tree.write("blob", "")
    (tree.path / "blob").write_bytes(b"\0\1")
    tree.git("add", "blob")
    tree.git("commit", "-qm", "Add a blob")
    repo.commit("elsewhere", "x\n")
    found = await diff(tree.path, "main", None)
    assert found["files"] == [
        {"path": "blob", "binary": True},
        {"path": "notes", "binary": False, "additions": 2, "deletions": 0},
    ]
    assert "+a" in found["patch"]
    assert found["truncated"] is False


@pytest.mark.spec("R-136")
async def test_a_large_diff_is_cut(tree: Repo):
    tree.commit("large", "x" * 99 + "\n" + "line\n" * 100_000)
    found = await diff(tree.path, "main", None)
    assert len(found["patch"]) == 200_000
    assert found["truncated"] is True
    assert "patch" not in await diff(tree.path, "main", None, patch=False)


async def test_a_probe_lists_worktrees(repo: Repo, tree: Repo):
    found = await probe(repo.path)
    assert (found["isGitRepo"], found["branch"], found["headSha"]) == (True, "main", repo.head)
    assert [each["path"] for each in found["worktrees"]] == [str(repo.path), str(tree.path)]
    assert found["worktrees"][1]["branch"] == "agent/a/1"
    repo.git("switch", "-q", "--detach")
    assert (await probe(repo.path))["detached"] is True


async def test_landed_has_three_answers(repo: Repo, tree: Repo):
    tree.commit("notes", "a\n")
    tip = tree.head
    assert await contained(repo.path, "main", tip) is Landed.CARRIES_NEW
    assert await contained(repo.path, tip, "main") is Landed.CONTAINED
    assert await contained(repo.path, "main", "0" * 40) is Landed.UNKNOWN
    repo.git("cherry-pick", "--allow-empty", tip)
    repo.commit("notes", "changed since\n")
    assert await contained(repo.path, "main", tip) is Landed.CONTAINED


async def test_a_merge_with_changes_of_its_own_is_not_taken_for_landed(repo: Repo, tree: Repo):
    repo.commit("other", "x\n")
    tree.git("merge", "-q", "--no-commit", "--no-ff", "main")
    tree.write("evil", "only in the merge\n")
    tree.git("add", "evil")
    tree.git("commit", "-qm", "Merge with something in it")
    assert await contained(repo.path, "main", tree.head) is Landed.CARRIES_NEW
