"""Who is calling: the token of a request, the principal it stands for, and the file the root token lives in.

A token is always required, and it travels in a header, never in a URL. The root token is made at the first start
and kept in `<home>/token`, which only its owner can read; `AGENT_RELAY_TOKEN` overrides it.
"""

import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs

from relay import wire
from relay.fleet import Caller, within
from relay.fleet.tokens import Held

from .private_files import kept_secret

__all__ = [
    "ROOT",
    "Authenticator",
    "BadToken",
    "Principal",
    "RootToken",
    "TokenUnusable",
    "load_token",
    "peer_of",
    "unauthorized",
]

log = logging.getLogger(__name__)

ENVIRONMENT = "AGENT_RELAY_TOKEN"
CONSTRAINED = {
    "agent": "agents",
    "orchestrator": "orchestrators",
    "policy": "policies",
    "channel": "channels",
    "target": "targets",
    "workspace": "workspaces",
    "path": "paths",
}
UNCONSTRAINED = wire.Constraints()
SHORTEST = 8  # characters; only guards against an empty or cut-off file


class TokenUnusable(Exception):
    """The root token can be neither read nor made; the text says what to do."""


@attrs.frozen
class Principal:
    """The authenticated caller. The scope `*` stands for all of them. `integration` is the name of the one it is. `jti`,
    `constraints` and `expires_at` (epoch seconds) are those of its token."""

    subject: str
    scopes: frozenset[str]
    integration: str | None = None
    role: str = "root"
    jti: str | None = None
    constraints: wire.Constraints = UNCONSTRAINED
    expires_at: int | None = None

    @property
    def is_root(self) -> bool:
        """Whether it is whoever runs the server, and not a token that may do as much."""
        return "*" in self.scopes and self.jti is None and self.integration is None

    @property
    def is_limited(self) -> bool:
        """Whether it is for some agents, hosts or other things only."""
        return self.constraints != UNCONSTRAINED

    @property
    def held(self) -> Held:
        """What it has, and so may give away."""
        return Held(self.scopes, self.constraints, self.expires_at, self.jti)

    @property
    def caller(self) -> Caller:
        """As records name it."""
        return Caller(self.subject, self.role, self.jti)

    def may(self, scope: str, **resource: str | None) -> bool:
        """Whether it may do this, to that: `resource` gives the singular of each kind of `wire.Constraints` that the deed
        concerns. None is one that it does not concern this time."""
        return (scope in self.scopes or "*" in self.scopes) and self.reaches(**resource)

    def reaches(self, **resource: str | None) -> bool:
        """Whether its constraints leave it this, whatever it may do."""
        if self.constraints is UNCONSTRAINED or not resource:
            return True
        return all(self._reaches(kind, name) for kind, name in resource.items() if name is not None)

    def _reaches(self, kind: str, name: str) -> bool:
        names: list[str] | None = getattr(self.constraints, CONSTRAINED[kind])
        if names is None:
            return True
        return any(within(path, name) for path in names) if kind == "path" else name in names

    def may_be(self, sender: str, own: str | None = None) -> bool:
        """Whether mail of this sender is taken from the caller. Whoever has a name may use no other: an integration its
        own, a connection that of its agent (`own`), a token those of the agents that it is for. Root may be anybody."""
        name = None if "*" in self.scopes else self.integration or own
        if (name is None or sender == name) and self._reaches("agent", sender):
            return True
        log.warning("%s wanted to send as %r", self.subject, sender)
        return False


ROOT = Principal("root", frozenset({"*"}))


class BadToken(Exception):
    """The token stands for nobody; the text says why. `by`, if it was signed here: whose it was. Then the text is for
    whoever shows it, too."""

    def __init__(self, why: str, *, by: Caller | None = None) -> None:
        super().__init__(why)
        self.by = by


class Verifies(Protocol):
    """Who knows the tokens that relay itself has made."""

    def principal(self, text: str) -> Principal:
        """Whom the token stands for. Raises `BadToken`."""

    def stands(self, principal: Principal) -> bool:
        """Whether the token that it came with is still one."""


class Authenticator:
    """Finds the principal of a request (AUTH-1): `X-Agent-Relay-Token`, else `Authorization: Bearer`. `verifier`, if
    there is one, knows the tokens that are none of `principals`."""

    def __init__(self, principals: Mapping[str, Principal], verifier: Verifies | None = None) -> None:
        self.verifier = verifier
        self._principals: list[tuple[bytes, Principal]] = []
        self.replace(principals)

    def replace(self, principals: Mapping[str, Principal]) -> None:
        """From now on it is these tokens, and no others. Who has the same token and the same rights stays the same."""
        before = dict(self._principals)
        self._principals = [
            (token.encode(), before[token.encode()] if before.get(token.encode()) == principal else principal)
            for token, principal in principals.items()
        ]

    def knows(self, principal: Principal) -> bool:
        """Whether its token is still one, with the same rights."""
        if principal.jti is not None:
            return self.verifier is not None and self.verifier.stands(principal)
        return any(known is principal for _, known in self._principals)

    def principal(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Whom the request's token stands for; None for nobody."""
        try:
            return self.identified(headers)
        except BadToken:
            return None

    def identified(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Whom the request's token stands for. Raises `BadToken`."""
        presented = headers.get(b"x-agent-relay-token") or _bearer(headers.get(b"authorization", b""))
        found = None
        for token, principal in self._principals:
            if secrets.compare_digest(token, presented):
                found = principal
        if found is not None:
            return found
        if self.verifier is None or not presented or presented.count(b".") != 2:
            raise BadToken("the token is not known" if presented else "there is no token")
        return self.verifier.principal(presented.decode("latin1"))


def unauthorized(bad: BadToken) -> str:
    """What is told to whoever shows a token that stands for nobody: no more than that, unless it was made here."""
    if bad.by is not None:
        return f"{bad}; another is required"
    return "a valid token is required, in X-Agent-Relay-Token or Authorization: Bearer"


def peer_of(scope: Mapping[str, Any]) -> str | None:
    """The address that a request came from."""
    client = scope["client"]
    return str(client[0]) if client else None


def _bearer(value: bytes) -> bytes:
    scheme, _, token = value.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


@attrs.frozen
class RootToken:
    """The token that may do everything. `file` is where it was read from; None if the environment gave it."""

    text: str
    file: Path | None


def load_token(home: Path, environment: Mapping[str, str] = os.environ) -> RootToken:
    """The root token: from the environment, else from `<home>/token`, which is made when it is missing."""
    if given := environment.get(ENVIRONMENT, "").strip():
        return RootToken(
            _long_enough(given, ENVIRONMENT, f"give {SHORTEST} characters or more, or unset it"), None
        )
    path = home / "token"
    try:
        token = kept_secret(path, "the token")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenUnusable(f"cannot use the token file {path}: {error}; or set {ENVIRONMENT}") from error
    return RootToken(_long_enough(token, str(path), "delete the file to have a new one made"), path)


def _long_enough(token: str, where: str, remedy: str) -> str:
    if len(token) < SHORTEST:
        raise TokenUnusable(f"the token in {where} is too short: {remedy}")
    return token
