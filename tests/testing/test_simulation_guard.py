"""Nothing real is reached from a simulated run, and whoever hides that it was tried, hides it in vain."""

# Functions of `os` that are looked up when they are called are what this is about.
# ruff: noqa: PLW0108, PTH102, PTH104, PTH107, PTH115, PTH208, SIM115

from __future__ import annotations

import _thread
import os
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import attrs
import pytest
import trio

from relay.actors import Actor, ActorFailed, Ask, Context, Tell, open_system
from relay.testing import Faults, Sim, SimulationLeak
from relay.testing._choices import Chance, Record
from relay.testing._run import Run, run_once

HERE = Path(__file__)
NO_FAULTS = Faults()


def run(scenario: Any, source: Any = None) -> Run:
    return run_once(scenario, source or Record([]), faults=NO_FAULTS)


REACHES: dict[str, Callable[[], object]] = {
    "socket": lambda: socket.socket(),
    "addresses": lambda: socket.getaddrinfo("localhost", 80),
    "name": lambda: socket.gethostbyname("localhost"),
    "file": lambda: HERE.read_text(),
    "exists": lambda: HERE.exists(),
    "lstat": lambda: HERE.is_symlink(),
    "readlink": lambda: os.readlink("/proc/self/exe"),
    "listing": lambda: os.listdir("."),
    "scan": lambda: list(os.scandir(".")),
    "directory": lambda: os.mkdir("never"),
    "renaming": lambda: os.rename("never", "never-ever"),
    "removing": lambda: os.remove("never"),
    "temporary file": lambda: tempfile.NamedTemporaryFile(),
    "temporary directory": lambda: tempfile.mkdtemp(),
    "sqlite": lambda: sqlite3.connect("never.db"),
    "apsw": lambda: apsw.Connection("/dev/null"),
    "pipe": lambda: os.pipe(),
    "shell": lambda: os.system("true"),
    "process": lambda: subprocess.run(["true"]),
    "fork": lambda: os.fork(),
    "thread": lambda: threading.Thread(target=print).start(),
    "bare thread": lambda: _thread.start_new_thread(print, ()),
    "sleep": lambda: time.sleep(0),
}


@pytest.mark.parametrize("reach", list(REACHES))
def test_what_is_real_is_refused_where_it_is_reached_for(
    reach: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(sim: Sim) -> None:
        REACHES[reach]()

    ended = run(scenario)
    assert isinstance(ended.error, SimulationLeak)
    names = []
    traceback = ended.error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "<lambda>" in names
    assert not list(tmp_path.iterdir())


def test_after_a_run_everything_is_as_it_was() -> None:
    async def nothing(sim: Sim) -> None: ...

    before = [os.stat, os.pipe, time.sleep, _thread.start_new_thread, threading.Thread.start]
    hooks = list(apsw.connection_hooks)
    assert run(nothing).error is None
    assert [os.stat, os.pipe, time.sleep, _thread.start_new_thread, threading.Thread.start] == before
    assert apsw.connection_hooks == hooks
    assert HERE.exists()


def test_databases_in_memory_are_nothing_real() -> None:
    async def scenario(sim: Sim) -> None:
        for database in (sqlite3.connect(":memory:"), apsw.Connection(":memory:")):
            database.execute("create table t (x)")
            database.close()

    assert run(scenario).error is None


def test_a_traceback_may_be_printed() -> None:
    async def scenario(sim: Sim) -> None:
        import traceback

        try:
            raise ValueError
        except ValueError:
            assert "raise ValueError" in traceback.format_exc()

    assert run(scenario).error is None


class Opening:
    """What the opener understands."""


@attrs.frozen
class Open(Tell[Opening]):
    pass


@attrs.frozen
class OpenNow(Ask[Opening, None]):
    pass


class Opener(Actor[Opening]):
    def handle(self, message: Open | OpenNow, context: Context[Opening]) -> None:
        HERE.read_text()


async def in_an_actor(sim: Sim) -> None:
    async with open_system() as system:
        opener = await system.spawn(Opener)
        opener.tell(Open())
        await trio.sleep(10)


async def for_an_asker(sim: Sim) -> None:
    async with open_system() as system:
        opener = await system.spawn(Opener)
        try:
            await opener.ask(OpenNow())
        except ActorFailed:
            pass


async def in_the_scenario(sim: Sim) -> None:
    try:
        HERE.read_text()
    except Exception:
        pass


@pytest.mark.parametrize("scenario", [in_an_actor, for_an_asker, in_the_scenario])
def test_whoever_swallows_a_leak_the_run_fails_with_it(scenario: Any) -> None:
    for source in (Record([]), Chance(1)):
        assert isinstance(run(scenario, source).error, SimulationLeak)


def test_also_an_idle_thread_of_trio_is_refused() -> None:
    trio.run(trio.to_thread.run_sync, list)  # from now on there is one
    used: list[int] = []

    async def scenario(sim: Sim) -> None:
        await trio.to_thread.run_sync(used.append, 1)

    assert isinstance(run(scenario).error, SimulationLeak)
    assert not used


def test_threads_of_others_are_left_alone() -> None:
    """A fixture's, say: it opens, looks and starts whatever it likes while a run goes on."""
    go, done = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def background() -> None:
        go.wait(10)
        try:
            HERE.read_text()
            HERE.exists()
            socket.socket().close()
            threading.Thread(target=list).start()
            time.sleep(0)
        except BaseException as error:
            failed.append(error)
        done.set()

    thread = threading.Thread(target=background)
    thread.start()

    async def scenario(sim: Sim) -> None:
        go.set()
        assert done.wait(10)

    assert run(scenario).error is None
    thread.join()
    assert not failed
