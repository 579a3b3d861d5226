"""Whose token it is: verified once, then remembered until it expires, is revoked, or is crowded out by others.

What is remembered is found by a digest of the text, of which a token has one (`keys.SPELLING`). The fleet tells of every
end before anybody else hears of it (`fleet.tokens.Revocations`); between looking at a token's record and remembering it
nothing else runs. So no request passes with a token whose revocation has been answered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from hashlib import sha256

import trio

from relay import wire
from relay.fleet import Caller, Fleet
from relay.fleet.tokens import LEEWAY, find_token

from .auth import UNCONSTRAINED, BadToken, Principal
from .keys import Keyring

__all__ = ["Verifier"]

MOST = 10_000  # tokens that are remembered


class Verifier:
    """Knows the tokens that relay has made."""

    def __init__(self, keys: Keyring, fleet: Fleet) -> None:
        self.keys = keys
        self._fleet = fleet
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._digests: dict[str, bytes] = {}

    def principal(self, text: str) -> Principal:
        """Whom the token stands for. Raises `BadToken`."""
        now = self._fleet.system.wall()
        digest = sha256(text.encode("latin1")).digest()
        principal, until = self._known.get(digest, (None, 0.0))
        if principal is not None and now < until:
            self._known.move_to_end(digest)
            return principal
        principal, until = self._verified(text, now)
        self._remember(digest, principal, until)
        return principal

    def _verified(self, text: str, now: float) -> tuple[Principal, float]:
        """Whom the token stands for, and for how long that need not be looked at again."""
        claims, retires_at = self.keys.claims(text, now)
        token = find_token(self._fleet.store, claims["jti"])
        named = Caller(claims["sub"], str(claims["role"]), claims["jti"])
        if token is None:
            raise BadToken("the token is not known here any more", by=named)
        if token.revoked_at is not None:
            replaced = "" if token.replaced_by is None else ": it was replaced by another"
            raise BadToken(f"the token was revoked{replaced}", by=named)
        principal = Principal(
            token.sub,
            frozenset(token.scope),
            integration=token.sub if token.role == "integration" else None,
            role=token.role,
            jti=token.jti,
            constraints=token.constraints or UNCONSTRAINED,
            expires_at=token.expires_at,
        )
        ends = (None if token.expires_at is None else token.expires_at + LEEWAY, retires_at)
        return principal, min((each for each in ends if each is not None), default=float("inf"))

    def _remember(self, digest: bytes, principal: Principal, until: float) -> None:
        assert principal.jti is not None
        self.forget([principal.jti])
        self._known[digest] = principal, until
        self._digests[principal.jti] = digest
        if len(self._known) > MOST:
            _, (oldest, _) = self._known.popitem(last=False)
            self._digests.pop(oldest.jti or "", None)

    def forget(self, jtis: Collection[str] | None) -> None:
        """These tokens have to be verified anew; None stands for all."""
        if jtis is None:
            self._known.clear()
            self._digests.clear()
            return
        for jti in jtis:
            digest = self._digests.pop(jti, None)
            if digest is not None:
                self._known.pop(digest, None)

    def stands(self, principal: Principal) -> bool:
        """Whether the token that it came with is still one."""
        token = find_token(self._fleet.store, principal.jti or "")
        return (
            token is not None
            and token.revoked_at is None
            and not _expired(principal, self._fleet.system.wall())
        )

    def ends_at(self, principal: Principal) -> float:
        """When its token expires, on trio's clock."""
        if principal.expires_at is None:
            return float("inf")
        return trio.current_time() + principal.expires_at + LEEWAY - self._fleet.system.wall()

    def issue(self, token: wire.Token) -> wire.IssuedToken:
        """The token of a record, to be told once."""
        return wire.IssuedToken(token=self.keys.text(token), record=token)


def _expired(principal: Principal, now: float) -> bool:
    return principal.expires_at is not None and principal.expires_at + LEEWAY <= now
