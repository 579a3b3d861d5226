"""Bad input from the door to the disk: asked over HTTP, refused with what to do, and git as it was before."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from checkouts import Repo, new_repository
from hosts import Host, until

Json = dict[str, Any]


class Door:
    """What a client asks, and what becomes of it."""

    def __init__(self, host: Host, api: httpx2.AsyncClient) -> None:
        self.host = host
        self.api = api

    async def spawn(self, name: str = "ada", **given: Any) -> Json:
        """The command of a spawn, when it has ended."""
        wish = self.host.wish(name, **given)
        del wish["action"]
        answer = await self.api.post("/api/orchestrators/h1/spawn", json=wish)
        assert answer.status_code == 202, answer.text
        return await self.ended(answer.json()["command"]["id"])

    async def merge(self, workspace: str) -> Json:
        path = f"/api/workspaces/{workspace}/actions"
        answer = await self.api.post(path, json={"action": "merge", "strategy": "rebase-ff"})
        assert answer.status_code == 202, answer.text
        return await self.ended(answer.json()["command"]["id"])

    async def ended(self, command: str) -> Json:
        async def look() -> Json | None:
            now: Json = (await self.api.get(f"/api/commands/{command}")).json()
            return now if now["status"] in {"succeeded", "failed"} else None

        found: Json = await until(look)
        return found

    async def refused(self, says: str, **given: Any) -> None:
        """A spawn that fails with a reason, and of which nothing is left: not on disk, not in git, not at relay."""
        before = self.traces()
        command = await self.spawn(**given)
        assert command["status"] == "failed"
        assert says in command["error"]
        assert command["error"] == command["result"]["error"]
        assert self.traces() == before
        assert (await self.api.get("/api/workspaces")).json() == []
        assert await self.host.roster() == []
        assert list((self.host.config.state / "sessions").iterdir()) == []

    def traces(self) -> list[str]:
        """Every path below the base directory but git's objects, and every reference of the repository."""
        base = self.host.config.base_dir
        paths = (str(path) for path in base.rglob("*") if "objects" not in path.parts)
        own = [path for path in paths if not path.endswith("relay.lock")]
        git = self.host.repo.git
        asked = (("for-each-ref",), ("worktree", "list", "--porcelain"), ("config", "--list"))
        return [*sorted(own), *(git(*question) for question in asked)]


@pytest.fixture
async def door(host: Host, api: httpx2.AsyncClient) -> AsyncIterator[Door]:
    async with host.running():
        yield Door(host, api)


async def test_a_folder_that_is_no_repository(door: Door):
    plain = door.host.config.base_dir / "plain"
    plain.mkdir()
    await door.refused("git init", cwd=str(plain))
    (plain / ".git").mkdir()
    await door.refused("git init", cwd=str(plain))
    await door.refused("not a directory", cwd=str(plain / "none"))


async def test_a_repository_without_a_commit(door: Door, empty_repo: Callable[[str], Repo]):
    await door.refused("no commit yet: make one", cwd=str(empty_repo("empty").path))


async def test_a_bare_repository(door: Door):
    path = door.host.config.base_dir / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", str(path)], check=True)
    await door.refused("git init", cwd=str(path))


@pytest.mark.spec("R-90", "R-I38")
async def test_a_directory_outside_is_refused_at_the_door(door: Door, tmp_path: Path):
    outside = new_repository(tmp_path / "outside")
    base = door.host.config.base_dir
    for cwd in (outside.path, f"{base}-evil", f"{base}/../outside", "/", "relative"):
        wish = {"provider": "command", "cwd": str(cwd), "workspaceMode": "isolated"}
        answer = await door.api.post("/api/orchestrators/h1/spawn", json=wish)
        assert answer.status_code == 400
        assert "outside the base directory" in answer.json()["error"]
    assert (await door.api.get("/api/commands")).json() == []
    assert not (outside.path / ".git" / "relay.lock").exists()


@pytest.mark.spec("R-90", "R-I38")
async def test_a_link_that_leads_outside_is_refused_by_the_host(door: Door, tmp_path: Path):
    outside = new_repository(tmp_path / "outside")
    outside.commit("readme", "one\n")
    before = outside.fingerprint()
    base = door.host.config.base_dir
    (base / "link").symlink_to(outside.path)
    (base / "lent").mkdir()
    (base / "lent" / ".git").write_text(f"gitdir: {outside.path}/.git\n")
    for mode in ("isolated", "shared"):
        await door.refused(f"base directory {base}", cwd=str(base / "link"), workspaceMode=mode)
    await door.refused(f"base directory {base}", cwd=str(base / "lent"))
    assert outside.fingerprint() == before
    assert not (outside.path / ".git" / "relay.lock").exists()


