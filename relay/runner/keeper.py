"""The agent's process, from its first start to its last end (1.19, 3.1).

    starting  ready -> running           ended, or not ready in time -> over
    running   ended unasked -> pausing   failed -> over                     restart asked -> starting
    pausing   waited -> starting         too many ends -> over              restart asked -> starting
    any       end asked -> over

An end that was asked for is no accident: it counts for nothing. There is never more than one process, and none is
started once the end was asked for.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from .adapter import AgentGone, Exit
from .command import CommandAgent, open_agent
from .environment import agent_environment
from .leftover import record_agent
from .options import Options

__all__ = ["Accidents", "Keeper"]

log = logging.getLogger(__name__)

WINDOW = 120.0  # seconds in which ends are counted
RAPID = 30.0  # seconds: who lived shorter has ended rapidly
RAPID_ALLOWED = 3
STEP, SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 0.5, 10.0  # seconds

OVER, GIVEN_UP = 0, 1  # exit codes of a runner


class Accidents:
    """When the agent has ended unasked, and what follows from that (1.19-4)."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque()

    def pause(self, now: float, lived: float) -> float | None:
        """It ended at `now`, having `lived` so many seconds. Seconds until it may be started again; None for never."""
        self._ends.append(now)
        while self._ends[0] < now - WINDOW:
            self._ends.popleft()
        count = len(self._ends)
        if lived < RAPID and count > RAPID_ALLOWED:
            return None
        return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, STEP * count))


class Keeper:
    """Keeps the agent running.

    `beside` goes on while one process lives, given that and its session id; it returns when the process has ended.
    `leave` is called before a process is ended on request.
    """

    def __init__(
        self,
        options: Options,
        beside: Callable[[CommandAgent, str], Awaitable[None]],
        leave: Callable[[], None],
    ) -> None:
        self._options = options
        self._beside = beside
        self._leave = leave
        self._accidents = Accidents()
        self._process: CommandAgent | None = None
        self._replaced: CommandAgent | None = None  # its end is wanted
        self._hurry = trio.Event()
        self._news = trio.Event()
        self.ending = False
        self.over = trio.Event()
        self.agent: CommandAgent | None = None

    async def run(self) -> int:
        """Start the agent, and again while that makes sense; the exit code for the runner."""
        try:
            while (code := await self._round()) is None:
                pass
            return code
        finally:
            self.over.set()
            self._tell()

    async def running(self) -> CommandAgent:
        """The agent, once it is ready. Raises `AgentGone` when it never will be."""
        while self.agent is None:
            if self.ending or self.over.is_set():
                raise AgentGone("the agent is not running")
            await self._news.wait()
        return self.agent

    async def end(self, grace: float) -> None:
        """End the agent within `grace` seconds and a few more, for good. A second call may hurry the first."""
        self.ending = True
        self._hurry.set()
        self._tell()
        await self._shut_down(grace)
        await self.over.wait()

    async def restart(self, grace: float) -> None:
        """Another process instead of this one; returns when it is ready. Raises `AgentGone`."""
        old = self._replaced = self._process
        self._hurry.set()
        await self._shut_down(grace)
        while self.agent is None or self.agent is old:
            if self.over.is_set():
                raise AgentGone("the agent could not be started again")
            await self._news.wait()

    async def _shut_down(self, grace: float) -> None:
        self._leave()
        if self._process is not None:
            await self._process.shutdown(grace)

    async def _round(self) -> int | None:
        """One life, and the pause after it; the exit code when that was the last."""
        self._replaced, self._hurry = None, trio.Event()
        began = trio.current_time()
        end = await self._one_life()
        if self.ending:
            return OVER
        if self._replaced is not None:
            return None
        log.warning("the agent ended: %s", end)
        if end.status == "error":
            return GIVEN_UP
        if not self._options.restarts:
            return OVER
        return await self._pause(trio.current_time() - began)

    async def _pause(self, lived: float) -> int | None:
        pause = self._accidents.pause(trio.current_time(), lived)
        if pause is None:
            log.error("the agent ends too often and is given up")
            return GIVEN_UP
        with trio.move_on_after(pause):
            await self._hurry.wait()
        return OVER if self.ending else None

    async def _one_life(self) -> Exit:
        try:
            return await self._process_life()
        except AgentGone as error:
            if not self._is_leaving:
                log.error("%s", error)
            return Exit("error")
        finally:
            self.agent = self._process = None

    async def _process_life(self) -> Exit:
        options = self._options
        session_id = str(uuid.uuid4())
        environment = agent_environment(options, session_id, os.environ)
        async with open_agent(options, environment) as agent:
            record_agent(options.state_dir / "agent.json", agent.pid, session_id)
            self._process = agent
            if self.ending:
                return Exit("offline")
            await agent.hello(options, session_id)
            if not self._is_leaving:
                self.agent = agent
                self._tell()
                await self._beside(agent, session_id)
            await agent.exited.wait()
            assert agent.exit is not None
            return agent.exit

    @property
    def _is_leaving(self) -> bool:
        """The end of the present process was asked for."""
        return self.ending or self._replaced is not None

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
