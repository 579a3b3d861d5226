"""The adapter for any program that speaks JSON lines on stdin and stdout (1.33).

Rules: the program says `ready` within 30 s, acknowledges what it is given, and answers pings at any time; three pings
in a row without a sign of life are its end. A delivery is given up after 30 s in which the agent was in no turn: being
busy is no failure, and an acknowledgement that comes after that counts all the same. One delivery at a time. Twenty
unusable lines in a row are a failure of the program. Unknown frames are ignored.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import orjson
import trio

from ._frames import Invalid, optional, parse, present, required
from ._process import LEFTOVERS, ChildProcess, error_log, open_process
from ._questions import Questions
from .activity import TURN
from .adapter import AgentGone, DeliveryFailed, Exit, Unheard
from .options import Options, Patience

__all__ = ["CommandAgent", "open_agent"]

log = logging.getLogger(__name__)

PROTOCOL = 1
MOST_INVALID = 20  # unusable lines in a row
MOST_FRAMES = 100  # said by the agent and not yet heard; beyond that it has to wait
MISSED_PINGS = 3


class CommandAgent:
    """One live process; made by `open_agent`. `exit` is known once `exited` is set."""

    def __init__(self, process: ChildProcess, patience: Patience) -> None:
        self.capabilities: Mapping[str, bool] = {}
        self.model: str | None = None
        self.exited = trio.Event()
        self.exit: Exit | None = None
        self._said, self.frames = trio.open_memory_channel[dict[str, Any]](MOST_FRAMES)
        self._process = process
        self._patience = patience
        self._ready = trio.Event()
        self._questions = Questions()
        self._delivering = trio.Lock()
        self._turns: set[str] = set()
        self._idle_since = -inf
        self._invalid = 0
        self._fault: str | None = None
        self._heard = trio.current_time()
        self._listening = True

    @property
    def pid(self) -> int:
        return self._process.pid

    async def hello(self, options: Options, session_id: str) -> None:
        """Greets the agent; returns when it is ready. Raises `AgentGone`."""
        hello = present(
            type="hello",
            protocol=PROTOCOL,
            agentId=options.agent_id,
            sessionId=session_id,
            cwd=str(options.cwd),
            approvalMode=options.approval_mode,
            model=options.model,
            effort=options.effort,
            systemPrompt=options.system_prompt,
        )
        self._say(hello)
        with trio.move_on_after(self._patience.ready):
            await self._ready.wait()
        if self.exited.is_set():
            raise AgentGone(f"the agent ended before it was ready: {self.exit}")
        if not self._ready.is_set():
            raise AgentGone(f"the agent did not say ready within {self._patience.ready:.0f} s")

    async def deliver(self, messages: Sequence[Mapping[str, Any]], taken: Callable[[], None]) -> None:
        def heard(answer: Mapping[str, Any]) -> None:
            if answer["type"] == "ack":
                taken()

        async with self._delivering:
            await self._hand_over({"type": "messages", "messages": list(messages)}, heard)

    async def prompt(self, text: str) -> None:
        await self._hand_over({"type": "prompt", "text": text})

    async def ask(self, kind: str, **fields: Any) -> Mapping[str, Any]:
        if not self.capabilities.get(kind):
            raise DeliveryFailed(f"the agent does not support {kind}")
        with trio.move_on_after(self._patience.result), self._questions.asking() as question:
            self._send({"type": kind, **fields, "id": question.id})
            await question.answered.wait()
            answer = question.result()
            if answer.get("ok") is not True:
                raise DeliveryFailed(str(answer.get("error") or f"the agent refused to {kind}"))
            data = answer.get("data")
            return data if isinstance(data, dict) else {}
        raise DeliveryFailed(f"no result of {kind} within {self._patience.result:.0f} s")

    def decide(self, approval_id: str, decision: str, reason: str | None = None) -> None:
        self._send(present(type="permission", approvalId=approval_id, decision=decision, reason=reason))

    async def shutdown(self, grace: float) -> None:
        if grace > 0:
            self._say({"type": "shutdown"})
        await self._process.stop(grace)
        await self.exited.wait()

    # -- tasks of `open_agent`

    async def read(self) -> None:
        """Takes every line until the process has ended and what it wrote is read."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_until_closed, nursery.cancel_scope)
                await self._process.ended()
                nursery.cancel_scope.deadline = trio.current_time() + LEFTOVERS
        finally:
            self._end()

    async def ping(self) -> None:
        """Kills a process that gives no sign of life. While a line of it waits to be heard it cannot give one."""
        await self._ready.wait()
        while not self.exited.is_set():
            self._say({"type": "ping", "id": self._questions.next_id()})
            await trio.sleep(self._patience.ping)
            silence = trio.current_time() - self._heard
            if self._listening and silence >= MISSED_PINGS * self._patience.ping:
                log.warning("the agent gave no sign of life for %.0f s and is killed", silence)
                self._process.signal(signal.SIGKILL)
                return

    async def _read_until_closed(self, scope: trio.CancelScope) -> None:
        async for line in self._process.lines():
            self._listening = False
            await self._take(line)
            self._listening = True
            self._heard = trio.current_time()
        await self._process.ended()
        scope.cancel()

    def _end(self) -> None:
        code = self._process.returncode or 0
        failed = self._fault is not None or code > 0
        self.exit = Exit(
            status="error" if failed else "offline",
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
        )
        self.exited.set()
        self._ready.set()
        self._questions.end()

    # -- what the agent says

    async def _take(self, line: bytes | None) -> None:
        if line is not None and not line.strip():
            return
        try:
            await self._handle(parse(line))
            self._invalid = 0
        except Invalid as error:
            self._invalid += 1
            log.warning("the agent wrote a line that is no frame: %s", error)
            if self._invalid >= MOST_INVALID and self._fault is None:
                self._fault = f"{MOST_INVALID} lines in a row were no frames"
                log.error("%s; the agent is killed", self._fault)
                self._process.signal(signal.SIGKILL)

    async def _handle(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "ready":
                given = optional(frame, "capabilities", dict) or {}
                self.capabilities = {name: able is True for name, able in given.items()}
                self.model = optional(frame, "model", str)
                self._ready.set()
            case "ack" | "nack" | "result":
                self._questions.answered(required(frame, "id", str), frame)
            case "pong":
                pass
            case _:
                self._note_turn(frame)
                await self._said.send(frame)

    def _note_turn(self, frame: Mapping[str, Any]) -> None:
        """Keeps what turns are running, for deliveries must not be given up in one."""
        match frame:
            case {"type": "turn", "state": "start" | "end" as state}:
                begins = state == "start"
            case {"type": "status", "status": status} if (frame.get("reason") or TURN) == TURN:
                begins = status == "busy"
            case _:
                return
        turn = optional(frame, "id", str)
        if begins:
            self._turns.add(turn or TURN)
        elif turn is None:
            self._turns.clear()
        else:
            self._turns.discard(turn)
        if not self._turns:
            self._idle_since = trio.current_time()

    # -- helpers

    async def _hand_over(
        self, frame: Mapping[str, Any], heard: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        with self._questions.asking(heard) as question:
            self._send({**frame, "id": question.id})
            await self._while_in_turn(question.answered)
            answer = question.result()
        if answer["type"] != "ack":
            raise DeliveryFailed(f"refused: {answer.get('error') or 'no reason given'}")

    async def _while_in_turn(self, answered: trio.Event) -> None:
        """Waits for as long as the agent is busy, and then for its patience."""
        asked = trio.current_time()
        while not answered.is_set():
            due = max(asked, self._idle_since) + self._patience.ack
            if not self._turns and trio.current_time() >= due:
                raise DeliveryFailed(f"not acknowledged within {self._patience.ack:g} s")
            with trio.move_on_after(self._patience.ack) if self._turns else trio.move_on_at(due):
                await answered.wait()

    def _send(self, frame: Mapping[str, Any]) -> None:
        if not self._say(frame):
            raise Unheard("the agent does not read what it is given")

    def _say(self, frame: Mapping[str, Any]) -> bool:
        return self._process.write(orjson.dumps(frame))


@asynccontextmanager
async def open_agent(options: Options, env: Mapping[str, str]) -> AsyncGenerator[CommandAgent]:
    """Starts the agent's program; nothing of it is alive when the block has been left. Raises `AgentGone`."""
    failure: Exception | None = None
    with error_log(options.log_file) as keep:
        opening = open_process(options.command, cwd=options.cwd, env=env, on_error_line=keep)
        async with opening as process, trio.open_nursery() as nursery:
            agent = CommandAgent(process, options.patience)
            nursery.start_soon(agent.read)
            nursery.start_soon(agent.ping)
            try:
                yield agent
            except Exception as error:  # noqa: BLE001 - goes on below, not wrapped in a group by the nurseries
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
