"""Landing: what ends up on the base, and that nothing else changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from checkouts import Repo

from relay import wire
from relay.orchestrator import aftermath, fence, merging, publishing
from relay.orchestrator.repolock import RepositoryLocks
from relay.orchestrator.teardown import Merge
from relay.orchestrator.worktrees import Request, resolve

Work = Callable[..., Awaitable["Workspace"]]


@attrs.frozen
class Workspace:
    """An agent's worktree, and the merge that would be asked of it."""

    tree: Repo
    merge: Merge

    async def land(self, **given: Any) -> dict[str, Any]:
        return await merging.land(attrs.evolve(self.merge, **given))


@pytest.fixture
def work(repo: Repo, base_dir: Path) -> Work:
    """Makes workspaces: `await work("a", notes="text")` commits a file in a new one."""

    async def work(name: str = "a", **files: str) -> Workspace:
        asked = Request(cwd=repo.path, mode=wire.WorkspaceMode.ISOLATED, id=f"sp_{name}", owner="docs")
        made = await resolve(asked, base_dir, RepositoryLocks())
        tree = Repo(Path(made.worktree_path or ""))
        for file, text in files.items():
            tree.commit(file, text)
        merge = Merge(
            command_id=f"cmd_{name}",
            workspace_id=made.id,
            repo_root=str(repo.path),
            worktree=tree.path,
            branch=made.branch,
            base_ref=made.base_ref,
            base_sha=made.base_sha,
        )
        return Workspace(tree, merge)

    return work


def untouched(repo: Repo, workspace: Workspace) -> tuple[Any, ...]:
    return repo.fingerprint(), workspace.tree.fingerprint()


async def test_a_repository_with_sha256_objects_can_be_merged(repo: Repo, work: Work):
    shutil.rmtree(repo.path / ".git")
    repo.git("init", "-q", "-b", "main", "--object-format=sha256")
    repo.commit("readme", "one\n")
    for token, name in enumerate("ab", start=1):
        workspace = await work(name, **{name: "text\n"})
        head = workspace.tree.head
        result = await workspace.land(lease_token=token)
        assert result["merged"] is True, result
        assert len(repo.tip("main")) == 64
        repo.git("merge-base", "--is-ancestor", head, "main")
    assert (await fence.read(repo.path)).token == 2


@pytest.mark.spec("R-109", "R-I48", "R-I51", "R-I55")
async def test_a_branch_ahead_becomes_the_base_and_goes(repo: Repo, origin: Repo, work: Work):
    workspace = await work(notes="a\n", more="b\n")
    head, old = workspace.tree.head, repo.head
    result = await workspace.land()
    assert result["merged"] is True
    assert result["status"] == "merged"
    assert result["pushed"] is True
    assert (result["mergedSha"], result["previousBaseSha"]) == (head, old)
    assert len(result["landedCommitShas"]) == 2
    assert result["landedCommitShas"][-1] == head
    assert repo.tip("main") == origin.tip("main") == head
    assert not workspace.tree.path.exists()
    assert repo.tip("agent/docs/a") == ""
    assert result["worktreeRemoved"] is True
    assert result["branchDeleted"] is True


async def test_the_checkout_of_the_base_follows(repo: Repo, work: Work):
    result = await (await work(notes="a\n")).land()
    assert result["baseWorktreeSync"] == {"reconciled": True}
    assert (repo.path / "notes").read_text() == "a\n"
    assert repo.git("status", "--porcelain") == ""


