"""The daemon is killed before each git that changes something, or before it can tell of the outcome, and its next life
is asked for the same once more."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from checkouts import Repo, new_repository

from relay import wire
from relay.orchestrator import _git
from relay.orchestrator.merging import land
from relay.orchestrator.repolock import RepositoryLocks
from relay.orchestrator.teardown import Merge, cleanup, reconcile
from relay.orchestrator.worktrees import Request, resolve


class Killed(BaseException):
    """The process is gone: nothing that comes after is done, also not what tidies up."""


LOOKING = {
    "cat-file",
    "cherry",
    "config",
    "log",
    "ls-files",
    "merge-base",
    "remote",
    "rev-list",
    "rev-parse",
    "status",
}
OPEN = trio.lowlevel.open_process


@attrs.define
class Life:
    """How many more gits that change something a life of the daemon starts; after those it starts none at all."""

    left: int

    def __call__(self, command: list[str], **options: Any) -> Awaitable[trio.Process]:
        verb, *rest = command[command.index("-C") + 2 :]
        looks = verb in LOOKING or rest[:1] == ["list"]
        if self.left < 0 or (self.left == 0 and not looks):
            self.left = -1
            raise Killed
        self.left -= 0 if looks else 1
        return OPEN(command, **options)


@attrs.frozen
class Scene:
    """A repository with a remote, and the worktree of an agent that is gone."""

    base_dir: Path
    repo: Repo
    origin: Repo
    asked: Request

    async def spawn(self) -> wire.WorkspaceReport:
        return await resolve(self.asked, self.base_dir, RepositoryLocks())

    async def merge(self) -> tuple[Repo, Merge]:
        made = await self.spawn()
        tree = Repo(Path(made.worktree_path or ""))
        merge = Merge(
            command_id="cmd_1",
            workspace_id=made.id,
            repo_root=str(self.repo.path),
            worktree=tree.path,
            branch=made.branch,
            base_ref=made.base_ref,
            base_sha=made.base_sha,
            lease_token=3,
        )
        return tree, merge


def scene(folder: Path) -> Scene:
    repo = new_repository(folder / "repo")
    repo.commit("readme", "one\n")
    origin = folder / "origin.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(repo.path), str(origin)], check=True)
    repo.git("remote", "add", "origin", str(origin))
    repo.git("fetch", "-q", "origin")
    repo.git("branch", "-q", "--set-upstream-to=origin/main", "main")
    asked = Request(cwd=repo.path, mode=wire.WorkspaceMode.ISOLATED, id="sp_a", owner="docs")
    return Scene(folder, repo, Repo(origin), asked)


async def lives(
    monkeypatch: pytest.MonkeyPatch, number: int, work: Callable[[], Awaitable[Any]]
) -> tuple[bool, Any]:
    """Whether the first life got to its end with so many changes, and what the second one said."""
    whole = False
    with monkeypatch.context() as patch:
        patch.setattr(_git.trio.lowlevel, "open_process", Life(number))
        try:
            await work()
            whole = True
        except Killed:
            pass
    return whole, await work()


async def at_every_point(test: Callable[[int], Awaitable[bool]]) -> None:
    """Until a first life gets to its end; it was killed before it could tell of that."""
    number = 0
    while not await test(number):
        number += 1
        assert number < 100
    assert number > 1


@pytest.mark.spec("R-125", "R-I48", "R-I49", "R-I55")
async def test_a_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def test(number: int) -> bool:
        now = scene(tmp_path / str(number))
        tree, merge = await now.merge()
        head = tree.commit("notes", "a\n")
        base = now.repo.commit("meanwhile", "x\n")
        whole, result = await lives(monkeypatch, number, lambda: land(merge))
        assert (result["merged"], result["status"], result["pushed"]) == (True, "merged", True), number
        assert result["landedCommitShas"] == [head]
        assert now.repo.git("rev-parse", "main^1", "main^2").split() == [base, head]
        assert now.origin.tip("main") == now.repo.head == result["mergedSha"]
        assert now.repo.git("status", "--porcelain") == ""
        assert (now.repo.path / "notes").read_text() == "a\n"
        assert not tree.path.exists()
        assert now.repo.git("branch", "--list", "agent/*") == ""
        return whole

    await at_every_point(test)


async def test_a_merge_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def test(number: int) -> bool:
        now = scene(tmp_path / str(number))
        tree, merge = await now.merge()
        base = now.repo.head
        whole, result = await lives(monkeypatch, number, lambda: land(merge))
        assert (result["merged"], result.get("noop"), result["status"]) == (False, True, "merged"), (
            number,
            result,
        )
        assert "error" not in result
        assert now.repo.head == base
        assert not tree.path.exists()
        assert now.repo.git("branch", "--list", "agent/*") == ""
        return whole

    await at_every_point(test)


@pytest.mark.spec("R-I51", "R-I52", "R-I54")
@pytest.mark.parametrize("end", [cleanup, reconcile])
async def test_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[Merge], Awaitable[dict[str, Any]]]
):
    async def test(number: int) -> bool:
        now = scene(tmp_path / str(number))
        tree, merge = await now.merge()
        whole, result = await lives(monkeypatch, number, lambda: end(merge))
        assert result.get("status", "cleaned") == "cleaned", (number, result)
        assert not tree.path.exists()
        assert now.repo.git("worktree", "list").count("\n") == 0
        assert now.repo.git("branch", "--list", "agent/*") == ""
        return whole

    await at_every_point(test)


@pytest.mark.spec("R-I50", "R-I51")
async def test_an_end_with_work_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def test(number: int) -> bool:
        now = scene(tmp_path / str(number))
        tree, merge = await now.merge()
        head = tree.commit("notes", "a\n")
        tree.write("more", "not committed\n")
        forced = attrs.evolve(merge, force=True, reason="test")
        whole, result = await lives(monkeypatch, number, lambda: cleanup(forced))
        assert result["removed"] is True
        assert not tree.path.exists()
        assert now.repo.tip("agent/docs/a") == head
        kept = now.repo.git("for-each-ref", "--format=%(refname)", "refs/agent-relay").splitlines()[0]
        assert now.repo.git("show", f"{kept}:more") == "not committed"
        return whole

    await at_every_point(test)


async def test_a_spawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def test(number: int) -> bool:
        now = scene(tmp_path / str(number))
        before = now.repo.fingerprint()
        whole, made = await lives(monkeypatch, number, now.spawn)
        tree = Repo(Path(made.worktree_path))
        assert tree.git("symbolic-ref", "HEAD") == f"refs/heads/{made.branch}"
        assert (tree.head, tree.git("status", "--porcelain")) == (now.repo.head, "")
        assert now.repo.git("worktree", "list").count("\n") == 1
        tips = now.repo.git("for-each-ref", "--format=%(objectname)", "refs/heads/agent").splitlines()
        assert set(tips) == {now.repo.head}  # a branch without a worktree may be left, and it holds nothing
        assert now.repo.fingerprint()[1:] == before[1:]
        return whole

    await at_every_point(test)
