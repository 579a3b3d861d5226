"""What the authority over tokens understands."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask

from ._audit import Caller
from ._token_rules import Held

__all__ = [
    "Create",
    "MintForHost",
    "MintForRunner",
    "NoteRotation",
    "Purge",
    "Remint",
    "Renew",
    "Revoke",
    "TokenProtocol",
]


class TokenProtocol:
    """What the authority understands."""


@attrs.frozen
class Create(Ask[TokenProtocol, wire.Token]):
    """A token that somebody asks for who has `held` (TOK-3)."""

    asked: wire.NewToken
    held: Held
    by: Caller


@attrs.frozen
class MintForHost(Ask[TokenProtocol, wire.Token | None]):
    """For a host that has registered, in place of what it got for that before. None when its caller has no more than half
    used up what it got, or could not give that much away."""

    host_id: str
    agent_id: str
    held: Held
    by: Caller


@attrs.frozen
class MintForRunner(Ask[TokenProtocol, wire.Token]):
    """For the runner of one agent: one that `host_id` is about to start, or a person at a terminal."""

    agent_id: str
    host_id: str | None
    policy: str | None
    held: Held
    by: Caller
    command_id: str | None = None


@attrs.frozen
class Renew(Ask[TokenProtocol, wire.Token]):
    """Replaces the token with this `jti`, for whoever has it."""

    jti: str
    by: Caller


@attrs.frozen
class Remint(Ask[TokenProtocol, wire.Token]):
    """Replaces the token of a runner of this host, also after its expiry (15.3). `lost`: it was replaced before, and the host
    vouches that the runner has never had what took its place; that is what is replaced then."""

    jti: str
    host_id: str
    by: Caller
    lost: bool = False


@attrs.frozen
class Revoke(Ask[TokenProtocol, None]):
    """Ends the token, and all of its family (TOK-5)."""

    jti: str
    held: Held
    by: Caller


@attrs.frozen
class NoteRotation(Ask[TokenProtocol, None]):
    """Another key signs from now on."""

    kid: str
    by: Caller


@attrs.frozen
class Purge(Ask[TokenProtocol, int]):
    """Forgets tokens that have been of no use for long; the answer is how many."""
