"""A whole fleet on the in-process store, under virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fleetlog import Log
from trio.testing import MockClock

from relay.actors import System, open_system, virtual_wall
from relay.fleet import Fleet, open_fleet
from relay.store import Store, open_store


@pytest.fixture
async def system(autojump_clock: MockClock) -> AsyncIterator[System]:
    async with open_system(wall=virtual_wall(), seed=1) as system:
        yield system


@pytest.fixture
async def store(system: System) -> AsyncIterator[Store]:
    async with open_store(None, system) as store:
        yield store


@pytest.fixture
async def fleet(system: System, store: Store) -> AsyncIterator[Fleet]:
    async with open_fleet(system, store) as fleet:
        yield fleet


@pytest.fixture
def log(store: Store) -> Log:
    return Log(store)
