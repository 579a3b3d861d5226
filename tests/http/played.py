"""Histories played to a real server, on real sockets and a real database, and compared with a model of it.

A history is a list of steps, `(verb, *arguments)`; each is done by the method of that name. `restart` ends one server
and starts the next on the same database. Time is virtual: it passes as quickly as everybody is done with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import trio
from rawhttp import serving
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.actors import open_system, virtual_wall
from relay.fleet import Fleet, open_fleet
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.upstream import open_upstream
from relay.store import open_store

__all__ = ["Played", "Step"]

A_BEAT = 55.0  # seconds between the heartbeats of those who send some
STEP = 5.0  # seconds the clock is moved at once: more would be taken for a machine that slept

Step = tuple[Any, ...]


class Played:
    """Does each step to the server and to the model, and compares the answers."""

    prelude: tuple[Step, ...] = ()

    def __init__(self, database: Path) -> None:
        self.database = database
        self.api: httpx2.AsyncClient
        self.fleet: Fleet
        self.steps = 0

    async def run(self, history: list[Step]) -> None:
        rest = iter([*self.prelude, *history])
        goes_on = True
        while goes_on:
            async with self._server():
                self.started()
                goes_on = await self._until_restart(rest)
                await self.compare_everything()

    def started(self) -> None:
        """A server begins."""

    async def compare(self) -> None:
        """After each step."""

    async def compare_everything(self) -> None:
        """Before each server ends."""

    async def beats(self) -> None:
        """Whoever is there says so."""

    async def pass_time(self, seconds: float) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        end = trio.current_time() + seconds
        beat = 0.0
        while (left := end - trio.current_time()) > 0:
            clock.jump(min(STEP, left))
            beat += STEP
            await wait_all_tasks_blocked()  # until timers have rung, there is nothing to be done
            await self.fleet.system.idle()
            if beat >= A_BEAT or left <= STEP:
                beat = 0.0
                await self.beats()

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[None]:
        async with (
            open_system(wall=virtual_wall()) as system,
            open_store(self.database, system) as store,
            open_fleet(system, store) as self.fleet,
            open_upstream("root") as upstream,
        ):
            edge = Edge(self.fleet, table(), Authenticator({"root": ROOT}), upstream, answer_within=10.0)
            async with (
                serving(Guard(edge)) as port,
                httpx2.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", headers={"X-Agent-Relay-Token": "root"}
                ) as self.api,
            ):
                yield

    async def _until_restart(self, rest: Iterator[Step]) -> bool:
        for verb, *arguments in rest:
            if verb == "restart":
                return True
            self.steps += 1
            try:
                await getattr(self, verb.replace(" ", "_"))(*arguments)
                await self.fleet.system.idle()
                await self.compare()
            except AssertionError as error:
                error.add_note(f"in step {self.steps}: {verb} {arguments}")
                raise
        return False