@pytest.mark.parametrize(
    "name",
    [
        "--upload-pack=touch evil",
        "-x",
        "@{-1}",
        "a..b",
        "../../../x",
        "a\x01b\nc",
        "x.lock",
        "HEAD",
        " ~^:?*[\\",
    ],
)
async def test_names_that_look_like_something_else_become_plain_branches(door: Door, name: str):
    """Labels, policies and request ids are no branch names: what git could misread in them is left out."""
    command = await door.spawn(label=name, policyName=name, spawnRequestId=name)
    assert command["status"] == "succeeded", command
    (row,) = (await door.api.get("/api/workspaces")).json()
    door.host.repo.git("check-ref-format", "--branch", row["branch"])
    assert row["branch"].startswith("agent/")
    base = door.host.config.base_dir
    assert Path(row["worktreePath"]).resolve().parents[1] == base / ".agent-relay" / "workspaces"
    assert {path.name for path in base.iterdir()} == {"repo", ".agent-relay"}
    refs = door.host.repo.git("for-each-ref", "--format=%(refname)").splitlines()
    assert refs == [f"refs/heads/{row['branch']}", "refs/heads/main"]


@pytest.mark.parametrize("name", ["-x", "--upload-pack=evil", "HEAD"])
async def test_a_current_branch_that_looks_like_an_option(door: Door, name: str):
    repo = door.host.repo
    repo.git("update-ref", f"refs/heads/{name}", "HEAD")
    (repo.path / ".git" / "HEAD").write_text(f"ref: refs/heads/{name}\n")
    await door.refused("rename it")


def unfenced(repo: Repo) -> tuple[str, ...]:
    """What a merge that is refused must leave alone: all but the fence, which a lease may have entered."""
    refs, *rest = repo.fingerprint()
    return ("\n".join(line for line in refs.splitlines() if "refs/relay/" not in line), *rest)


@pytest.mark.parametrize(
    "name", ["--upload-pack=evil", "-x", "main@{1}", "a..b", "a\x07b", "HEAD", "nowhere"]
)
async def test_a_merge_into_or_of_what_is_no_branch_changes_nothing(door: Door, name: str):
    await door.spawn()
    row = (await door.api.get("/api/workspaces/sp_ada")).json()
    tree = Repo(Path(row["worktreePath"]))
    tree.commit("notes", "a\n")
    wrong = [{"baseRef": name}] if name == "nowhere" else [{"baseRef": name}, {"branch": name}]  # a hint only
    before = (unfenced(door.host.repo), unfenced(tree))
    for given in wrong:
        params = {**row, "workspaceId": row["id"], "action": "merge", "strategy": "rebase-ff", **given}
        asked = {"type": "workspace.merge", "source": "test", "target": "orchestrator-h1", "params": params}
        made = (await door.api.post("/api/commands", json=asked)).json()
        command = await door.ended(made["id"])
        assert (command["status"], command["result"]["status"]) == ("failed", "review_requested")
        assert "branch" in command["error"]
    assert (unfenced(door.host.repo), unfenced(tree)) == before


@pytest.mark.spec("R-I50", "R-I49")
async def test_a_base_checkout_with_changes_in_the_way_stops_the_merge_until_they_are_gone(door: Door):
    repo = door.host.repo
    repo.write("readme", "a person's\n")
    assert (await door.spawn())["status"] == "succeeded"
    row = (await door.api.get("/api/workspaces/sp_ada")).json()
    tree = Repo(Path(row["worktreePath"]))
    assert (tree.path / "readme").read_text() == "one\ntwo\nthree\n"
    head = tree.commit("readme", "an agent's\n")
    tip, status = repo.tip("main"), repo.git("status", "--porcelain")
    command = await door.merge("sp_ada")
    assert command["status"] == "failed"
    for said in ("main is checked out", str(repo.path), "readme", "commit or stash"):
        assert said in command["error"]
    assert (repo.tip("main"), repo.git("status", "--porcelain")) == (tip, status)
    assert (repo.path / "readme").read_text() == "a person's\n"
    assert (await door.api.get("/api/workspaces/sp_ada")).json()["status"] == "review_requested"
    assert (await door.api.get("/api/merge-leases")).json() == []
    repo.git("checkout", "-q", "--", "readme")
    assert (await door.merge("sp_ada"))["result"]["mergedSha"] == head
    assert (repo.path / "readme").read_text() == "an agent's\n"


async def test_a_source_on_no_branch_spawns_and_says_at_the_merge_why_not(door: Door):
    door.host.repo.git("switch", "-q", "--detach")
    assert (await door.spawn())["status"] == "succeeded"
    row = (await door.api.get("/api/workspaces/sp_ada")).json()
    assert "baseRef" not in row
    tree = Repo(Path(row["worktreePath"]))
    tree.commit("notes", "a\n")
    before = (door.host.repo.fingerprint(), tree.fingerprint())
    command = await door.merge("sp_ada")
    assert command["status"] == "failed"
    assert "not on a branch" in command["error"]
    assert "by hand" in command["error"]
    assert (door.host.repo.fingerprint(), tree.fingerprint()) == before
