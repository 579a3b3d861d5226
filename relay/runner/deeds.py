"""What a runner does on command: one function per type (1.15, 1.16).

Whatever is asked needs a running agent. While it is being ended or restarted, everything but its end is refused at
once. An end pre-empts a restart, and does not wait for anything that the agent was asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import trio

from relay import wire
from relay.client import RelayError

from .approvals import DECISIONS, Approvals
from .command import CommandAgent
from .inbox import Inbox
from .keeper import Keeper
from .options import Options
from .presence import Presence

__all__ = ["ENDINGS", "Deeds", "Unable", "limit", "shutdown_time"]

Result = Mapping[str, Any] | None

ENDINGS = ("agent.shutdown", "agent.kill")
ASKED = {"agent.interrupt": "interrupt", "agent.compact": "compact", "agent.clearContext": "clear"}
SHUTDOWN, LONGEST_SHUTDOWN = 10.0, 60.0  # seconds
RESTART_EXTRA = 30.0
INTERRUPT = 10.0
OTHERS = 60.0
LONGEST_PROMPT = 100_000  # characters


class Unable(Exception):
    """The command is not carried out. `code` says why to programs; `rejected` when it never could be."""

    def __init__(self, code: str, why: str, *, rejected: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.rejected = rejected


class Deeds:
    """Carries out commands. `do` returns what the agent said to it, None for nothing."""

    def __init__(
        self,
        options: Options,
        *,
        keeper: Keeper,
        inbox: Inbox,
        presence: Presence,
        approvals: Approvals,
        wall: Callable[[], float],
    ) -> None:
        self._options = options
        self._keeper = keeper
        self._inbox = inbox
        self._presence = presence
        self._approvals = approvals
        self._wall = wall
        self._restarting = trio.Lock()
        self._restart = trio.CancelScope()
        self._kinds: Mapping[str, Callable[[wire.Command], Awaitable[Result]]] = {
            "agent.shutdown": self._end,
            "agent.kill": self._end,
            "agent.restart": self._start_again,
            "agent.reconnect": self._reconnect,
            **dict.fromkeys(ASKED, self._ask),
            "agent.injectContext": self._inject_context,
            "prompt.inject": self._inject_prompt,
            "agent.permissionDecision": self._decide,
        }

    def knows(self, command: wire.Command) -> bool:
        return command.type in self._kinds

    async def do(self, command: wire.Command) -> Result:
        """Raises `Unable`, `DeliveryFailed`, `AgentGone`, `ValueError`."""
        if not self.knows(command):
            raise Unable("unknown-type", f"a runner does not know {command.type}", rejected=True)
        if command.type not in ENDINGS and self._keeper.ending:
            raise Unable("busy", "the agent is being ended")
        return await self._kinds[command.type](command)

    async def _agent(self) -> CommandAgent:
        """The agent, waited for while it starts, or is started again after an accident."""
        if self._restarting.locked():
            raise Unable("busy", "the agent is being restarted")
        return await self._keeper.running()

    # -- its life

    async def _end(self, command: wire.Command) -> Result:
        self._restart.cancel()
        hard = command.type == "agent.kill"
        self._presence.facts["lifecycleAction"] = "killing" if hard else "shutting-down"
        await self._presence.announce_end()
        await self._keeper.end(0.0 if hard else shutdown_time(command))
        return None

    async def _start_again(self, command: wire.Command) -> Result:
        async with self._restarting:
            if self._keeper.ending:
                raise Unable("busy", "the agent is being ended")
            self._presence.facts["lifecycleAction"] = "restarting"
            self._presence.publish()
            try:
                with trio.CancelScope() as self._restart:
                    await self._keeper.restart(shutdown_time(command))
                    self._inbox.forgive()
                    return None
                raise Unable("preempted", "the agent is ended instead")
            finally:
                if not self._keeper.ending:
                    self._presence.facts["lifecycleAction"] = None
                    self._presence.publish()

    async def _reconnect(self, command: wire.Command) -> Result:
        self._inbox.look()
        await self._presence.tell()
        return None

    # -- its context

    async def _ask(self, command: wire.Command) -> Result:
        agent = await self._agent()
        return await agent.ask(ASKED[command.type])

    async def _inject_context(self, command: wire.Command) -> Result:
        """One message from nobody, which is never read or queued (1.15-9)."""
        content = command.params.get("content")
        if not isinstance(content, str) or not content.strip():
            raise ValueError("params.content: expected a text")
        given = command.params.get("memoryIds")
        memories = [each for each in given if isinstance(each, str)] if isinstance(given, list) else []
        message = {
            "id": 0,
            "from": "system",
            "to": self._options.agent_id,
            "kind": wire.MessageKind.SYSTEM.value,
            "subject": "Memory context",
            "body": content,
            "payload": {"memoryInjection": True, "memoryIds": memories, **reason(command)},
            "readBy": [],
            "createdAt": round(self._wall() * 1000),
        }
        agent = await self._agent()
        await agent.deliver([message], lambda: None)
        return {"memoryIds": memories, "injectedMemoryCount": len(memories)}

    async def _inject_prompt(self, command: wire.Command) -> Result:
        """A person's words. The message that stands for them at relay counts as read (1.15-10)."""
        body, number = command.params.get("body"), command.params.get("messageId")
        if not isinstance(body, str) or not 0 < len(body) <= LONGEST_PROMPT:
            raise ValueError(f"params.body: expected a text of at most {LONGEST_PROMPT} characters")
        agent = await self._agent()
        await agent.prompt(body)
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        with suppress(RelayError):  # the agent has it, whatever relay knows
            await self._inbox.mark_read(number)
        return {"messageId": number}

    async def _decide(self, command: wire.Command) -> Result:
        """Somebody has decided on what the agent asked for (1.16)."""
        approval, decision = command.params.get("approvalId"), command.params.get("decision")
        if not isinstance(approval, str) or not approval:
            raise ValueError("params.approvalId: expected a text")
        if decision not in DECISIONS:
            raise ValueError(f"params.decision: expected one of {', '.join(DECISIONS)}")
        agent = await self._agent()
        self._approvals.decide(approval, decision, reason(command).get("reason"))
        if decision == "abort" and agent.capabilities.get("interrupt"):
            await agent.ask("interrupt")
        return {"approvalId": approval, "decision": decision}


def reason(command: wire.Command) -> dict[str, str]:
    """Why it was asked, if somebody said so."""
    given = command.params.get("reason")
    return {"reason": given} if isinstance(given, str) else {}


def shutdown_time(command: wire.Command) -> float:
    """Seconds that the agent gets to end (1.15-12)."""
    asked = command.params.get("timeoutMs")
    if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0:
        return min(asked / 1000, LONGEST_SHUTDOWN)
    return SHUTDOWN


def limit(command: wire.Command) -> float:
    """Seconds that a command may take (1.15-13)."""
    match command.type:
        case "agent.shutdown" | "agent.kill" | "agent.restart":
            return shutdown_time(command) + RESTART_EXTRA
        case "agent.interrupt" | "agent.permissionDecision":
            return INTERRUPT
        case _:
            return OTHERS
