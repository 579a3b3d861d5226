"""Servers for tests of the edge: the application alone, and the fleet behind it for callers with fewer rights."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx2
import pytest
from rawhttp import serving

from relay.actors import open_system
from relay.fleet import open_fleet
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator, Principal
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.upstream import open_upstream
from relay.store import open_store

Clients = Callable[[str], httpx2.AsyncClient]


@asynccontextmanager
async def _clients(*scopes: str) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]:
    """A client that may do everything, and one that has only `scopes`, of the same server."""
    authenticator = Authenticator({"root": ROOT, "limited": Principal("limited", frozenset(scopes))})
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
        open_upstream("root") as upstream,
    ):
        edge = Edge(fleet, table(), authenticator, upstream, answer_within=10.0)
        async with serving(Guard(edge)) as port:
            url = f"http://127.0.0.1:{port}"
            async with (
                httpx2.AsyncClient(base_url=url, headers={"X-Agent-Relay-Token": "root"}) as root,
                httpx2.AsyncClient(base_url=url, headers={"X-Agent-Relay-Token": "limited"}) as limited,
            ):
                yield root, limited


@pytest.fixture
def limited_to() -> Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]]:
    return _clients
