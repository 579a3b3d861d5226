"""Commands for this runner: taken, carried out, and what became of each told to relay (1.15).

    pending    seen for the first time -> accepted -> running        seen before -> nothing
    running    carried out -> succeeded       not -> failed       of a type that no runner knows -> rejected
    accepted or running when this life began -> failed: nobody knows how far the earlier life came

Nobody waits behind anybody, but for what goes into the agent's context: that is done in the order of asking. An outcome
is on disk before it is told, and told until relay has answered; nothing that begins ends without one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from relay import wire
from relay.client import Client, Outcomes, RelayError

from ._retry import Complaints, answered
from .activity import Activity
from .adapter import AgentGone, DeliveryFailed
from .deeds import ENDINGS, Deeds, Unable, limit, reason
from .options import Options

__all__ = ["Commands"]

log = logging.getLogger(__name__)

ACCEPTED, RUNNING = wire.CommandStatus.ACCEPTED, wire.CommandStatus.RUNNING
SUCCEEDED, FAILED, REJECTED = (
    wire.CommandStatus.SUCCEEDED,
    wire.CommandStatus.FAILED,
    wire.CommandStatus.REJECTED,
)
IN_ORDER = ("agent.compact", "agent.clearContext", "agent.injectContext", "prompt.inject")
FETCHED = 50
REMEMBERED = 500
RESULT_LIMIT = 60_000  # bytes of JSON
PROGRESS = 60.0  # seconds in which relay must take note of the progress


class Commands:
    """Fetches and carries out. `ended_the_agent`: a command has, so the agent is not to come back."""

    def __init__(
        self,
        options: Options,
        relay: Client,
        outcomes: Outcomes,
        deeds: Deeds,
        activity: Activity,
        publish: Callable[[], None],
    ) -> None:
        self._options = options
        self._relay = relay
        self._outcomes = outcomes
        self._deeds = deeds
        self._activity = activity
        self._publish = publish
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self._woken = trio.Event()
        self._clean = False
        self._in_order, self._to_do_in_order = trio.open_memory_channel[wire.Command](FETCHED)
        self._complain = Complaints(log)
        self._fetching = trio.CancelScope()
        self._finished = trio.Event()
        self.ended_the_agent = False

    def look(self) -> None:
        """There may be something new."""
        self._woken.set()

    async def run(self) -> None:
        """Take what comes until told to finish. What is cancelled has failed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry_out_in_order)
                with self._fetching:
                    await self._fetch_for_ever(nursery)
                self._in_order.close()
        finally:
            self._finished.set()

    async def finish(self) -> None:
        """Take nothing more, and wait for what is under way."""
        self._fetching.cancel()
        await self._finished.wait()

    async def _fetch_for_ever(self, nursery: trio.Nursery) -> None:
        while True:
            self._woken = trio.Event()
            try:
                await self._fetch(nursery)
            except RelayError as error:
                self._complain(error)
            with trio.move_on_after(self._options.poll):
                await self._woken.wait()

    async def _fetch(self, nursery: trio.Nursery) -> None:
        if not self._clean:
            for status in (ACCEPTED, RUNNING):
                for command in await self._addressed(status):
                    self._fail_what_was_begun(command)
            self._clean = True
        for command in await self._addressed(wire.CommandStatus.PENDING):
            self._take(command, nursery)

    async def _addressed(self, status: wire.CommandStatus) -> list[wire.Command]:
        """Commands for the agent, and for this very runner (1.15-1)."""
        found = []
        for target in (self._options.agent_id, self._options.instance_id):
            found += await self._relay.commands(target=target, status=status, limit=FETCHED)
        return found

    def _fail_what_was_begun(self, command: wire.Command) -> None:
        if command.id not in self._outcomes:
            facts = self._facts(command) | {"code": "interrupted"}
            said = "the runner ended while it carried this out; nobody knows how far it came"
            self._keep(command, wire.PatchCommand(status=FAILED, result=facts, error=said))

    def _keep(self, command: wire.Command, outcome: wire.PatchCommand) -> None:
        try:
            self._outcomes.put(command.id, outcome)
        except OSError as error:
            log.error("the outcome of %s cannot be kept: %s", command.id, error)

    def _take(self, command: wire.Command, nursery: trio.Nursery) -> None:
        if command.id in self._seen or command.id in self._outcomes:
            return
        if command.type in IN_ORDER:
            try:
                self._in_order.send_nowait(command)
            except trio.WouldBlock:
                return  # it stays pending, and is found again
        else:
            nursery.start_soon(self._carry_out, command)
        self._seen.append(command.id)

    async def _carry_out_in_order(self) -> None:
        async for command in self._to_do_in_order:
            await self._carry_out(command)

    async def _carry_out(self, command: wire.Command) -> None:
        """Whatever happens, there is an outcome."""
        outcome = self._failed(command, "interrupted", "the runner ended before this was done")
        self._activity.claim("command", command.id)
        self._publish()
        try:
            outcome = await self._outcome(command)
        finally:
            self._activity.release("command", command.id)
            self._keep(command, outcome)
            self._publish()
        if command.type in ENDINGS and outcome.status is SUCCEEDED:
            self.ended_the_agent = True

    async def _outcome(self, command: wire.Command) -> wire.PatchCommand:
        try:
            if self._deeds.knows(command):
                await self._say_progress(command)
            with trio.fail_after(limit(command)):
                result = await self._deeds.do(command)
        except Unable as error:
            return self._failed(command, error.code, str(error), REJECTED if error.rejected else FAILED)
        except trio.TooSlowError:
            return self._failed(command, "timeout", f"not done within {limit(command):.0f} s")
        except (DeliveryFailed, AgentGone, ValueError, RelayError) as error:
            return self._failed(command, "failed", str(error))
        except Exception as error:
            log.exception("command %s", command.id)
            return self._failed(command, "failed", f"{type(error).__name__}: {error}")
        facts: dict[str, Any] = {**self._facts(command), **reason(command)}
        if result is not None and len(wire.encode(dict(result))) <= RESULT_LIMIT:
            facts["providerResult"] = dict(result)
        return wire.PatchCommand(status=SUCCEEDED, result=facts)

    async def _say_progress(self, command: wire.Command) -> None:
        """Raises `Refused` when the command has ended otherwise meanwhile."""
        with trio.fail_after(PROGRESS):
            for status in (ACCEPTED, RUNNING):
                change = wire.PatchCommand(status=status)
                await answered(partial(self._relay.patch_command, command.id, change), self._complain)

    def _failed(
        self,
        command: wire.Command,
        code: str,
        said: str,
        status: wire.CommandStatus = FAILED,
    ) -> wire.PatchCommand:
        facts = {**self._facts(command), **reason(command), "code": code}
        return wire.PatchCommand(status=status, result=facts, error=said[:4_000])

    def _facts(self, command: wire.Command) -> dict[str, Any]:
        options = self._options
        facts = {
            "action": command.type,
            "agentId": options.agent_id,
            "runnerId": options.instance_id,
            "policyName": options.policy_name,
            "spawnRequestId": options.spawn_request_id,
        }
        return {name: value for name, value in facts.items() if value is not None}
