"""The daemon: what relay asks for is taken, done and reported; what happens here is told.

Relay may go away at any time. Then nothing is polled, sessions go on, outcomes wait in the outbox, and the roster is
owed until a report of it has been taken.

    pending    accepted -> queued: written down at relay before anything is done, so that no poll returns it again
    queued     spawns in their order, as many at a time as may wait for their runner; everything else at once
    begun      looked at once more: ended or canceled meanwhile -> dropped
    done       outcome on disk, then reported until relay has answered

Commands that an earlier life of the daemon had begun are begun again when the connection is there: all of them may be.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from math import inf

import attrs
import trio

from relay import __version__, wire
from relay.client import Client, Outcomes, Refused as RefusedByRelay, RelayError, open_client

from ._problems import Refused
from .config import Config
from .hostapi import HostApi, serve_host_api
from .link import Link
from .repolock import RepositoryLocks
from .sessions import Sessions
from .work import Workshop

__all__ = ["Orchestrator", "Ready", "serve"]

log = logging.getLogger(__name__)

PROTOCOL = 1
POLLED = 50  # commands
RESULT_LIMIT = 60_000  # characters of a result's JSON text
ESSENTIAL = ("workspaceId", "status", "merged", "mergedSha", "removed", "error")
RETRY = 1.0  # seconds
LISTEN_AGAIN = 60.0  # seconds
STALLED_AFTER = 45 * 60.0  # seconds: longer than any command may take

Loop = Callable[[], Awaitable[None]]


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
        self._link = Link(config, relay)
        self._link.on_connect = [self._owe_roster, self._catch_up]
        self.sessions = Sessions(config, time.time)
        self._workshop = Workshop(config, self.sessions, RepositoryLocks())
        self._outbox = Outcomes(config.state / "outbox")
        self._roster_owed = trio.Event()
        self._woken = trio.Event()
        self._to_catch_up = True
        self._under_way: dict[str, tuple[wire.Command, float]] = {}
        self._spawns, self._spawns_to_do = trio.open_memory_channel[wire.Command](inf)
        self._started_at = time.time()

    async def run(self, *, task_status: trio.TaskStatus[Ready] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; started once the host is registered."""
        self.sessions.recover()
        async with trio.open_nursery() as nursery:
            api = HostApi(self._config, self.sessions, self.health)
            api_url = await nursery.start(serve_host_api, api)
            nursery.start_soon(self._link.keep, self._card(api_url))
            loops: list[Loop] = [self._watch, self._report_rosters, self._listen, self._deliver]
            for loop in loops:
                nursery.start_soon(_kept_up, loop)
            for _ in range(self._config.spawns):
                nursery.start_soon(self._do_spawns)
            nursery.start_soon(_kept_up, self._poll, nursery)
            await self._link.connected()
            task_status.started(Ready(self._config.agent_id, api_url))

    def _card(self, api_url: str) -> wire.RegisterOrchestrator:
        config = self._config
        return wire.RegisterOrchestrator(
            id=config.id,
            hostname=config.hostname,
            base_dir=str(config.base_dir),
            api_url=api_url,
            providers=list(config.providers),
            env_keys=sorted(config.env),
            version=__version__,
            protocol_version=PROTOCOL,
            meta={
                "pid": os.getpid(),
                "startedAt": round(self._started_at * 1000),
                "supervisor": "process",
                "tmuxPrefix": config.prefix,
                "version": __version__,
                "protocolVersion": PROTOCOL,
            },
        )

    def health(self) -> dict[str, object]:
        """How the daemon is; degraded is no failure (2.26)."""
        now = trio.current_time()
        begun = [
            {
                "handlingId": command.id,
                "handlingType": command.type,
                "activeForMs": round((now - since) * 1000),
            }
            for command, since in self._under_way.values()
        ]
        stalled = any(now - since > STALLED_AFTER for _, since in self._under_way.values())
        return {
            "status": "ok",
            "ok": True,
            "id": self._config.id,
            "hostname": self._config.hostname,
            "degraded": self._link.facts["degraded"],
            "relay": {"url": self._config.relay_url, "connected": self._link.is_up},
            "registration": self._link.facts,
            "commandLoop": {
                "inFlight": bool(begun),
                "phase": "handler" if begun else "idle",
                "stalled": stalled,
                "commands": begun,
            },
        }

    # -- the roster

    def _owe_roster(self) -> None:
        self._roster_owed.set()

    async def _report_rosters(self) -> None:
        """One report at a time, always of how things are now; a failed one stays owed (2.3-4)."""
        while True:
            await self._roster_owed.wait()
            await self._link.connected()
            self._roster_owed = trio.Event()
            exits = self.sessions.exits()
            agents = [session.entry for session in self.sessions.live.values()]
            roster = wire.Roster(agents=agents, exited_agents=list(exits.values()))
            try:
                await self._relay.report_roster(self._config.id, roster)
            except RelayError as error:
                self._link.lost(error)
                self._owe_roster()
                await trio.sleep(RETRY)
            else:
                self.sessions.told(exits)

    async def _watch(self) -> None:
        while True:
            if self.sessions.look():
                self._owe_roster()
            await trio.sleep(self._config.watch)

    # -- commands

    def _catch_up(self) -> None:
        self._to_catch_up = True
        self._woken.set()

    async def _listen(self) -> None:
        """A command that is announced is fetched at once; polling stays the source of truth (2.4-1)."""
        await self._link.connected()
        try:
            async with aclosing(self._relay.events(self._config.agent_id)) as events:
                async for event in events:
                    if event.type in {"command.requested", "reset"}:
                        self._woken.set()
        except RefusedByRelay as error:
            log.info("relay announces nothing: %s", error)
            await trio.sleep(LISTEN_AGAIN)

    async def _poll(self, nursery: trio.Nursery) -> None:
        while True:
            await self._link.connected()
            self._woken = trio.Event()
            try:
                await self._fetch(nursery)
            except RelayError as error:
                self._link.lost(error)
            with trio.move_on_after(self._config.poll):
                await self._woken.wait()

    async def _fetch(self, nursery: trio.Nursery) -> None:
        statuses = ["pending"]
        if self._to_catch_up:
            self._to_catch_up = False
            statuses = ["accepted", "running", "pending"]
        for status in statuses:
            found = await self._relay.commands(target=self._config.agent_id, status=status, limit=POLLED)
            for command in found:
                await self._take(command, nursery)

    async def _take(self, command: wire.Command, nursery: trio.Nursery) -> None:
        """Make the command ours before anything is done about it (2.4-4)."""
        if command.id in self._under_way or command.id in self._outbox:
            return
        if command.status is wire.CommandStatus.PENDING and not await self._said(command, "accepted"):
            return
        self._under_way[command.id] = (command, trio.current_time())
        if command.type == "agent.spawn":
            self._spawns.send_nowait(command)
        else:
            nursery.start_soon(self._do, command)

    async def _said(self, command: wire.Command, status: str) -> bool:
        """Whether relay let the command become that."""
        try:
            await self._relay.patch_command(command.id, wire.PatchCommand(status=wire.CommandStatus(status)))
        except RefusedByRelay as error:
            log.warning("command %s is not %s: %s", command.id, status, error)
            return False
        return True

    async def _do_spawns(self) -> None:
        async for command in self._spawns_to_do:
            await self._do(command)

    async def _do(self, command: wire.Command) -> None:
        """Do it, unless it has ended meanwhile. The outcome is final once it is in the outbox."""
        try:
            if await self._is_wanted(command):
                log.info("%s %s", command.type, command.id)
                result = await self._workshop.do(command)
                self._outbox.put(command.id, _outcome(result))
                self._owe_roster()
        except Exception:
            log.exception(
                "command %s has no outcome; it is begun again when relay is next connected", command.id
            )
        finally:
            del self._under_way[command.id]

    async def _is_wanted(self, command: wire.Command) -> bool:
        """The replay guard (2.4-5): asked of relay just before, however long that takes."""
        while True:
            await self._link.connected()
            try:
                now = await self._relay.command(command.id)
                if now.status.final:
                    return False
                return now.status is wire.CommandStatus.RUNNING or await self._said(command, "running")
            except RefusedByRelay as error:
                if error.status == 404:
                    return False
                await trio.sleep(RETRY)
            except RelayError as error:
                self._link.lost(error)

    async def _deliver(self) -> None:
        await self._outbox.deliver(self._relay)


