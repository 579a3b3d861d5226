"""What relay is told about the agent: that it is there, how it is, and since when not (1.6, 1.18, 1.20).

Changes are told at once, everything again with each round of liveness. Every call names the session. Once relay answers
that the agent is bound to another one, this runner has been taken over and has nothing more to say.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import trio

from relay import __version__, wire
from relay.client import Client, Refused, RelayError, Unauthorized

from ._retry import Complaints, answered
from .activity import Activity
from .options import Options
from .profile import projection

__all__ = ["Presence"]

log = logging.getLogger(__name__)

ANNOUNCED_WITHIN = 2.0  # seconds
LONGEST_FACTS = 32 * 1024  # bytes of JSON
MOST_REPORTS = 50  # entries for the timeline that wait while relay is away
ESSENTIAL = ("busyReasons", "activeSubagentCount", "terminalStatus", "lifecycleAction")

Told = tuple[wire.AgentStatus, bool, dict[str, Any]]


class Presence:
    """The agent's card at relay. `facts` are members of its meta; `ready` is whether it can take anything."""

    def __init__(
        self, options: Options, relay: Client, activity: Activity, started_at: float, look: Callable[[], None]
    ) -> None:
        self._options = options
        self._relay = relay
        self._activity = activity
        self._started_at = started_at
        self._look = look
        self._changed = trio.Event()
        self._renewed = trio.Event()
        self._told: Told | None = None
        self._complain = Complaints(log)
        self._telling = trio.Lock()
        self._reports: deque[wire.TimelineEvent] = deque(maxlen=MOST_REPORTS)
        self.facts: dict[str, Any] = {}
        self.ready = False
        self.taken_over = trio.Event()

    def publish(self) -> None:
        """Something may have changed."""
        self._changed.set()

    def renewed(self) -> None:
        """The runner has another token: relay knows it again."""
        self._renewed.set()
        self._renewed = trio.Event()

    def report(self, event: Mapping[str, Any]) -> None:
        """An entry for the agent's timeline: `status`, and if wanted `id`, `timestamp` (ms) and `metadata`. Each is told once,
        in order; it has a time, by which relay knows it if an answer is lost. Raises `wire.Invalid`."""
        report = wire.decode(wire.TimelineEvent, {"timestamp": round(time.time() * 1000), **event})
        if len(wire.encode(report)) > LONGEST_FACTS:
            raise wire.Invalid(["timeline: longer than relay takes"])
        self._reports.append(report)

    async def register(self) -> None:
        """Tell relay who this is, however long relay takes. Raises `Refused`."""
        options = self._options
        meta = {
            "provider": options.provider,
            "runnerManaged": True,
            "runnerId": options.instance_id,
            "cwd": str(options.cwd),
            "approvalMode": options.approval_mode,
            "model": options.model,
            "effort": options.effort,
            "profile": options.profile,
            "agentProfile": projection(options.agent_profile),
            "pid": os.getpid(),
            "startedAt": round(self._started_at * 1000),
            "version": __version__,
            "runnerVersion": __version__,
            "policyName": options.policy_name,
            "spawnRequestId": options.spawn_request_id,
            "automationId": options.automation_id,
            "automationRunId": options.automation_run_id,
            "workspace": options.workspace,
            "auth": options.credential.facts,
        }
        card = wire.RegisterAgent(
            id=options.agent_id,
            kind=wire.AgentKind.PROVIDER,
            status=self._activity.status,
            ready=False,
            label=options.label,
            tags=options.all_tags,
            capabilities=options.all_capabilities,
            machine=os.uname().nodename,
            instance_id=options.instance_id,
            meta={name: value for name, value in meta.items() if value is not None},
        )
        await answered(lambda: self._relay.register_agent(card), self._complain)
        self._told = None

    async def tell_changes(self) -> None:
        """Tell relay of every change, for ever."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            try:
                await answered(self._tell, self._complain)
            except Refused as error:
                self._refused(error)

    async def keep_alive(self) -> None:
        """Say again and again that the agent is there, and look for what a lost event may have announced."""
        while not self.taken_over.is_set():
            await trio.sleep(self._options.liveness)
            try:
                await self._tell_or_register()
                self._look()
            except Unauthorized as error:
                log.error("relay does not accept this runner any more, until it has another token: %s", error)
                await self._renewed.wait()
            except Refused as error:
                self._refused(error)
            except RelayError as error:
                self._complain(error)

    async def _tell_or_register(self) -> None:
        try:
            await self.tell()
        except Refused as error:
            if error.status != 404:
                raise
            await self.register()
            await self.tell()

    async def tell(self) -> None:
        """Tell relay everything, and that the agent is there. Raises `RelayError`."""
        self._told = None
        await self._tell()

    async def announce_end(self) -> None:
        """Say that the agent takes nothing any more, before it is ended; a relay that is away holds up nobody."""
        self.ready = False
        with trio.move_on_after(ANNOUNCED_WITHIN):
            try:
                await self._tell()
            except RelayError as error:
                self._complain(error)

    async def _tell(self) -> None:
        """Tell relay what it does not know yet. One at a time, so that the last word is the newest.

        The facts go first, so that whoever hears of a status finds the reasons with it.
        """
        options = self._options
        session = options.instance_id
        async with self._telling:
            await self._tell_reports()
            now = self._present()
            if now == self._told:
                return
            status, ready, facts = now
            await self._relay.heartbeat(options.agent_id, wire.Heartbeat(instance_id=session, meta=facts))
            await self._relay.set_status(options.agent_id, wire.SetStatus(status=status, instance_id=session))
            await self._relay.set_ready(options.agent_id, wire.SetReady(ready=ready, instance_id=session))
            self._told = now

    async def _tell_reports(self) -> None:
        """One that relay does not take is gone: it must not keep relay from hearing how the agent is."""
        options = self._options
        while self._reports:
            report = self._reports[0]
            meta = {"timelineEvent": wire.to_json(report)}
            try:
                await self._relay.heartbeat(
                    options.agent_id, wire.Heartbeat(instance_id=options.instance_id, meta=meta)
                )
            except Refused as error:
                if error.status != 400:
                    raise
                self._complain(error)
            if self._reports[0] is report:
                self._reports.popleft()

    def _present(self) -> Told:
        status = self._activity.status
        ready = self.ready and status is not wire.AgentStatus.OFFLINE
        return status, ready, _bounded({**self._activity.facts(), **self.facts})

    def _refused(self, error: Refused) -> None:
        if error.status == 409:
            log.error("another runner has taken over this agent: %s", error)
            self.taken_over.set()
        else:
            self._complain(error)


def _bounded(facts: dict[str, Any]) -> dict[str, Any]:
    """An agent that says too much about itself must not keep relay from hearing how it is."""
    if len(wire.encode(facts)) <= LONGEST_FACTS:
        return facts
    return {name: facts.get(name) if name in ESSENTIAL else None for name in facts}
