"""The connection to relay: registered, with a heartbeat, or on the way there (2.2, 2.27, 3.5).

    unregistered   registered -> connected      failed -> unregistered, after a longer pause
    connected      heartbeat -> connected       failed, or any call met silence -> lost       404 -> registered anew
                   the daemon ends -> goodbye, so that relay sends nothing here any more
    lost           registered -> connected      failed -> lost, after a longer pause

Registration is tried for ever. After five failures in a row the host is degraded, until the next success. While there
is no connection nobody asks relay for anything. A lost connection is looked for at once, then ever less often;
registering again does no harm, so that is how it is looked for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from random import random
from typing import Any

import trio

from relay import wire
from relay.client import Client, Overloaded, Refused, RelayError, ServerFailed

from .config import Config

__all__ = ["Link", "pauses"]

log = logging.getLogger(__name__)

DEGRADED_AFTER = 5  # failures in a row
GOODBYE_WITHIN = 2.0  # seconds


def pauses(first: float, most: float) -> Iterator[float]:
    """Seconds to wait after one failure and the next, for ever."""
    while True:
        yield first
        first = min(most, first * 2)


class Link:
    """One host's connection. The functions in `on_connect` are called whenever it is there again."""

    def __init__(self, config: Config, relay: Client) -> None:
        self._config = config
        self._relay = relay
        self._up = trio.Event()
        self._down = trio.Event()
        self._known = False
        self._failures = 0
        self._last_error: str | None = None
        self._degraded_since: float | None = None
        self._host_token: str | None = None
        self.on_connect: list[Callable[[], None]] = []
        self.on_answer: Callable[[wire.RegisteredOrchestrator], None] = lambda _: None
        """Told what each registration was answered with."""

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    @property
    def host_token(self) -> str | None:
        """What relay shows to this host's API. A relay that gives hosts none shows its own token. None until registered."""
        return (self._host_token or self._config.token) if self._known else None

    async def connected(self) -> None:
        """Waits until there is a connection."""
        while not self._up.is_set():
            await self._up.wait()

    def lost(self, error: RelayError) -> None:
        """A call failed. Unless relay answered it, the connection is lost."""
        log.warning("relay: %s", error)
        if not isinstance(error, (Refused, ServerFailed)):
            self._drop()

    def anew(self) -> None:
        """Register again."""
        self._drop()

    def _drop(self) -> None:
        if self._up.is_set():
            self._up = trio.Event()
            self._down.set()

    async def keep(self, card: wire.RegisterOrchestrator) -> None:
        """Register and stay registered, for ever."""
        while True:
            await self._register(card)
            await self._beat(card)

    async def goodbye(self) -> None:
        """Tell relay that nobody is here any more. A relay that is away finds out by itself, and holds up nobody."""
        if not self.is_up:
            return
        with trio.move_on_after(GOODBYE_WITHIN, shield=True):
            try:
                offline = wire.SetStatus(status=wire.AgentStatus.OFFLINE)
                await self._relay.set_status(self._config.agent_id, offline)
            except RelayError as error:
                log.warning("goodbye: %s", error)

    async def _register(self, card: wire.RegisterOrchestrator) -> None:
        config = self._config
        first, most = config.register_first, config.register_most
        if self._known:
            first, most = config.reconnect_first, config.reconnect_most
        for pause in pauses(first, most):
            try:
                answer = await self._relay.register_orchestrator(card)
            except RelayError as error:
                self._failed(error)
            else:
                self._host_token = answer.host_token
                self.on_answer(answer)
                self._succeeded()
                return
            await trio.sleep(pause + random() * min(1.0, pause / 4))

    async def _beat(self, card: wire.RegisterOrchestrator) -> None:
        """Heartbeats while they are answered."""
        beat = wire.OrchestratorHeartbeat(
            version=card.version,
            protocol_version=card.protocol_version,
            git_sha=card.git_sha,
            package=card.package,
            contracts=card.contracts,
            capabilities=card.capabilities,
            providers=card.providers,
            provider_status=card.provider_status,
        )
        while self._up.is_set():
            with trio.move_on_after(self._config.heartbeat):
                await self._down.wait()
                return
            try:
                await self._relay.orchestrator_heartbeat(card.id, beat)
            except (Overloaded, ServerFailed) as error:
                log.warning("relay: %s", error)
            except RelayError as error:
                log.warning("heartbeat: %s", error)
                self._drop()

    def _succeeded(self) -> None:
        log.info("registered at %s", self._relay.url)
        self._failures, self._last_error, self._degraded_since = 0, None, None
        self._known = True
        self._down = trio.Event()
        self._up.set()
        for call in self.on_connect:
            call()

    def _failed(self, error: RelayError) -> None:
        self._failures += 1
        self._last_error = str(error)
        if self._failures == DEGRADED_AFTER:
            self._degraded_since = time.time()
        log.warning("not registered: %s", error)

    @property
    def facts(self) -> dict[str, Any]:
        """For the health of the host (2.27-2)."""
        since = self._degraded_since
        facts = {
            "registered": self.is_up,
            "degraded": since is not None,
            "consecutiveFailures": self._failures,
            "lastError": self._last_error,
            "degradedSince": None if since is None else round(since * 1000),
        }
        return {name: value for name, value in facts.items() if value is not None}
