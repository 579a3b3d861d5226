"""A whole fleet on the in-process store, under virtual time: every async test here runs on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
import trio
from fleetlog import Log
from trio.testing import MockClock

from relay.actors import System, open_system, virtual_wall
from relay.fleet import Fleet, open_fleet
from relay.store import Store, open_store


def run(*arguments: Any, clock: trio.abc.Clock | None = None, **options: Any) -> Any:
    """As `trio.run`, on a virtual clock."""
    return trio.run(*arguments, clock=clock or MockClock(autojump_threshold=0), **options)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run))


@pytest.fixture
async def system() -> AsyncIterator[System]:
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
