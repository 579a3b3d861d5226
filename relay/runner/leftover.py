"""The agent processes that an earlier life of the runner left behind.

A runner that is killed cannot end its agent. So it writes down which process that is, and the next life ends it before
it starts another one. A process is known by its id and its start, for ids are used again; what it has started in turn,
and maybe outlived it, by the session id in its environment.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import trio

from relay._files import read_json, write_json

__all__ = ["end_leftover", "record_agent"]

log = logging.getLogger(__name__)

PROC = Path("/proc")
GONE_WITHIN = 5.0  # seconds that killed processes get to be gone


def record_agent(path: Path, pid: int, session_id: str) -> None:
    """Write down which process the agent is. A disk that refuses must not end the agent."""
    try:
        write_json(path, {"pid": pid, "tick": _tick(pid), "session": session_id})
    except OSError as error:
        log.error("the agent's process cannot be written down: %s", error)


async def end_leftover(path: Path) -> None:
    """Kill what is left of the agent on record, and nothing else."""
    noted = read_json(path)
    if not isinstance(noted, dict):
        return
    with trio.move_on_after(GONE_WITHIN):
        while left := set(_left(noted)):
            log.warning("processes of an earlier life are still there and are killed: %s", sorted(left))
            for pid in left:
                _kill(pid)
            await trio.sleep(0.05)
    path.unlink(missing_ok=True)


def _left(noted: dict[str, object]) -> Iterator[int]:
    pid, tick, session = noted.get("pid"), noted.get("tick"), noted.get("session")
    if isinstance(pid, int) and tick is not None and _tick(pid) == tick:
        yield pid
    if isinstance(session, str) and session:
        yield from _tagged(f"AGENT_RELAY_PROVIDER_SESSION_ID={session}".encode())


def _tagged(variable: bytes) -> Iterator[int]:
    """Running processes with this in their environment; none on hosts without /proc."""
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        try:
            if entry.name.isdecimal() and variable in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except OSError:
            continue


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _tick(pid: int) -> str | None:
    """When a running process was started, in the kernel's ticks; None when it is gone or cannot be asked."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
