"""Whether the host has room for one more agent (2.5-3). Off with `AGENT_RELAY_SPAWN_ADMISSION_DISABLED=1`."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from ._problems import Refused
from .config import Config

__all__ = ["head_room", "shortage"]

LOOK = 2.0  # seconds between two looks


def shortage(config: Config) -> str | None:
    """What there is too little of; None when there is room, or when the host does not say."""
    free = _available_memory()
    if free is not None and free < config.free_memory:
        return f"{free // 2**20} MiB of memory are free, an agent wants {config.free_memory // 2**20}"
    try:
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return None
    return f"the load per processor is {load:.1f}" if load > config.load_per_cpu else None


def _available_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


async def head_room(config: Config) -> None:
    """Waits until there is room; raises `Refused` when there is none for too long."""
    reason = None
    with trio.move_on_after(config.admission_limit):
        while config.admission and (reason := shortage(config)) is not None:
            await trio.sleep(LOOK)
        return
    raise Refused(
        f"host-headroom-timeout: {reason} after {config.admission_limit:.0f} s; stop an agent, or wait"
    )