@pytest.mark.spec("R-110", "R-I55")
async def test_when_both_have_moved_a_merge_commit_keeps_the_agents_commits(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    head = workspace.tree.head
    old = repo.commit("other", "b\n")
    result = await workspace.land()
    assert result["merged"] is True
    assert result["pushed"] is False
    assert repo.git("rev-list", "--parents", "-1", "main").split() == [result["mergedSha"], old, head]
    assert repo.git("log", "-1", "--format=%an", head) == "Ada"
    assert (repo.path / "notes").exists()
    assert (repo.path / "other").exists()


@pytest.mark.spec("R-107", "R-I49")
async def test_a_conflict_changes_nothing_and_says_where(repo: Repo, work: Work):
    workspace = await work(readme="one\nTWO\nthree\n")
    repo.commit("readme", "one\nzwei\nthree\n")
    before = untouched(repo, workspace)
    result = await workspace.land()
    assert (result["status"], result["merged"], result["conflict"]) == ("conflict", False, True)
    assert "readme" in result["error"]
    assert untouched(repo, workspace) == before


async def test_after_a_rebase_the_second_attempt_lands(repo: Repo, work: Work):
    workspace = await work(readme="one\nTWO\nthree\n")
    repo.commit("readme", "one\nzwei\nthree\n")
    assert (await workspace.land(lease_token=1))["status"] == "conflict"
    workspace.tree.git("rebase", "-q", "-X", "theirs", "main")
    result = await workspace.land(lease_token=2, command_id="again", delete_branch=False)
    assert (result["merged"], result["status"]) == (True, "active")
    assert (repo.path / "readme").read_text() == "one\nTWO\nthree\n"


@pytest.mark.spec("R-108", "R-I49", "R-I50")
@pytest.mark.parametrize("name", ["readme", "new"])
async def test_uncommitted_work_is_not_merged(repo: Repo, work: Work, name: str):
    workspace = await work(notes="a\n")
    workspace.tree.write(name, "not yet\n")
    before = untouched(repo, workspace)
    result = await workspace.land()
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "commit" in result["error"]
    assert untouched(repo, workspace) == before


@pytest.mark.spec("R-118")
async def test_nothing_to_land_leaves_a_living_owner_alone(repo: Repo, work: Work):
    workspace = await work()
    result = await workspace.land(delete_branch=False)
    assert (result["noop"], result["merged"], result["status"]) == (True, False, "active")
    assert workspace.tree.path.exists()


async def test_nothing_to_land_and_nobody_there_takes_the_worktree_away(repo: Repo, work: Work):
    workspace = await work()
    result = await workspace.land()
    assert (result["noop"], result["status"], result["branchDeleted"]) == (True, "merged", True)
    assert not workspace.tree.path.exists()


async def test_a_worktree_somebody_works_in_stays(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    result = await workspace.land(occupant=lambda path: "agent-7")
    assert (result["merged"], result["status"]) == (True, "active")
    assert "agent-7" in result["branchPreservedReason"]
    assert workspace.tree.path.exists()


async def test_a_missing_worktree_is_reported_as_cleaned(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    repo.git("worktree", "remove", "--force", str(workspace.tree.path))
    result = await workspace.land()
    assert (result["status"], result["merged"]) == ("cleaned", False)
    assert result["error"]


@pytest.mark.spec("R-119")
async def test_auto_without_a_remote_is_rebase_ff(repo: Repo, work: Work):
    assert (await (await work(notes="a\n")).land(strategy="auto"))["strategy"] == "rebase-ff"


@pytest.mark.parametrize("strategy", ["pr", "squash", "--force"])
async def test_an_unknown_strategy_is_refused(repo: Repo, work: Work, strategy: str):
    workspace = await work(notes="a\n")
    before = untouched(repo, workspace)
    result = await workspace.land(strategy=strategy)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "rebase-ff" in result["error"]
    assert untouched(repo, workspace) == before


@pytest.mark.parametrize("field", ["base_ref", "branch"])
@pytest.mark.parametrize("name", ["--upload-pack=evil", "-d", "a..b", "refs@{0}"])
async def test_a_branch_that_looks_like_an_option_is_refused(repo: Repo, work: Work, field: str, name: str):
    workspace = await work(notes="a\n")
    before = untouched(repo, workspace)
    result = await workspace.land(**{field: name})
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert name in result["error"]
    assert untouched(repo, workspace) == before


@pytest.mark.parametrize("base", ["nowhere", "v1"])
async def test_a_base_that_is_no_branch_is_refused(repo: Repo, work: Work, base: str):
    repo.git("tag", "v1")
    workspace = await work(notes="a\n")
    result = await workspace.land(base_ref=base)
    assert (result["status"], result["merged"]) == ("review_requested", False)


@pytest.mark.spec("R-122")
async def test_a_head_that_has_moved_since_is_refused(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    asked = workspace.tree.head
    workspace.tree.commit("notes", "b\n")
    result = await workspace.land(expected_head=asked)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert repo.tip("main") != workspace.tree.head


@pytest.mark.spec("R-123")
async def test_a_link_to_another_checkout_is_refused(repo: Repo, work: Work, base_dir: Path):
    workspace = await work(notes="a\n")
    link = base_dir / "link"
    link.symlink_to(workspace.tree.path)
    result = await workspace.land(worktree=link)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert workspace.tree.path.exists()


# -- the base moves, and who may move it


@pytest.mark.spec("R-112", "R-I47")
async def test_a_base_that_moves_in_between_is_kept(repo: Repo, work: Work, monkeypatch: pytest.MonkeyPatch):
    workspace = await work(notes="a\n")
    compose = merging._composed

    async def composed(*given: Any) -> str:
        made = await compose(*given)
        repo.commit("meanwhile", "x\n")
        return made

    monkeypatch.setattr(merging, "_composed", composed)
    result = await workspace.land(lease_token=1)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert repo.git("show", "main:meanwhile") == "x"
    assert workspace.tree.path.exists()
    assert (await fence.read(repo.path)).landed is None


@pytest.mark.spec("R-I47")
async def test_a_stale_lease_cannot_land(repo: Repo, work: Work):
    stale, current = await work("a", notes="a\n"), await work("b", other="b\n")
    assert (await current.land(lease_token=8))["merged"] is True
    before = untouched(repo, stale)
    result = await stale.land(lease_token=7)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert untouched(repo, stale) == before


async def test_a_lease_lost_during_the_merge_cannot_land(
    repo: Repo, work: Work, monkeypatch: pytest.MonkeyPatch
):
    stale, current = await work("a", notes="a\n"), await work("b")
    compose = merging._composed

    async def composed(*given: Any) -> str:
        made = await compose(*given)
        await current.land(lease_token=2)  # lands nothing, and still takes over
        return made

    monkeypatch.setattr(merging, "_composed", composed)
    result = await stale.land(lease_token=1)
    assert result["merged"] is False
    assert (await fence.read(repo.path)).token == 2
    assert repo.git("ls-tree", "main", "notes") == ""


@pytest.mark.spec("R-125")
async def test_a_merge_carried_out_again_finds_its_own_landing(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    first = await workspace.land(lease_token=3, delete_branch=False)
    repo.commit("later", "x\n")
    again = await workspace.land(lease_token=3, delete_branch=False)
    assert again["merged"] is True
    assert again["mergedSha"] == first["mergedSha"]
    assert again["landedCommitShas"] == first["landedCommitShas"]
    assert (repo.path / "later").exists()


async def test_a_merge_told_of_after_its_worktree_is_gone_has_landed_all_the_same(
    repo: Repo, origin: Repo, work: Work
):
    workspace = await work(notes="a\n")
    first = await workspace.land(lease_token=3)
    again = await workspace.land(lease_token=3)
    assert again == {name: value for name, value in first.items() if name != "baseWorktreeSync"} | {
        "baseWorktreeSync": {"reconciled": True}
    }
    other = await workspace.land(lease_token=4, command_id="another")
    assert (other["status"], other["merged"]) == ("cleaned", False)


async def test_a_landing_that_a_crash_cut_short_is_finished(repo: Repo, origin: Repo, work: Work):
    workspace = await work(notes="a\n")
    old, head = repo.head, workspace.tree.head
    claimed = await fence.move(repo.path, fence.Fence(), fence.Fence(3, "cmd_a"))
    await fence.move(repo.path, claimed, attrs.evolve(claimed, landed=(old, head, head)), ("main", head, old))
    result = await workspace.land(lease_token=3)
    assert (result["merged"], result["status"], result["pushed"]) == (True, "merged", True)
    assert origin.tip("main") == head
    assert (repo.path / "notes").exists()
    assert repo.git("status", "--porcelain") == ""
    assert not workspace.tree.path.exists()


# -- people's checkouts of the base


@pytest.mark.spec("R-115", "R-I50")
async def test_an_edit_in_another_file_of_the_base_checkout_is_preserved(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    repo.write("readme", "mine\n")
    result = await workspace.land()
    assert result["merged"] is True
    assert result["baseWorktreeSync"] == {"reconciled": True}
    assert (repo.path / "readme").read_text() == "mine\n"
    assert (repo.path / "notes").read_text() == "a\n"
    assert repo.git("status", "--porcelain") == " M readme"


@pytest.mark.spec("R-I50")
@pytest.mark.parametrize("staged", [False, True])
async def test_an_edit_of_the_same_file_in_the_base_checkout_stops_the_merge(
    repo: Repo, work: Work, staged: bool
):
    workspace = await work(readme="one\ntwo\nthree\nfour\n")
    repo.write("readme", "mine\n")
    if staged:
        repo.git("add", "readme")
    before = untouched(repo, workspace)
    result = await workspace.land()
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert str(repo.path) in result["error"]
    assert "stash" in result["error"]
    assert untouched(repo, workspace) == before


@pytest.mark.spec("R-116", "R-I50")
@pytest.mark.parametrize("ignored", [False, True])
async def test_a_file_of_a_person_where_one_lands_stays(repo: Repo, work: Work, ignored: bool):
    workspace = await work(notes="a\n", more="b\n")
    repo.write("notes", "mine\n")
    if ignored:
        (repo.path / ".git" / "info" / "exclude").write_text("notes\n")
    result = await workspace.land()
    assert result["merged"] is True
    assert result["baseWorktreeSync"]["reconciled"] is False
    assert result["baseWorktreeSync"]["unsyncedPaths"] == ["notes"]
    assert (repo.path / "notes").read_text() == "mine\n"
    assert (repo.path / "more").read_text() == "b\n"
    assert repo.git("status", "--porcelain") == " M notes"


async def test_a_person_in_the_middle_of_a_merge_is_not_disturbed(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    repo.git("switch", "-qc", "feature")
    repo.commit("feature", "x\n")
    repo.git("switch", "-q", "main")
    repo.git("merge", "-q", "--no-ff", "--no-commit", "feature")
    before = untouched(repo, workspace)
    result = await workspace.land()
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "in the middle of" in result["error"]
    assert untouched(repo, workspace) == before


async def test_a_base_that_is_checked_out_nowhere_just_moves(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    repo.git("switch", "-qc", "elsewhere")
    result = await workspace.land()
    assert result["merged"] is True
    assert "baseWorktreeSync" not in result
    assert not (repo.path / "notes").exists()


# -- the remote


@pytest.mark.spec("R-111")
async def test_a_remote_that_is_ahead_wants_a_rebase_first(
    repo: Repo, origin: Repo, work: Work, tmp_path: Path
):
    workspace = await work(notes="a\n")
    other = origin.clone(tmp_path / "other")
    other.commit("theirs", "x\n")
    other.git("push", "-q", "origin", "main")
    before = repo.tip("main")
    result = await workspace.land()
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "rebase" in result["error"]
    assert repo.tip("main") == before


async def test_a_branch_rebased_on_the_remote_lands_on_it(
    repo: Repo, origin: Repo, work: Work, tmp_path: Path
):
    workspace = await work(notes="a\n")
    other = origin.clone(tmp_path / "other")
    other.commit("theirs", "x\n")
    other.git("push", "-q", "origin", "main")
    workspace.tree.git("fetch", "-q", "origin")
    workspace.tree.git("rebase", "-q", "origin/main")
    result = await workspace.land()
    assert result["pushed"] is True
    assert repo.tip("main") == origin.tip("main") == result["mergedSha"]
    assert (repo.path / "theirs").exists()


def _pushes_between(
    monkeypatch: pytest.MonkeyPatch, origin: Repo, folder: Path, name: str = "theirs"
) -> None:
    """Another push reaches the remote after the fetch of the next landing."""
    compose = merging._composed

    async def composed(*given: Any) -> str:
        other = origin.clone(folder)
        other.commit(name, "x\n")
        other.git("push", "-q", "origin", "main")
        return await compose(*given)

    monkeypatch.setattr(merging, "_composed", composed)


@pytest.mark.spec("R-113", "R-I49")
async def test_a_lost_race_for_the_remote_lands_nothing(
    repo: Repo, origin: Repo, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = await work(notes="a\n")
    _pushes_between(monkeypatch, origin, tmp_path / "other")
    result = await workspace.land(lease_token=1)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "mergedSha" not in result
    assert repo.tip("main") == origin.tip("main")
    assert repo.git("status", "--porcelain") == ""
    assert not (repo.path / "notes").exists()
    assert (repo.path / "theirs").exists()
    assert workspace.tree.path.exists()


@pytest.mark.spec("R-114")
async def test_a_lost_race_keeps_what_was_never_pushed(
    repo: Repo, origin: Repo, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mine = repo.commit("unpushed", "mine\n")
    workspace = await work(notes="a\n")
    _pushes_between(monkeypatch, origin, tmp_path / "other")
    result = await workspace.land(lease_token=1)
    assert result["merged"] is False
    assert repo.tip("main") == mine
    assert repo.git("status", "--porcelain") == ""


@pytest.mark.spec("R-124")
async def test_a_hanging_fetch_ends_and_leaves_no_process(
    repo: Repo, origin: Repo, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = await work(notes="a\n")
    marker = tmp_path / "hang"
    marker.write_text("#!/bin/sh\nexec sleep 1000\n")
    marker.chmod(0o755)
    repo.git("config", "remote.origin.url", "ssh://nowhere.invalid/repo")
    repo.git("config", "core.sshCommand", str(marker))
    monkeypatch.setitem(merging.git.__globals__["ENVIRONMENT"], "GIT_SSH_COMMAND", str(marker))
    monkeypatch.setattr("relay.orchestrator.publishing.FETCH_WITHIN", 0.5)
    with trio.fail_after(20):
        result = await workspace.land()
    assert (result["status"], result["merged"]) == ("review_requested", False)
    listed = subprocess.run(["ps", "-axwwo", "command="], capture_output=True, text=True, check=True).stdout
    assert str(marker) not in listed
    async with RepositoryLocks().hold(repo.path):
        pass


async def test_pushing_can_be_turned_off(
    repo: Repo, origin: Repo, work: Work, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENT_RELAY_WORKSPACE_PUSH", "0")
    result = await (await work(notes="a\n")).land()
    assert (result["merged"], result["pushed"]) == (True, False)
    assert origin.tip("main") != repo.tip("main")


# -- turns


@pytest.mark.spec("R-133", "R-I46", "R-I56")
async def test_a_repository_is_worked_on_by_one_at_a_time(repo: Repo, work: Work):
    ours, theirs = RepositoryLocks(), RepositoryLocks()  # of two daemons
    inside: list[str] = []

    async def busy(locks: RepositoryLocks, path: Path) -> None:
        for _ in range(3):
            async with locks.hold(path):
                inside.append("in")
                assert len(inside) == 1
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
                inside.pop()

    tree = (await work()).tree.path
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for locks in (ours, ours, theirs):
                nursery.start_soon(busy, locks, repo.path)
                nursery.start_soon(busy, locks, tree)


@pytest.mark.spec("R-133")
async def test_two_repositories_do_not_wait_for_each_other(repo: Repo, empty_repo: Callable[[str], Repo]):
    locks = RepositoryLocks()
    async with locks.hold(repo.path):
        with trio.fail_after(5):
            async with locks.hold(empty_repo("second").path):
                pass


async def test_the_lock_lasts_as_long_as_a_git_that_holds_it(repo: Repo):
    async with RepositoryLocks().hold(repo.path):
        from relay.orchestrator._git import held

        (file,) = held.get()
        orphan = subprocess.Popen(["sleep", "60"], pass_fds=(file,))
    try:
        with trio.move_on_after(0.2) as limit:
            async with RepositoryLocks().hold(repo.path):
                pass
        assert limit.cancelled_caught
    finally:
        orphan.kill()
        orphan.wait()
    with trio.fail_after(5):
        async with RepositoryLocks().hold(repo.path):
            assert (repo.path / ".git" / "relay.lock").read_text().startswith(str(os.getpid()))


async def test_a_lock_that_a_crash_left_in_git_is_named(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    lock = repo.write(".git/refs/heads/main.lock", "")
    before = untouched(repo, workspace)
    result = await workspace.land()
    assert (result["status"], result["merged"]) == ("review_requested", False)
    for said in (str(lock), "if no git runs", "remove the lock"):
        assert said in result["error"]
    assert untouched(repo, workspace) == before
    lock.unlink()
    assert (await workspace.land())["merged"] is True


# -- trouble after the point of no return


async def test_trouble_after_the_landing_does_not_undo_it(
    repo: Repo, work: Work, monkeypatch: pytest.MonkeyPatch
):
    workspace = await work(notes="a\n")
    head = workspace.tree.head

    async def no_more_processes(*_: Any) -> dict[str, Any]:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(aftermath, "tear_down", no_more_processes)
    result = await workspace.land(lease_token=1)
    assert (result["merged"], result["mergedSha"], result["status"]) == (True, head, "active")
    assert "temporarily unavailable" in result["branchPreservedReason"]
    assert "error" not in result
    assert workspace.tree.path.exists()
    monkeypatch.undo()
    assert (await workspace.land(lease_token=1))["status"] == "merged"


async def test_what_follows_a_landing_has_its_limit(repo: Repo, work: Work, monkeypatch: pytest.MonkeyPatch):
    workspace = await work(notes="a\n")
    monkeypatch.setattr("relay.orchestrator.basesync.FOLLOW_WITHIN", 0.0)
    result = await workspace.land()
    assert result["merged"] is True
    assert result["baseWorktreeSync"]["reconciled"] is False
    assert result["baseWorktreeSync"]["unsyncedPaths"] == []
    assert "took longer" in result["baseWorktreeSync"]["message"]


async def test_a_remote_that_goes_away_before_the_push_lands_nothing(
    repo: Repo, origin: Repo, work: Work, monkeypatch: pytest.MonkeyPatch
):
    workspace = await work(notes="a\n")
    base, push = repo.head, aftermath.push

    async def unplugged(*given: Any) -> str | None:
        origin.path.rename(origin.path.with_name("elsewhere"))
        return await push(*given)

    monkeypatch.setattr(aftermath, "push", unplugged)
    result = await workspace.land(lease_token=1)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "nothing has landed" in result["error"]
    assert repo.tip("main") == base
    assert repo.git("status", "--porcelain") == ""
    assert workspace.tree.path.exists()
    assert (await fence.read(repo.path)).landed is None


@pytest.mark.spec("R-I48")
async def test_a_push_whose_answer_was_lost_has_landed_all_the_same(
    repo: Repo, origin: Repo, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = await work(notes="a\n")
    head, push = workspace.tree.head, publishing._push

    async def answer_lost(*given: Any) -> str | None:
        assert await push(*given) is None
        other = origin.clone(tmp_path / "other")
        other.commit("later", "x\n")
        other.git("push", "-q", "origin", "main")
        return "connection reset"

    monkeypatch.setattr(publishing, "_push", answer_lost)
    result = await workspace.land(lease_token=1)
    assert (result.get("mergedSha"), result["merged"], result.get("pushed")) == (head, True, True), result
    assert repo.tip("main") == head


# -- work that is not all there


async def test_half_of_a_rebase_is_not_landed(repo: Repo, work: Work):
    workspace = await work(first="1\n", second="2\n")
    tree = workspace.tree
    tree.git("-c", "sequence.editor=sed -i 1s/pick/edit/", "rebase", "-q", "-i", "HEAD~2")
    assert tree.git("status", "--porcelain") == ""
    base, head = repo.head, tree.head
    result = await workspace.land(lease_token=1)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "rebase: finish or abort it" in result["error"]
    assert (repo.tip("main"), tree.head) == (base, head)
    tree.git("rebase", "--continue")
    assert (await workspace.land(lease_token=2))["merged"] is True
    assert repo.git("show", "main:second") == "2"


async def test_a_worktree_that_looks_at_another_commit_than_its_branch_is_not_merged(repo: Repo, work: Work):
    workspace = await work(notes="a\n")
    head = workspace.tree.head
    workspace.tree.git("checkout", "-q", "--detach", "main")
    result = await workspace.land(lease_token=1)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "git switch agent/docs/a" in result["error"]
    assert workspace.tree.path.exists()
    assert repo.tip("agent/docs/a") == head
    workspace.tree.git("checkout", "-q", "--detach", head)
    assert (await workspace.land(lease_token=2))["mergedSha"] == head


@pytest.mark.spec("R-I47")
async def test_a_merge_without_a_lease_is_not_taken_for_that_of_the_last_one(repo: Repo, work: Work):
    leased, free = await work("a", notes="a\n"), await work("b", other="b\n")
    await fence.move(repo.path, fence.Fence(), fence.Fence(3, "cmd_a"))  # begun, and cut short by a crash
    first = await free.land()
    assert first["merged"] is True
    assert (await leased.land(lease_token=3))["merged"] is False
    assert repo.git("ls-tree", "main", "notes") == ""
    again = await free.land()
    assert (again["merged"], again["mergedSha"]) == (True, first["mergedSha"])
    assert (await leased.land(lease_token=4, command_id="cmd_again"))["merged"] is True


@pytest.mark.spec("R-I48")
async def test_a_landing_that_a_person_has_taken_back_meanwhile_stays_taken_back(
    repo: Repo, origin: Repo, work: Work
):
    workspace = await work(notes="a\n")
    old, head = repo.head, workspace.tree.head
    claimed = await fence.move(repo.path, fence.Fence(), fence.Fence(3, "cmd_a"))
    await fence.move(repo.path, claimed, attrs.evolve(claimed, landed=(old, head, head)), ("main", head, old))
    repo.git("reset", "-q", "--hard", old)
    result = await workspace.land(lease_token=3)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert "taken back" in result["error"]
    assert (repo.tip("main"), origin.tip("main")) == (old, old)
    assert workspace.tree.path.exists()
    assert (await workspace.land(lease_token=4, command_id="cmd_again"))["merged"] is True


@pytest.mark.parametrize("damage", ["empty", "gone", "odd"])
async def test_a_fence_that_cannot_be_read_stops_the_merge_and_says_what_to_do(
    repo: Repo, work: Work, damage: str
):
    workspace = await work(notes="a\n")
    made = await fence.move(repo.path, fence.Fence(), fence.Fence(3, "cmd_b"))
    if damage == "gone":
        (repo.path / ".git" / "objects" / made.blob[:2] / made.blob[2:]).unlink()
    else:
        file = repo.write(".git/damage", "" if damage == "empty" else '{"a": 1}')
        repo.git("update-ref", "refs/relay/merge-fence", repo.git("hash-object", "-w", str(file)))
    base = repo.head
    result = await workspace.land(lease_token=4)
    assert (result["status"], result["merged"]) == ("review_requested", False)
    assert f"git -C {repo.path} update-ref -d refs/relay/merge-fence" in result["error"]
    assert repo.head == base
    repo.git("update-ref", "-d", "refs/relay/merge-fence")
    assert (await workspace.land(lease_token=4))["merged"] is True
