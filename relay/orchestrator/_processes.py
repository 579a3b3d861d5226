"""Processes by evidence: a pid alone is no identity, a pid with its start time is."""

from __future__ import annotations

import enum
import os
import signal
from pathlib import Path

import trio

__all__ = ["Life", "life_of", "start_tick", "stop_group"]

POLL = 0.05  # seconds


class Life(enum.Enum):
    """Unknown never leads to anything destructive (2.6-3)."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


def start_tick(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone, a zombie, or cannot be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def life_of(pid: int, tick: int | None) -> Life:
    """Whether the process that had this pid and start time lives."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return Life.DEAD
        except PermissionError:
            return Life.UNKNOWN
        return Life.ALIVE
    now = start_tick(pid)
    if now is None:
        return Life.DEAD
    return Life.ALIVE if tick is None or now == tick else Life.DEAD


async def stop_group(pid: int, tick: int | None, grace: float) -> bool:
    """Ask a process group to end, then make it; whether its leader is gone. Never touches a later process."""
    for sent, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 2.0)):
        if life_of(pid, tick) is Life.DEAD:
            return True
        try:
            os.killpg(pid, sent)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        with trio.move_on_after(wait):
            while life_of(pid, tick) is not Life.DEAD:
                await trio.sleep(POLL)
    return life_of(pid, tick) is Life.DEAD
