"""By what relay knows the runner, and how that is kept good (1.21, 3.4).

    off       the token does not expire, or is none that is renewed
    waiting   due -> renewing
    renewing  answered -> waiting        failed -> retrying            relay does not know it any more -> replaced
    retrying  60 s -> renewing           expired meanwhile -> replaced
    replaced  by another: through the host, which vouches for its runners, or for the root token of whoever started this

Whoever is refused because the token was just replaced waits for the next one, and asks again. Each token that follows
another is written down for the next life of the runner, and for the programs that the agent starts.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import random
from typing import Any

import attrs
import httpx2
import trio

from relay import wire
from relay._files import read_json, write_json, write_text
from relay.client import Client, Refused, RelayError, Unauthorized, open_client

from ._retry import Complaints, answered

__all__ = ["RENEWED", "Credential", "Renewal", "delay"]

log = logging.getLogger(__name__)

RENEWABLE = ("provider-agent", "provider-interactive")
RENEWED = "runtime-token-renewed"
RETRY = 60.0  # seconds
LEAST_LEAD, MOST_LEAD, MOST_JITTER = 60.0, 3_600.0, 30.0
LONGEST_TIMER = 2_147_483.647  # seconds
HOST_WITHIN = 15.0  # seconds that the host has to answer


def delay(left: float, chance: float) -> float | None:
    """Seconds until a token that lives so much longer is renewed; None for never (1.21-2). `chance` is in [0, 1)."""
    if not 0 < left < float("inf"):
        return None
    lead = min(MOST_LEAD, max(LEAST_LEAD, left // 5))
    return max(1.0, left - lead - int(chance * min(MOST_JITTER, lead / 2)))


@attrs.define
class Credential:
    """The token that the runner has now, and what it says of itself. `expires_at` is epoch seconds. `file` holds its text for
    the agent's programs, once the runner has one of its own."""

    token: str | None
    jti: str | None = None
    profile: str | None = None
    expires_at: int | None = None
    file: Path | None = None

    @classmethod
    def of(cls, token: str | None) -> Credential:
        claims = _claims(token or "")
        return cls(token, claims.get("jti"), claims.get("profileId"), claims.get("exp"))

    @property
    def is_own(self) -> bool:
        """Whether it is a token that relay has made for somebody, and not the root token."""
        return self.jti is not None

    @property
    def facts(self) -> dict[str, Any]:
        """What relay is told about it: never the token itself (1.6.1)."""
        return {
            "profileId": self.profile,
            "jti": self.jti,
            "expiresAt": self.expires_at,
            "rootTokenFallback": self.token is not None and not self.is_own,
        }

    @property
    def told(self) -> dict[str, str]:
        """The variables by which the agent's process knows it."""
        known = {
            "AGENT_RELAY_TOKEN": self.token,
            "AGENT_RELAY_TOKEN_JTI": self.jti,
            "AGENT_RELAY_TOKEN_PROFILE": self.profile,
            "AGENT_RELAY_TOKEN_EXPIRES_AT": None if self.expires_at is None else str(self.expires_at),
            "AGENT_RELAY_TOKEN_FILE": None if self.file is None else str(self.file),
        }
        return {name: value for name, value in known.items() if value is not None}

    def take(self, issued: wire.IssuedToken) -> None:
        """From now on it is this one."""
        record = issued.record
        self.token, self.jti, self.expires_at = issued.token, record.jti, record.expires_at
        self.profile = record.profile_id or self.profile


