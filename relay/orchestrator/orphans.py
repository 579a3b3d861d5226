"""Agents whose runner is gone.

An agent leads a session of its own, so that its runner can end all of it; a runner that is killed cannot. What it wrote
down of its agent is read here, and whatever of that still runs is killed: it must not work on in a worktree that is
taken away. Where the runner is started again, it does this itself before it starts another agent.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import trio

from relay._files import read_json

from ._processes import Life, life_of, tagged

__all__ = ["end_agent", "is_gone"]

log = logging.getLogger(__name__)

GONE_WITHIN = 2.0  # seconds
POLL = 0.05
PASSES = 3
"""How often to look: something may be started while others are killed."""
TAG = "AGENT_RELAY_PROVIDER_SESSION_ID"


def end_agent(state: Path) -> None:
    """Kill the agent of the runner that kept its state here, and what it has started. Never touches a later process."""
    noted = read_json(state / "agent.json")
    if not isinstance(noted, dict):
        return
    for _ in range(PASSES):
        left = _left(noted)
        if not left:
            return
        log.warning("the runner is gone, what is left of its agent is killed: %s", sorted(left))
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


async def is_gone(state: Path) -> bool:
    """Whether nothing of that agent runs any more; what was killed has a moment to vanish."""
    noted = read_json(state / "agent.json")
    if not isinstance(noted, dict):
        return True
    with trio.move_on_after(GONE_WITHIN):
        while _left(noted):
            end_agent(state)
            await trio.sleep(POLL)
    return not _left(noted)


def _left(noted: dict[str, object]) -> set[int]:
    pid, tick, session = noted.get("pid"), noted.get("tick"), noted.get("session")
    left = set(tagged(TAG, session)) if isinstance(session, str) and session else set()
    if isinstance(pid, int) and isinstance(tick, str) and life_of(pid, tick) is Life.ALIVE:
        left.add(pid)
    return left
