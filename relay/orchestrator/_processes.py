"""Processes by evidence: a pid alone is no identity, a pid with its start time on this boot of the host is.

Whether one lives has three answers; `UNKNOWN` never leads to anything destructive (2.6-3, R-I42).
"""

from __future__ import annotations

import enum
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import trio

__all__ = ["Life", "boot", "environment", "exit_code", "life_of", "start_tick", "stop_group", "tagged"]

PROC = Path("/proc")
POLL = 0.05  # seconds
KILL_WITHIN = 2.0  # seconds that a killed process has to vanish


class Life(enum.Enum):
    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


def boot() -> str:
    """What tells this boot of the host from all others; empty where the host does not say."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_tick(pid: int) -> str | None:
    """When the process started, as an opaque text; None when it is gone or a zombie. Raises `OSError`.

    A zombie of which threads are left is not at its end yet, and nobody can wait for it.
    """
    if not (PROC / "self/stat").exists():
        return _start_by_ps(pid)
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, threads, started = fields[0], fields[17], fields[19]
    return None if state == "X" or (state == "Z" and threads == "1") else started


def _start_by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    state, _, started = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def life_of(pid: int, tick: str | None) -> Life:
    """Whether the process that had this pid and start time lives."""
    try:
        now = start_tick(pid)
    except (OSError, subprocess.SubprocessError):
        return Life.UNKNOWN
    if now is None:
        return Life.DEAD
    if tick is None:
        return Life.UNKNOWN
    return Life.ALIVE if now == tick else Life.DEAD


def exit_code(pid: int) -> int | None:
    """How a child of ours ended, negative for a signal; None while it runs, and for what is no child of ours."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


def tagged(name: str, value: str) -> Iterator[int]:
    """The running processes that were started with this environment variable. Empty on hosts without /proc."""
    wanted = os.fsencode(f"{name}={value}")
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        try:
            if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except OSError:
            continue


def environment(pid: int) -> dict[str, str]:
    """What the process was started with; empty when it cannot be read."""
    try:
        pairs = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    texts = (os.fsdecode(pair).partition("=") for pair in pairs if b"=" in pair)
    return {name: value for name, _, value in texts}


async def stop_group(pid: int, tick: str | None, grace: float) -> bool:
    """Ask a process group to end, then make it; whether its leader is gone. Never touches a later process."""
    for sent, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_WITHIN)):
        match life_of(pid, tick):
            case Life.DEAD:
                return True
            case Life.UNKNOWN:
                return False
        try:
            os.killpg(pid, sent)
        except ProcessLookupError:
            break
        except PermissionError:
            return False
        with trio.move_on_after(wait):
            while life_of(pid, tick) is not Life.DEAD:
                await trio.sleep(POLL)
    return life_of(pid, tick) is Life.DEAD