def _claims(token: str) -> Mapping[str, Any]:
    """What a token says, unverified; nothing of one that is no token of relay's making."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (ValueError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) and isinstance(claims.get("jti"), str) else {}


class Renewal:
    """Keeps the runner's credential good. `told` is called with an entry for the timeline after each change or failure."""

    def __init__(
        self,
        credential: Credential,
        relay: Client,
        agent_id: str,
        state_dir: Path,
        *,
        host_url: Callable[[], str | None],
        told: Callable[[Mapping[str, Any]], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.credential = credential
        self._relay = relay
        self._agent_id = agent_id
        self._kept = state_dir / "token.json"
        self._text = state_dir / "token"
        self._host_url = host_url
        self._told = told
        self._wall = wall
        self._root = None if credential.is_own else credential.token
        self._first = credential.jti
        self._one_at_a_time = trio.Lock()
        self._again_at = -float("inf")
        self._changed = trio.Event()
        self._complain = Complaints(log)

    async def begin(self) -> None:
        """Find the token that an earlier life was left with, or get one for the root token. A relay that has none to give
        is talked to with that."""
        kept = read_json(self._kept)
        if self._first is not None and isinstance(kept, dict) and kept.get("first") == self._first:
            before = Credential.of(kept.get("token"))
            if before.is_own:
                self._adopt(attrs.evolve(before, file=self._text))
        self._relay.when_refused(self.another)
        if self._root is not None:
            await self._begin_with(self._root)
        elif self.credential.is_own:
            self._keep()

    async def _begin_with(self, root: str) -> None:
        try:
            issued = await answered(lambda: self._exchanged(root), self._complain)
        except Refused as error:
            log.info("relay has no token for this runner, the root token remains: %s", error)
            self._root = None
        else:
            self._take(issued)

    async def run(self) -> None:
        """Renew the token whenever it is due, for ever."""
        while True:
            self._changed = trio.Event()
            due = self._due()
            with trio.move_on_after(float("inf") if due is None else min(due, LONGEST_TIMER)):
                await self._changed.wait()
                continue
            if due is not None and due <= LONGEST_TIMER:
                await self._renew()

    def _due(self) -> float | None:
        known = self.credential
        if known.expires_at is None or known.profile not in RENEWABLE:
            return None
        pause = self._again_at - trio.current_time()
        due = delay(known.expires_at - self._wall(), random())
        return max(0.0, pause) if pause > 0 or due is None else due

    async def _renew(self) -> None:
        async with self._one_at_a_time:
            try:
                if (self.credential.expires_at or 0) <= self._wall():
                    issued = await self._replacement()
                else:
                    issued = await self._renewed()
            except RelayError as error:
                self._failed(error)
                return
            self._take(issued)
            self._tell_renewed()

    async def _renewed(self) -> wire.IssuedToken:
        """Relay may have replaced it, and the answer was lost: then only the host, or root, can help."""
        try:
            return await self._relay.renew_token()
        except Unauthorized:
            return await self._replacement()

    async def another(self, refused: str) -> str | None:
        """Relay does not know this token any more: the one that has taken its place, if there is one or can be."""
        async with self._one_at_a_time:
            if self.credential.token == refused and trio.current_time() >= self._again_at:
                try:
                    self._take(await self._replacement())
                    self._tell_renewed()
                except RelayError as error:
                    self._failed(error)
            return self.credential.token if self.credential.token != refused else None

    # -- where tokens come from

    async def _replacement(self) -> wire.IssuedToken:
        if self._root is not None:
            return await self._exchanged(self._root)
        url = self._host_url()
        if url is None or self.credential.token is None:
            raise Unauthorized(
                401, "relay does not know the runner's token any more, and there is no host to ask"
            )
        return await _reminted(url, self.credential.token)

    async def _exchanged(self, root: str) -> wire.IssuedToken:
        async with open_client(self._relay.url, root) as relay:
            return await relay.interactive_token(wire.ExchangeToken(agent_id=self._agent_id))

    # -- what becomes of them

    def _take(self, issued: wire.IssuedToken) -> None:
        self.credential.take(issued)
        self._again_at = -float("inf")
        self._keep()
        assert self.credential.token is not None
        self._relay.use_token(self.credential.token)
        self._changed.set()

    def _tell_renewed(self) -> None:
        self._told({"status": RENEWED, "id": self.credential.jti})

    def _adopt(self, before: Credential) -> None:
        for field in attrs.fields(Credential):
            setattr(self.credential, field.name, getattr(before, field.name))
        assert before.token is not None
        self._relay.use_token(before.token)

    def _keep(self) -> None:
        """Write it down. A disk that refuses must not end the agent."""
        try:
            write_json(self._kept, {"first": self._first, "token": self.credential.token})
            write_text(self._text, f"{self.credential.token}\n")
            self.credential.file = self._text
        except OSError as error:
            log.error("the runner's token cannot be written down: %s", error)

    def _failed(self, error: RelayError) -> None:
        self._complain(error)
        self._again_at = trio.current_time() + RETRY
        self._told({"status": "runtime-token-renewal-failed"})


async def _reminted(url: str, token: str) -> wire.IssuedToken:
    """What the host gets for the token from relay (15.5)."""
    try:
        with trio.fail_after(HOST_WITHIN):
            async with httpx2.AsyncClient(trust_env=False) as http:
                answer = await http.post(f"{url}/api/runtime-tokens/runner-renew", json={"token": token})
        if answer.status_code == httpx2.codes.CREATED:
            return wire.decode(wire.IssuedToken, answer.content)
        raise Unauthorized(401, f"the host has no other token: {answer.text[:200]}")
    except (httpx2.HTTPError, trio.TooSlowError, wire.Invalid) as error:
        raise Unauthorized(401, f"the host does not answer: {str(error) or type(error).__name__}") from error