def _outcome(result: dict[str, object]) -> wire.PatchCommand:
    error = result.get("error")
    if len(wire.encode(result)) > RESULT_LIMIT:
        result = {name: result[name] for name in ESSENTIAL if name in result}
    if error is None:
        return wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED, result=result)
    return wire.PatchCommand(status=wire.CommandStatus.FAILED, result=result, error=str(error)[:4_000])


async def _kept_up(loop: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """A loop that stumbles goes on: nothing that happens in one ends the daemon (R-I58)."""
    while True:
        try:
            await loop(*arguments)
        except Exception:
            log.exception("the daemon goes on")
        await trio.sleep(RETRY)


@contextmanager
def _alone(config: Config) -> Iterator[None]:
    """One daemon per state directory; raises `Refused`. The kernel frees it when the daemon ends, however it ends."""
    path = config.state / "daemon.lock"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(file, 20, 0).decode().strip()
            raise Refused(
                f"orchestrator {config.id} runs already, as process {pid}: stop it, or give --id"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)


async def serve(config: Config, *, task_status: trio.TaskStatus[Ready] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a daemon until cancelled; started once it is registered. Agents go on without it. Raises `Refused`."""
    config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        stack.enter_context(_alone(config))
        relay = await stack.enter_async_context(open_client(config.relay_url, config.token))
        await Orchestrator(config, relay).run(task_status=task_status)
