"""A store of each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from storekit import Outcomes

from relay.actors import System, open_system, virtual_wall
from relay.store import Store, open_store


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system(wall=virtual_wall()) as system:
        yield system


@pytest.fixture(params=["file", "in-process"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "relay.db" if request.param == "file" else None


@pytest.fixture
async def store(path: Path | None, system: System) -> AsyncIterator[Store]:
    async with open_store(path, system) as store:
        yield store


@pytest.fixture
def outcomes(store: Store) -> Outcomes:
    return Outcomes(store)
