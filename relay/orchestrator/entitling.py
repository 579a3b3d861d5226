"""By what relay knows this host, and the runners that it starts (agents-workspaces 15).

The daemon registers with the token that it was configured with, is given another, and uses that from then on: for this host
and nothing else. What is given is renewed before it expires; when relay does not know it any more, the configured token is
the way back.

A runner gets a token of its own, for its agent and nothing else, when a command has this host start it. No command holds it;
nor the variables of the agent's provider and profile, nor what it is told: they come with the token. A relay that makes no
such tokens is talked to with the configured one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import attrs
import trio

from relay import wire
from relay.client import Client, Overloaded, Refused as RefusedByRelay, RelayError, Unauthorized

from ._problems import Refused
from .config import Config
from .link import Link

__all__ = ["Entitling", "Grant"]

log = logging.getLogger(__name__)

LEAD = 3_600.0  # seconds before its end that the host's token is renewed
RETRY = 60.0
RUNNER_RETRY = 1.0
UNKNOWN = (404, 405)  # a relay that makes no tokens


@attrs.frozen
class Grant:
    """What a runner is started with besides what its command says. None: nobody has said anything about it."""

    token: Mapping[str, str] = attrs.field(factory=dict)
    """The variables with its token."""
    provider_config: Mapping[str, Any] | None = None
    profile: Mapping[str, Any] | None = None


class Entitling:
    """The tokens of one daemon and of its runners."""

    def __init__(self, config: Config, relay: Client, link: Link) -> None:
        self._config = config
        self._relay = relay
        self._link = link
        self._issued: wire.IssuedToken | None = None
        self._changed = trio.Event()
        link.on_answer = self.registered
        relay.when_refused(self._configured)

    def registered(self, answer: wire.RegisteredOrchestrator) -> None:
        """What relay has given the host, if it has."""
        if answer.runtime_token is not None:
            self._take(answer.runtime_token)

    def _take(self, issued: wire.IssuedToken) -> None:
        self._issued = issued
        self._relay.use_token(issued.token)
        self._changed.set()

    async def _configured(self, refused: str) -> str | None:
        """What was given is none any more: registering with the configured token brings another."""
        self._issued = None
        if self._config.token in (None, refused):
            return None
        log.warning("relay does not know this host's token any more; it registers anew")
        self._link.anew()
        return self._config.token

    async def keep(self) -> None:
        """Renew the host's token whenever it is due, for ever."""
        pause = 0.0
        while True:
            self._changed = trio.Event()
            with trio.move_on_after(max(pause, self._due())):
                await self._changed.wait()
                pause = 0.0
                continue
            await self._link.connected()
            try:
                self._take(await self._relay.renew_token())
                pause = 0.0
            except RelayError as error:
                log.warning("the host's token is not renewed: %s", error)
                pause = RETRY

    def _due(self) -> float:
        if self._issued is None or self._issued.record.expires_at is None:
            return float("inf")
        return max(0.0, self._issued.record.expires_at - LEAD - time.time())

    # -- runners

    async def of_runner(self, command_id: str, agent_id: str) -> Grant:
        """What there is for the runner that the command has this host start. Raises `Refused` when relay gives it no token."""
        while True:
            await self._link.connected()
            try:
                given = await self._relay.runner_token(command_id, agent_id)
                return Grant(_told(given), given.provider_config, given.agent_profile)
            except Overloaded as error:
                log.warning("relay: %s", error)
            except RefusedByRelay as error:
                if error.status in UNKNOWN and self._issued is None:
                    return Grant()
                raise Refused(f"relay gives no token for {agent_id}: {error}") from error
            except RelayError as error:
                self._link.lost(error)
            await trio.sleep(RUNNER_RETRY)

    async def reminted(self, token: str, is_here: bool) -> wire.IssuedToken:
        """Another token for a runner of this host whose own is no good any more. One that shows what was replaced before has
        never had the answer, if it `is_here`: for whoever asks from elsewhere nobody vouches. Raises `RelayError`."""
        try:
            return await self._relay.remint_token(self._config.id, token)
        except Unauthorized:
            if not is_here:
                raise
            return await self._relay.remint_token(self._config.id, token, lost=True)


def _told(issued: wire.IssuedToken) -> Mapping[str, str]:
    """The variables by which a runner knows its token (1.2)."""
    record = issued.record
    known = {
        "AGENT_RELAY_TOKEN": issued.token,
        "AGENT_RELAY_TOKEN_JTI": record.jti,
        "AGENT_RELAY_TOKEN_PROFILE": record.profile_id,
        "AGENT_RELAY_TOKEN_EXPIRES_AT": None if record.expires_at is None else str(record.expires_at),
    }
    return {name: value for name, value in known.items() if value is not None}
