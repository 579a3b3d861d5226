"""A real relay server on a port of this machine, for tests that speak HTTP to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx2
import pytest
import trio

from relay.http import Settings, serve
from relay.http.hosting import Hosting


@attrs.frozen
class Server:
    """A running server. `port` is that of `base_url`; `token` is the root token."""

    base_url: str
    port: int
    token: str
    database: Path | None
    home: Path


@asynccontextmanager
async def running_server(database: Path | None, home: Path, **settings: Any) -> AsyncIterator[Server]:
    """Serves on a free port until the block is left; then stops it gracefully."""
    stop = trio.Event()
    hosting = settings.pop("hosting", Hosting(grace=0.5))
    chosen = Settings(database=database, home=home, port=0, hosting=hosting, **settings)
    async with trio.open_nursery() as nursery:
        ready = await nursery.start(partial(serve, chosen, stop=stop))
        yield Server(ready.base_url, int(ready.base_url.rpartition(":")[2]), ready.token, database, home)
        stop.set()


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server on an SQLite file of its own."""
    monkeypatch.delenv("AGENT_RELAY_TOKEN", raising=False)
    async with running_server(tmp_path / "relay.db", tmp_path / "home") as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client of `server` with its root token; paths start with `/api`."""
    headers = {"X-Agent-Relay-Token": server.token}
    async with httpx2.AsyncClient(base_url=server.base_url, headers=headers, trust_env=False) as client:
        yield client
