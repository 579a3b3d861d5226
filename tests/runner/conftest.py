"""Fixtures of the runner's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from runnerkit import TOKEN, Host, Relay, ServerProcess


@pytest.fixture
def host(tmp_path: Path, server: Any) -> Iterator[Host]:
    """A host beside a server."""
    folder = tmp_path / "host"
    folder.mkdir()
    host = Host(folder, server.base_url, server.token)
    yield host
    host.end()


@pytest.fixture
def relay(api: httpx2.AsyncClient) -> Relay:
    return Relay(api)


@pytest.fixture
async def killable(tmp_path: Path) -> AsyncIterator[tuple[ServerProcess, Host, Relay]]:
    """A server that may be killed, and a host beside it."""
    home, folder = tmp_path / "relay", tmp_path / "host"
    home.mkdir()
    folder.mkdir()
    server = ServerProcess(home)
    host = Host(folder, server.url, TOKEN)
    try:
        await server.start()
        headers = {"X-Agent-Relay-Token": TOKEN}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as http:
            yield server, host, Relay(http)
    finally:
        host.end()
        server.kill()
