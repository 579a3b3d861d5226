"""The daemon's loops: register, beat, poll, look after sessions, report.

Relay may go away at any time. Then nothing is polled, sessions go on, outcomes wait in the outbox, and the roster is
owed until a report of it has been taken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import random

import attrs
import trio

from relay import __version__, wire
from relay.client import Client, Refused as RefusedByRelay, RelayError, find_token, open_client

from .config import Config
from .hostapi import HostApi, serve_host_api
from .outbox import Outbox
from .repolock import RepositoryLocks
from .sessions import Sessions
from .work import Workshop

__all__ = ["Orchestrator", "Ready", "serve"]

log = logging.getLogger(__name__)

FIRST_RETRY = 0.25  # seconds
LONGEST_RETRY = 30.0
POLLED = 50  # commands
RESULT_LIMIT = 60_000  # characters of a result's JSON text
BACKGROUND = frozenset({"agent.spawn"})


@attrs.frozen
class Ready:
    """A registered daemon: its agent id, and where its host API answers."""

    agent_id: str
    api_url: str


class Orchestrator:
    """One daemon."""

    def __init__(self, config: Config, relay: Client) -> None:
        self._config = config
        self._relay = relay
        self.sessions = Sessions(config, time.time)
        self._locks = RepositoryLocks()
        self._workshop = Workshop(config, self.sessions, self._locks)
        self._outbox = Outbox(config.state / "outbox")
        self._connected = trio.Event()
        self._registered = trio.Event()
        self._roster_due = trio.Event()
        self._exited: list[wire.ExitedAgent] = []
        self._under_way: set[str] = set()
        self._started_at = time.time()
        self.api_url = ""

    async def run(self, *, task_status: trio.TaskStatus[Ready] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        self.sessions.recover()
        async with trio.open_nursery() as nursery:
            self.api_url = await nursery.start(
                serve_host_api, HostApi(self._config, self.health, self.listing)
            )
            nursery.start_soon(self._stay_registered)
            await self._registered.wait()
            nursery.start_soon(self._outbox.deliver, self._relay)
            nursery.start_soon(self._report_rosters)
            nursery.start_soon(self._watch_sessions)
            self.report_roster()
            nursery.start_soon(self._take_up_again, nursery)
            task_status.started(Ready(self._config.agent_id, self.api_url))
            await self._poll(nursery)

    def health(self) -> dict[str, object]:
        return {
            "status": "ok",
            "ok": True,
            "id": self._config.id,
            "hostname": self._config.hostname,
            "degraded": not self._connected.is_set(),
            "relay": {"url": self._config.relay_url, "connected": self._connected.is_set()},
            "commandLoop": {"inFlight": len(self._under_way)},
        }

    def listing(self) -> list[dict[str, object]]:
        """The sessions, for the host API."""
        return [
            {
                "name": name,
                "sessionName": name,
                "pid": session.pid,
                "alive": session.life().value == "alive",
                "supervisor": "process",
                "agentId": session.launch.agent_id,
                "logFile": str(self.sessions.log_file(name)),
            }
            for name, session in self.sessions.live.items()
        ]

    # -- being known to relay

    async def _stay_registered(self) -> None:
        """Register, then beat; whenever a beat fails, register again, ever more patiently (2.27)."""
        while True:
            await self._again(self._register)
            self._connected.set()
            self._registered.set()
            self.report_roster()
            await self._beat()
            self._connected = trio.Event()

    async def _register(self) -> None:
        config = self._config
        await self._relay.register_orchestrator(
            wire.RegisterOrchestrator(
                id=config.id,
                hostname=config.hostname,
                base_dir=str(config.base_dir),
                api_url=self.api_url,
                providers=list(config.providers),
                env_keys=sorted(config.env),
                version=__version__,
                protocol_version=1,
                meta={
                    "startedAt": round(self._started_at * 1000),
                    "supervisor": "process",
                    "tmuxPrefix": config.prefix,
                },
            )
        )

    async def _beat(self) -> None:
        beat = wire.OrchestratorHeartbeat(version=__version__, protocol_version=1)
        while True:
            await trio.sleep(self._config.heartbeat)
            try:
                await self._relay.orchestrator_heartbeat(self._config.id, beat)
            except RelayError as error:
                log.warning("heartbeat failed: %s", error)
                return

    async def _again(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call until it succeeds, with growing pauses."""
        pause = FIRST_RETRY
        while True:
            try:
                return await call()
            except RelayError as error:
                log.warning("relay at %s: %s", self._config.relay_url, error)
            await trio.sleep(pause * (0.75 + random() / 2))
            pause = min(LONGEST_RETRY, pause * 2)

    # -- the roster

    def report_roster(self) -> None:
        """The roster is owed."""
        self._roster_due.set()

    async def _report_rosters(self) -> None:
        """One report at a time, always of how things are now; a failed one stays owed (2.3-4)."""
        while True:
            await self._roster_due.wait()
            self._roster_due = trio.Event()
            await self._again(self._report_roster)

    async def _report_roster(self) -> None:
        exited = list(self._exited)
        agents = [self.sessions.entry(session) for session in self.sessions.live.values()]
        try:
            await self._relay.report_roster(self._config.id, wire.Roster(agents=agents, exited_agents=exited))
        except RefusedByRelay as error:
            if error.status != 404:
                raise
            await self._register()
            raise
        del self._exited[: len(exited)]

    async def _watch_sessions(self) -> None:
        while True:
            buried = self.sessions.bury()
            if buried:
                for report in buried:
                    log.warning("%s: %s", report.agent_id, report.last_error)
                self._exited += buried
                self.report_roster()
            await trio.sleep(self._config.health)

    # -- commands

    async def _take_up_again(self, nursery: trio.Nursery) -> None:
        """Commands that an earlier life of this daemon had begun: each is safe to do again."""

        async def begun() -> None:
            for status in ("accepted", "running"):
                for command in await self._relay.commands(
                    target=self._config.agent_id, status=status, limit=POLLED
                ):
                    self._begin(command, nursery)

        await self._again(begun)

    async def _poll(self, nursery: trio.Nursery) -> None:
        while True:
            await self._connected.wait()
            try:
                found = await self._relay.commands(
                    target=self._config.agent_id, status="pending", limit=POLLED
                )
            except RelayError as error:
                log.warning("polling failed: %s", error)
                found = []
            for command in found:
                self._begin(command, nursery)
            await trio.sleep(self._config.poll)

    def _begin(self, command: wire.Command, nursery: trio.Nursery) -> None:
        if command.id not in self._under_way and command.id not in self._outbox.pending():
            self._under_way.add(command.id)
            nursery.start_soon(self._execute, command)

    async def _execute(self, command: wire.Command) -> None:
        """Accept, do, settle. The outcome is final once it is in the outbox."""
        try:
            if not await self._accepted(command):
                return
            result = await self._workshop.do(command)
            self._outbox.put(command.id, _outcome(result))
            self.report_roster()
        finally:
            self._under_way.discard(command.id)

    async def _accepted(self, command: wire.Command) -> bool:
        """Whether the command is ours to do: written down as running before anything is done (2.4-4)."""
        try:
            for status in (wire.CommandStatus.ACCEPTED, wire.CommandStatus.RUNNING):
                if command.status is wire.CommandStatus.RUNNING:
                    break
                await self._relay.patch_command(command.id, wire.PatchCommand(status=status))
        except RelayError as error:
            log.warning("command %s was not taken: %s", command.id, error)
            return False
        return True


def _outcome(result: dict[str, object]) -> wire.PatchCommand:
    error = result.get("error")
    if len(wire.encode(result)) > RESULT_LIMIT:
        kept = ("workspaceId", "status", "merged", "mergedSha", "removed", "error")
        result = {name: result[name] for name in kept if name in result}
    if error is None:
        return wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED, result=result)
    return wire.PatchCommand(status=wire.CommandStatus.FAILED, result=result, error=str(error)[:4_000])


async def serve(config: Config, *, task_status: trio.TaskStatus[Ready] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a daemon until cancelled; started once it is registered. Agents go on without it."""
    config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = attrs.evolve(config, token=config.token or find_token())
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_client(config.relay_url, config.token))
        await Orchestrator(config, relay).run(task_status=task_status)
