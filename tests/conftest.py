"""For all tests: an end to what hangs, and a real relay server on a port of this machine.

A test that hangs in spite of its limits in virtual time, because the guard that it shows is broken, fails after `LIMIT`
real seconds, and says where its tasks wait. Nothing else here looks at a clock.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx2
import pytest
import trio
from trio._core import _run

from relay.http import Settings, serve
from relay.http.hosting import Hosting

LIMIT = 300.0  # seconds of the machine's clock: many times what the slowest test needs on a slow machine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    before = signal.signal(signal.SIGALRM, _end_what_hangs)
    signal.setitimer(signal.ITIMER_REAL, LIMIT, 1.0)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end_what_hangs(number: int, frame: object) -> None:
    """Fail what runs, or else what waits: every task that is not trio's own, whatever shields it."""
    if trio.lowlevel.in_trio_run() and not trio.lowlevel.in_trio_task():
        trio.lowlevel.current_trio_token().run_sync_soon(_end_tasks, idempotent=True)
    else:
        pytest.fail(f"no end after {LIMIT:g} s")


def _end_tasks() -> None:
    tasks = [_run.GLOBAL_RUN_CONTEXT.runner.main_task]
    for task in tasks:
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    where = "\n".join(f"  {task.name}: {_stack(task)}" for task in tasks)

    def fail(*_: object) -> None:
        pytest.fail(f"no end after {LIMIT:g} s; its tasks wait here:\n{where}", pytrace=False)

    for task in tasks:
        if task._abort_func is not None:
            task._attempt_abort(fail)


def _stack(task: trio.lowlevel.Task) -> str:
    return " > ".join(
        f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in task.iter_await_frames()
    )


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
