"""Fixtures of the host daemon's tests."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from checkouts import Repo, new_repository
from hosts import Host, opened


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    path = tmp_path / "projects"
    path.mkdir()
    return path


@pytest.fixture
def empty_repo(base_dir: Path) -> Callable[[str], Repo]:
    return lambda name: new_repository(base_dir / name)


@pytest.fixture
def repo(base_dir: Path) -> Repo:
    """A repository on `main` with one commit."""
    repo = new_repository(base_dir / "repo")
    repo.commit("readme", "one\ntwo\nthree\n")
    return repo


@pytest.fixture
def origin(repo: Repo, tmp_path: Path) -> Repo:
    """A bare remote that the repository's `main` follows."""
    path = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(repo.path), str(path)], check=True)
    repo.git("remote", "add", "origin", str(path))
    repo.git("fetch", "-q", "origin")
    repo.git("branch", "-q", "--set-upstream-to=origin/main", "main")
    return Repo(path)


@pytest.fixture
async def host(server: Any, repo: Repo, base_dir: Path, tmp_path: Path) -> AsyncIterator[Host]:
    """A host whose daemon the test starts, beside a server."""
    async with opened(tmp_path / "host", base_dir, repo, server.base_url, server.token) as host:
        yield host
