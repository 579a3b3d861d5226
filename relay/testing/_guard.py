"""What a simulated run must not touch: sockets, files, threads and processes have a time and an order of their own.

Python announces them to audit hooks; ours raises while a simulation runs, in the very call, so the traceback names the
culprit. An audit hook cannot be taken away again, but it does nothing outside of simulations.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["SimulationLeak", "nothing_real"]

REFUSED = {
    "socket.__new__": "a socket",
    "socket.connect": "a connection",
    "open": "a file",
    "subprocess.Popen": "a process",
    "os.fork": "a process",
    "os.posix_spawn": "a process",
}
READERS = ("importlib", "_frozen_importlib", "linecache", "tokenize", "inspect", "_pytest", "pluggy")
"""Modules that read source code."""

_watching = False
_installed = False


class SimulationLeak(Exception):
    """Simulated code reached for something real; the traceback shows where."""


@contextmanager
def nothing_real() -> Iterator[None]:
    """Within the block, whatever would leave the simulation raises `SimulationLeak`."""
    global _watching, _installed
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True
    before, _watching = _watching, True
    start, threading.Thread.start = threading.Thread.start, _refuse_thread  # type: ignore[method-assign]
    try:
        yield
    finally:
        _watching = before
        threading.Thread.start = start  # type: ignore[method-assign]


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching or event not in REFUSED:
        return
    if event == "open" and _reads_source():
        return
    raise _leak(f"{REFUSED[event]} ({arguments[0]})" if event == "open" else REFUSED[event])


def _refuse_thread(self: threading.Thread) -> None:
    raise _leak(f"a thread ({self.name})")  # before 3.12 no audit event tells of it


def _leak(what: str) -> SimulationLeak:
    return SimulationLeak(f"simulated code wants {what}; give it a stand-in, or test it without @simulate")


def _reads_source() -> bool:
    frame: Any = sys._getframe(2)  # noqa: SLF001 - the documented way to look at callers
    for _ in range(4):
        if frame is None:
            return False
        if str(frame.f_globals.get("__name__", "")).startswith(READERS):
            return True
        frame = frame.f_back
    return False
