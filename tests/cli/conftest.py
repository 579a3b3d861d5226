"""A server process of its own per module, and the verbs run against it in this process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import Run, Served, invoke, serving


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Served]:
    with serving(home) as served:
        yield served


@pytest.fixture
def run(server: Served, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("AGENT_RELAY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RELAY_HOME", str(server.home))
    monkeypatch.setenv("AGENT_RELAY_URL", server.url)
    return invoke


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a server; port 9 (discard) is not served."""
    for name in [name for name in os.environ if name.startswith("AGENT_RELAY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RELAY_HOME", str(tmp_path))
    monkeypatch.setenv("AGENT_RELAY_URL", "http://127.0.0.1:9")
    (tmp_path / "token").write_text("not-used-by-anybody")
    (tmp_path / "token").chmod(0o600)
    return tmp_path
