"""What a simulated run must not touch: sockets, files, threads and processes have a time and an order of their own.

Python announces most of it to audit hooks (`ANNOUNCED`); ours raises while a simulation runs, in the very call, so the
traceback names the culprit. An audit hook cannot be taken away again, but it does nothing outside of simulations. What
is not announced (`SILENT`) is replaced for the time of a run. Rules:

1. Only the thread that simulates is concerned: those of fixtures and plugins are not.
2. Whoever swallows the error, the run is told of it.
3. Files are free for those who read source code (`READERS`), for tracebacks and imports do it; so are databases in
   memory.

A name that was taken earlier, as by `from time import sleep`, keeps its old meaning.
"""

from __future__ import annotations

import _thread
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ._trio import ThreadCache

__all__ = ["SimulationLeak", "nothing_real"]

FILES = (
    "open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.scandir", "os.symlink", "os.truncate", "os.utime", "tempfile.mkdtemp", "tempfile.mkstemp",
)  # fmt: skip
SOCKETS = ("socket.__new__", "socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg")
NAMES = ("socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname", "socket.getnameinfo")
PROCESSES = (
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pty.spawn",
    "subprocess.Popen",
)  # fmt: skip
ANNOUNCED = {
    **dict.fromkeys(FILES, "a file"),
    **dict.fromkeys(SOCKETS, "a socket"),
    **dict.fromkeys(NAMES, "a name server"),
    **dict.fromkeys(PROCESSES, "a process"),
    "sqlite3.connect": "a database",
}
SILENT: tuple[tuple[Any, str, str], ...] = (
    *((os, name, "a file") for name in ("access", "lstat", "mkfifo", "readlink", "stat", "statvfs")),
    *((os, name, "a pipe") for name in ("pipe", "pipe2")),
    (_thread, "start_new_thread", "a thread"),
    (threading.Thread, "start", "a thread"),
    (ThreadCache, "start_thread_soon", "a thread"),
    (time, "sleep", "time to pass, which here only trio.sleep does"),
)
READERS = {
    "_frozen_importlib", "_frozen_importlib_external", "_pytest", "bdb", "coverage", "debugpy", "hypothesis", "importlib",
    "inspect", "linecache", "pluggy", "pydevd", "tokenize",
}  # fmt: skip
"""Who may have files, in the middle of simulated code: imports, tracebacks, and what traces code."""

SIMULATED = ("trio.", "relay.actors.", "relay.testing.")
"""Who calls simulated code."""

_here = threading.local()
"""`told`: whom this thread, which simulates, tells of a leak."""

_installed = False


class SimulationLeak(Exception):
    """Simulated code reached for something real; the traceback shows where."""


@contextmanager
def nothing_real(told: Callable[[SimulationLeak], None]) -> Iterator[None]:
    """Within the block, whatever would leave the simulation raises `SimulationLeak`, of which `told` is told, too."""
    global _installed
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True
    before = getattr(_here, "told", None)
    with ExitStack() as stack:
        for owner, name, what in SILENT:
            if hasattr(owner, name):
                stack.enter_context(_refused(owner, name, what))
        stack.enter_context(_databases_refused())
        stack.callback(setattr, _here, "told", before)
        _here.told = told
        yield


@contextmanager
def _refused(owner: Any, name: str, what: str) -> Iterator[None]:
    usual = getattr(owner, name)

    @functools.wraps(usual)
    def refuse(*given: Any, **named: Any) -> Any:
        if getattr(_here, "told", None) is not None and not _innocent(what):
            raise _leak(what, given)
        return usual(*given, **named)

    setattr(owner, name, refuse)
    try:
        yield
    finally:
        setattr(owner, name, usual)


@contextmanager
def _databases_refused() -> Iterator[None]:
    """Also those that are opened with apsw, which announces nothing but calls hooks."""
    apsw = sys.modules.get("apsw")
    if apsw is None:
        yield
        return
    apsw.connection_hooks.append(_opened)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(_opened)


def _opened(connection: Any) -> None:
    if connection.filename and getattr(_here, "told", None) is not None:
        raise _leak("a database", (connection.filename,))


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ANNOUNCED or getattr(_here, "told", None) is None or _innocent(ANNOUNCED[event]):
        return
    if event == "sqlite3.connect" and _in_memory(arguments[0]):
        return
    raise _leak(ANNOUNCED[event], arguments)


def _in_memory(database: object) -> bool:
    name = str(database)
    return name in {"", ":memory:"} or name.startswith("file::memory:") or "mode=memory" in name


def _leak(what: str, arguments: tuple[Any, ...]) -> SimulationLeak:
    named = (
        f" ({os.fsdecode(arguments[0])})"
        if arguments and isinstance(arguments[0], str | bytes | os.PathLike)
        else ""
    )
    leak = SimulationLeak(
        f"simulated code wants {what}{named}; give it a stand-in, or test it without @simulate"
    )
    _here.told(leak)
    return leak


def _innocent(what: str) -> bool:
    """Whether it is a file for a reader that simulated code has called."""
    frame: Any = sys._getframe(2) if what == "a file" else None  # noqa: SLF001 - the documented way to look at callers
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if f"{module}.".startswith(SIMULATED):
            return False
        if module.partition(".")[0] in READERS:
            return True
        frame = frame.f_back
    return False
