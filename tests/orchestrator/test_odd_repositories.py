"""Repositories and surroundings as people leave them: odd names, settings, half-finished things, and other people's work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
from checkouts import Repo, new_repository

from relay import wire
from relay.orchestrator import Refused, merging, teardown, worktrees
from relay.orchestrator._git import surroundings
from relay.orchestrator.gitstate import preview, state
from relay.orchestrator.repolock import RepositoryLocks
from relay.orchestrator.teardown import Merge
from relay.orchestrator.worktrees import Request, resolve


async def made(base_dir: Path, cwd: Path, **given: object) -> wire.WorkspaceReport:
    fields = {"mode": wire.WorkspaceMode.ISOLATED, "id": "sp_1", "owner": "docs", **given}
    return await resolve(Request(cwd=cwd, **fields), base_dir, RepositoryLocks())


def merge_of(workspace: wire.WorkspaceReport, **given: object) -> Merge:
    merge = Merge(
        command_id="cmd_1",
        workspace_id=workspace.id,
        repo_root=workspace.repo_root or "",
        worktree=Path(workspace.worktree_path or ""),
        branch=workspace.branch,
        base_ref=workspace.base_ref,
        base_sha=workspace.base_sha,
    )
    return attrs.evolve(merge, **given)


def everything(repo: Repo, base_dir: Path) -> tuple[str, ...]:
    """References, worktrees, and all paths below the workspaces."""
    paths = sorted(str(path) for path in (base_dir / ".agent-relay").rglob("*"))
    return (repo.git("for-each-ref"), repo.git("worktree", "list", "--porcelain"), *paths)


# -- worktrees that are there already


@pytest.mark.spec("R-I50")
async def test_a_worktree_in_the_middle_of_a_rebase_is_found_again_and_not_touched(
    repo: Repo, base_dir: Path
):
    first = await made(base_dir, repo.path)
    tree = Repo(Path(first.worktree_path or ""))
    tree.commit("readme", "mine\n")
    repo.commit("readme", "theirs\n")
    tree.git("rebase", "main", check=False)
    tree.write("notes", "not committed\n")
    before = tree.fingerprint()
    again = await made(base_dir, repo.path)
    assert (again.worktree_path, again.branch) == (first.worktree_path, first.branch)
    assert tree.fingerprint() == before


@pytest.mark.spec("R-I50")
async def test_a_worktree_without_a_branch_is_found_again_and_not_touched(repo: Repo, base_dir: Path):
    first = await made(base_dir, repo.path)
    tree = Repo(Path(first.worktree_path or ""))
    tree.git("switch", "-q", "--detach")
    head = tree.commit("notes", "a\n")
    again = await made(base_dir, repo.path)
    assert (again.worktree_path, again.branch) == (first.worktree_path, None)
    assert tree.head == head


async def test_a_worktree_that_a_crash_left_half_made_is_made_again(repo: Repo, base_dir: Path):
    first = await made(base_dir, repo.path)
    tree = Path(first.worktree_path or "")
    admin = Path(Repo(tree).git("rev-parse", "--absolute-git-dir"))
    (admin / "locked").write_text("initializing")  # as git has it until the files are there
    (admin / "index").unlink()
    (tree / "readme").unlink()
    again = await made(base_dir, repo.path)
    assert again == first
    assert Repo(tree).git("status", "--porcelain") == ""
    assert not (admin / "locked").exists()


async def test_what_lies_where_the_worktree_should_be_stays(repo: Repo, base_dir: Path):
    path = worktrees.container_of(base_dir, str(repo.path)) / "sp_1"
    path.mkdir(parents=True)
    (path / "mine").write_text("kept")
    before = everything(repo, base_dir)
    with pytest.raises(Refused, match="already"):
        await made(base_dir, repo.path)
    assert everything(repo, base_dir) == before


async def test_a_branch_that_cannot_be_made_is_nobodys_loss(repo: Repo, base_dir: Path):
    lock = repo.path / ".git" / "refs" / "heads" / "agent" / "docs" / "1.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    before = everything(repo, base_dir)
    with pytest.raises(Refused, match=r"agent/docs/1"):
        await made(base_dir, repo.path)
    assert everything(repo, base_dir) == before


async def test_the_container_of_the_worktrees_may_not_lead_out_of_the_base_directory(
    repo: Repo, base_dir: Path, tmp_path: Path
):
    (tmp_path / "outside").mkdir()
    (base_dir / ".agent-relay").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match="base directory"):
        await made(base_dir, repo.path)
    assert list((tmp_path / "outside").iterdir()) == []
    assert repo.git("branch", "--list", "agent/*") == ""


@pytest.mark.parametrize("where", ["lock", "git", "repolock.LOOK_WITHIN", "worktrees.MAKE_WITHIN"])
async def test_a_spawn_does_not_wait_for_ever(
    repo: Repo, base_dir: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    before = everything(repo, base_dir)
    locks = RepositoryLocks()
    request = Request(cwd=repo.path, mode=wire.WorkspaceMode.ISOLATED, id="sp_1", owner="docs")
    if where != "lock":
        monkeypatch.setattr(f"relay.orchestrator.{'making.ADD_WITHIN' if where == 'git' else where}", 0.0)
        with pytest.raises(Refused, match="longer than"):
            await resolve(request, base_dir, locks)
    else:
        monkeypatch.setattr("relay.orchestrator.repolock.WAIT_WITHIN", 0.05)
        async with locks.hold(repo.path), trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                with pytest.raises(Refused, match="busy"):
                    await resolve(request, base_dir, locks)

    assert everything(repo, base_dir) == before


# -- names


@pytest.mark.parametrize("name", ["-x", "--upload-pack=evil", "HEAD", "@"])
async def test_a_current_branch_with_an_impossible_name_is_refused_at_once(
    repo: Repo, base_dir: Path, name: str
):
    repo.git("update-ref", f"refs/heads/{name}", "HEAD")
    (repo.path / ".git" / "HEAD").write_text(f"ref: refs/heads/{name}\n")
    before = everything(repo, base_dir)
    with pytest.raises(Refused, match="rename"):
        await made(base_dir, repo.path)
    assert everything(repo, base_dir) == before


@pytest.mark.parametrize(
    "name",
    [
        "--upload-pack=evil",
        "-x",
        "main@{1}",
        "@{-1}",
        "a..b",
        "main\n",
        "a\x07b",
        "HEAD",
        "@",
        "/x",
        "x.lock",
    ],
)
async def test_a_base_with_an_impossible_name_is_refused(repo: Repo, base_dir: Path, name: str):
    before = everything(repo, base_dir)
    with pytest.raises(Refused, match="cannot be a branch"):
        await made(base_dir, repo.path, base_ref=name)
    assert everything(repo, base_dir) == before


async def test_a_tag_named_like_the_base_misleads_nobody(repo: Repo, base_dir: Path):
    workspace = await made(base_dir, repo.path)
    tree = Repo(Path(workspace.worktree_path or ""))
    head = tree.commit("notes", "a\n")
    repo.git("tag", "main", head)
    now = await state(tree.path, "main")
    assert (now["ahead"], now["landed"], now["baseRef"]) == (1, False, "main")
    assert "noop" not in await preview(tree.path, "main", None)
    refused = await teardown.cleanup(merge_of(workspace))
    assert refused["removed"] is False
    second = await made(base_dir, repo.path, id="sp_2")
    assert (second.base_ref, second.base_sha) == ("main", workspace.base_sha)
    landed = await merging.land(merge_of(workspace))
    assert (landed["merged"], repo.tip("main")) == (True, head)


# -- settings of the repository, and of the daemon


@pytest.mark.spec("R-127", "R-I50")
async def test_untracked_work_is_seen_also_where_status_hides_it(repo: Repo, base_dir: Path):
    repo.git("config", "status.showUntrackedFiles", "no")
    workspace = await made(base_dir, repo.path)
    work = Path(workspace.worktree_path or "", "work")
    work.write_text("not committed\n")
    for end in (teardown.cleanup, teardown.reconcile, merging.land):
        result = await end(merge_of(workspace))
        assert not result.get("removed")
        assert not result.get("worktreeRemoved")
    assert work.read_text() == "not committed\n"


@pytest.mark.parametrize("key", ["core.fsmonitor", "core.hooksPath"])
async def test_programs_that_the_repository_names_do_not_run(repo: Repo, base_dir: Path, key: str):
    ran = base_dir / "ran"
    folder = base_dir / "hooks"
    folder.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-push", "monitor"):
        program = folder / name
        program.write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
        program.chmod(0o755)
    repo.git("config", key, str(folder / "monitor" if key == "core.fsmonitor" else folder))
    workspace = await made(base_dir, repo.path)
    tree = Repo(Path(workspace.worktree_path or ""))
    tree.write("notes", "a\n")
    tree.git("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "add", "notes")
    tree.git("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "commit", "-qm", "notes")
    ran.unlink(missing_ok=True)
    landed = await merging.land(merge_of(workspace))
    assert landed["merged"] is True, landed
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GIT_DIR", "{elsewhere}/.git"),
        ("GIT_WORK_TREE", "{elsewhere}"),
        ("GIT_INDEX_FILE", "{elsewhere}/.git/index"),
        ("GIT_COMMON_DIR", "{elsewhere}/.git"),
        ("GIT_NAMESPACE", "other"),
        ("GIT_CEILING_DIRECTORIES", "{repo}"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GIT_CONFIG_PARAMETERS", "'core.bare'='true'"),
        ("GIT_QUARANTINE_PATH", "{elsewhere}"),
        ("GIT_OBJECT_DIRECTORY", "{elsewhere}/.git/objects"),
        ("GIT_EXTERNAL_DIFF", "false"),
        ("GIT_TRACE", "1"),
    ],
)
async def test_the_daemons_own_git_variables_lead_nobody_astray(
    repo: Repo, base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    elsewhere = new_repository(tmp_path / "elsewhere")
    elsewhere.commit("theirs", "theirs\n")
    before, folder = elsewhere.fingerprint(), repo.path / "folder"
    folder.mkdir()
    monkeypatch.setenv(name, value.format(elsewhere=elsewhere.path, repo=repo.path))
    workspace = await made(base_dir, folder)
    path = Path(workspace.worktree_path or "")
    (path / "notes").write_text("a\n")
    monkeypatch.delenv(name)
    Repo(path).commit("notes", "a\n")
    monkeypatch.setenv(name, value.format(elsewhere=elsewhere.path, repo=repo.path))
    landed = await merging.land(merge_of(workspace))
    monkeypatch.delenv(name)
    assert landed["merged"] is True, landed
    assert (repo.path / "notes").read_text() == "a\n"
    assert elsewhere.fingerprint() == before


@pytest.fixture
def with_submodule(repo: Repo, empty_repo: Callable[[str], Repo]) -> Repo:
    part = empty_repo("part")
    part.commit("part", "one\n")
    repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part.path), "part")
    repo.git("commit", "-qm", "Add a submodule")
    return repo


async def test_a_repository_with_submodules_is_spawned_in_and_cleaned_up(
    with_submodule: Repo, base_dir: Path
):
    repo = with_submodule
    repo.git("config", "submodule.recurse", "true")
    workspace = await made(base_dir, repo.path)
    tree = Repo(Path(workspace.worktree_path or ""))
    assert list((tree.path / "part").iterdir()) == []
    tree.git("-c", "submodule.recurse=false", "rm", "-q", "--cached", "part")
    tree.git("commit", "-qm", "Drop it")
    (tree.path / "part").rmdir()
    landed = await merging.land(merge_of(workspace))
    assert landed["merged"] is True, landed
    assert (repo.path / "part" / "part").read_text() == "one\n"
    assert not tree.path.exists()


# -- sources in any state


async def test_a_source_without_a_branch_makes_a_worktree_that_says_why_it_cannot_merge(
    repo: Repo, base_dir: Path
):
    repo.git("switch", "-q", "--detach")
    workspace = await made(base_dir, repo.path)
    assert (workspace.base_ref, workspace.base_sha) == (None, repo.head)
    Repo(Path(workspace.worktree_path or "")).commit("notes", "a\n")
    before = everything(repo, base_dir)
    result = await merging.land(merge_of(workspace))
    assert (result["merged"], result["status"]) == (False, "review_requested")
    assert "not on a branch" in result["error"]
    assert everything(repo, base_dir) == before


async def test_a_source_with_uncommitted_changes_keeps_them(repo: Repo, base_dir: Path):
    repo.write("readme", "changed\n")
    repo.write("staged", "staged\n")
    repo.git("add", "staged")
    repo.write("new", "new\n")
    before = repo.git("status", "--porcelain")
    workspace = await made(base_dir, repo.path)
    assert repo.git("status", "--porcelain") == before
    assert Repo(Path(workspace.worktree_path or "")).git("status", "--porcelain") == ""
    Repo(Path(workspace.worktree_path or "")).commit("notes", "a\n")
    assert (await merging.land(merge_of(workspace)))["merged"] is True
    assert repo.git("status", "--porcelain") == before


async def test_a_bare_repository_is_refused(base_dir: Path):
    subprocess.run(["git", "init", "-q", "--bare", str(base_dir / "bare.git")], check=True)
    with pytest.raises(Refused, match="not in a git repository"):
        await made(base_dir, base_dir / "bare.git")
    assert not (base_dir / ".agent-relay").exists()


async def test_a_repository_whose_git_directory_is_elsewhere_is_refused(base_dir: Path, tmp_path: Path):
    outside = new_repository(tmp_path / "outside")
    outside.commit("readme", "one\n")
    for name, make in (
        ("link", lambda path: (path / ".git").symlink_to(outside.path / ".git")),
        ("file", lambda path: (path / ".git").write_text(f"gitdir: {outside.path}/.git\n")),
    ):
        path = base_dir / name
        path.mkdir()
        make(path)
        before = outside.fingerprint()
        with pytest.raises(Refused, match="base directory"):
            await made(base_dir, path)
        assert outside.fingerprint() == before
    assert not (base_dir / ".agent-relay").exists()


# -- worktrees that are not relay's


@pytest.mark.spec("R-I50", "R-I51")
async def test_a_persons_worktree_is_merged_at_most_and_never_removed(repo: Repo, base_dir: Path):
    repo.git("worktree", "add", "-q", "-b", "feature", str(base_dir / "feature"))
    tree = Repo(base_dir / "feature")
    head = tree.commit("notes", "a\n")
    merge = Merge(command_id="c", repo_root=str(repo.path), worktree=tree.path, base_ref="main")
    landed = await merging.land(merge)
    assert (landed["merged"], landed["status"], landed["worktreeRemoved"]) == (True, "active", False)
    assert (repo.tip("main"), repo.tip("feature")) == (head, head)
    assert tree.path.exists()


@pytest.mark.spec("R-I46", "R-I49")
async def test_a_worktree_of_another_repository_is_not_merged_under_this_ones_lease(
    repo: Repo, base_dir: Path, empty_repo: Callable[[str], Repo]
):
    other = empty_repo("other")
    other.commit("theirs", "theirs\n")
    workspace = await made(base_dir, other.path)
    Repo(Path(workspace.worktree_path or "")).commit("notes", "a\n")
    before = other.fingerprint()
    result = await merging.land(merge_of(workspace, repo_root=str(repo.path)))
    assert (result["merged"], result["status"]) == (False, "review_requested")
    assert "belongs to" in result["error"]
    assert other.fingerprint() == before


def test_agents_do_not_inherit_git_variables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_DIR", "/elsewhere/.git")
    monkeypatch.setenv("GIT_INDEX_FILE", "/elsewhere/.git/index")
    monkeypatch.setenv("GIT_SSL_CAINFO", "/etc/ca.pem")
    kept = surroundings()
    assert "GIT_DIR" not in kept
    assert "GIT_INDEX_FILE" not in kept
    assert kept["GIT_SSL_CAINFO"] == "/etc/ca.pem"
    assert kept["PATH"] == os.environ["PATH"]
