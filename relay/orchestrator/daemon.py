"""The daemon: one host's parts, put together.

Relay may go away at any time. Then nothing is polled, sessions go on, outcomes wait on disk, and the roster is owed
until a report of it has been taken. A daemon that ends says goodbye last, when it does nothing any more.

    link      registered at relay, with a heartbeat; whoever needs relay waits for it
    intake    commands, from the poll to the reported outcome; the workshop carries them out
    roster    which agents run here, and which have ended
    sessions  the runners themselves
    host API  what relay asks this host directly
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from urllib.parse import urlsplit

import attrs
import trio

from relay import __version__, wire
from relay._files import HeldBy, locked, write_text
from relay.client import Client, open_client

from ._loops import kept_up
from ._problems import Refused, Restart
from .address import advertised
from .config import Config
from .entitling import Entitling
from .guests import Guests
from .hostapi import HostApi, serve_host_api
from .intake import Intake
from .link import Link
from .repolock import RepositoryLocks
from .roster import Roster
from .sessions import Sessions
from .work import Workshop

__all__ = ["Orchestrator", "Ready", "serve"]

PROTOCOL = 1


@attrs.frozen
class Ready:
    """A registered daemon: its agent id, and where its host API answers."""

    agent_id: str
    api_url: str


class Orchestrator:
    """One daemon."""

    def __init__(self, config: Config, relay: Client) -> None:
        self._config = config
        self._link = Link(config, relay)
        self._sessions = Sessions(config, time.time)
        self._roster = Roster(config, relay, self._link, self._sessions)
        self._entitling = Entitling(config, relay, self._link)
        workshop = Workshop(config, self._sessions, RepositoryLocks(), self._entitling.of_runner)
        self._intake = Intake(config, relay, self._link, workshop, self._roster.owe)
        self._link.on_connect = [self._roster.owe, self._intake.catch_up]
        self._started_at = time.time()

    async def run(self, *, task_status: trio.TaskStatus[Ready] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; started once the host is registered. Raises `Restart` when it is to be started again."""
        self._sessions.recover()
        try:
            async with trio.open_nursery() as nursery:
                guests = Guests(self._config, self._sessions, time.time)
                nursery.start_soon(kept_up, guests.watch)
                api = HostApi(
                    self._config,
                    self._sessions,
                    self.health,
                    lambda: self._link.host_token,
                    guests,
                    self._entitling.reminted,
                )
                api_url = await nursery.start(serve_host_api, api)
                write_text(self._config.api_url_file, f"{api_url}\n")
                nursery.start_soon(kept_up, self._entitling.keep)
                nursery.start_soon(self._link.keep, self._card(api_url))
                nursery.start_soon(kept_up, self._roster.watch)
                nursery.start_soon(kept_up, self._roster.report)
                nursery.start_soon(self._intake.run)
                nursery.start_soon(self._end_for_restart, nursery.cancel_scope)
                await self._link.connected()
                task_status.started(Ready(self._config.agent_id, api_url))
            if self._intake.restart is not None:
                raise Restart(self._intake.restart)
        finally:
            await self._link.goodbye()

    async def _end_for_restart(self, scope: trio.CancelScope) -> None:
        await self._intake.restarts.wait()
        scope.cancel()

    def _card(self, api_url: str) -> wire.RegisterOrchestrator:
        config = self._config
        return wire.RegisterOrchestrator(
            id=config.id,
            hostname=config.hostname,
            base_dir=str(config.base_dir),
            api_url=advertised(config, urlsplit(api_url).port or 0),
            providers=list(config.providers),
            env_keys=sorted(config.env),
            version=__version__,
            protocol_version=PROTOCOL,
            package={"name": "relay", "version": __version__},
            contracts={"orchestratorProtocol": PROTOCOL, "runnerProtocol": PROTOCOL},
            capabilities={
                "directoryBrowse": True,
                "relayCommandBus": True,
                "selfUpgrade": config.upgrade_command is not None,
                "authenticatedLogProxy": True,
                "managedAgentReports": True,
                "durableRunnerSupervisor": True,
            },
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
        return {
            "status": "ok",
            "ok": True,
            "id": self._config.id,
            "hostname": self._config.hostname,
            "degraded": self._link.facts["degraded"],
            "relay": {"url": self._config.relay_url, "connected": self._link.is_up},
            "registration": self._link.facts,
            "commandLoop": self._intake.facts,
        }


@contextmanager
def _alone(config: Config) -> Iterator[None]:
    """One daemon per state directory. Raises `Refused`."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(config.state / "daemon.lock"))
        except HeldBy as holder:
            raise Refused(
                f"orchestrator {config.id} runs already, as {holder}: stop it, or give --id"
            ) from None
        yield


async def serve(config: Config, *, task_status: trio.TaskStatus[Ready] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a daemon until cancelled; started once it is registered. Agents go on without it. Raises `Refused`."""
    config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        stack.enter_context(_alone(config))
        relay = await stack.enter_async_context(open_client(config.relay_url, config.token))
        await Orchestrator(config, relay).run(task_status=task_status)
