"""The keys that tokens are signed with, and the way between a token's record and its text (TOK-7).

The text is a JSON Web Token, HS256 and nothing else; `kid` says which key. One key signs. When another takes its place the
old one goes on verifying until all that it has signed is of no use any more. Keys are in `<home>/keys.json`, which only
its owner can read.
"""

from __future__ import annotations

import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import jwt

from relay import wire
from relay._files import write_json
from relay.fleet import Caller
from relay.fleet.tokens import LEEWAY

from .auth import BadToken, TokenUnusable
from .private_files import read_private

__all__ = ["Key", "Keyring"]

ALGORITHM = "HS256"
ISSUER = AUDIENCE = "relay"
TYPE = "JWT"
NEEDED = ("iss", "aud", "sub", "jti", "iat", "nbf", "role", "scope")
KEY_BYTES = 32
OVERLAP = (
    60 * 86_400
)  # seconds: the longest life that can be renewed, and the time in which the expired is minted anew
KID = re.compile(r"[0-9A-Za-z_-]{1,80}")
SPELLING = re.compile(r"([0-9A-Za-z_-]+\.){2}[0-9A-Za-z_-]{42}[AEIMQUYcgkosw048]")
"""The one way to write a token. A reader that is lenient with fillings and spare bits of base64 would take several texts for
the same token, and who remembers one of them knows nothing of the others."""


@attrs.frozen
class Key:
    """One key. `created_at` and `retires_at`, from when on it verifies nothing, are epoch seconds."""

    kid: str
    secret: bytes = attrs.field(repr=False)
    created_at: int
    retires_at: int | None = None


class Keyring:
    """The keys of a server; the first signs. Without a `path` they last as long as the process."""

    def __init__(self, keys: tuple[Key, ...], path: Path | None = None) -> None:
        self._keys = keys
        self._path = path

    @classmethod
    def passing(cls) -> Keyring:
        """Keys that nobody keeps."""
        return cls((_new_key(0),))

    @classmethod
    def load(cls, home: Path, now: float) -> Keyring:
        """The keys of `<home>/keys.json`, which is made when it is missing. Raises `TokenUnusable`."""
        path = home / "keys.json"
        try:
            if not path.exists():
                home.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_json(path, [_written(_new_key(int(now)))])
            return cls(_keys(read_private(path, "the keys")), path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"cannot use the keys of tokens in {path}: {error}"
            raise TokenUnusable(
                f"{why}; restore the file, or move it away: then no token is valid"
            ) from error

    @property
    def current(self) -> Key:
        """The one that signs."""
        return self._keys[0]

    def retiring(self) -> dict[str, int]:
        """The other keys, and when they retire (epoch seconds)."""
        return {key.kid: key.retires_at for key in self._keys[1:] if key.retires_at is not None}

    def rotate(self, now: float) -> Key:
        """Another key signs from now on. Raises `OSError` when it cannot be kept; then all is as before."""
        at = int(now)
        others = [
            key if key.retires_at is not None else attrs.evolve(key, retires_at=at + OVERLAP)
            for key in self._keys
        ]
        keys = (_new_key(at), *(key for key in others if (key.retires_at or 0) > at))
        if self._path is not None:
            write_json(self._path, [_written(key) for key in keys])
        self._keys = keys
        return keys[0]

    def text(self, token: wire.Token) -> str:
        """The token of this record."""
        at = int(token.created_at or 0)
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": token.sub,
            "jti": token.jti,
            "iat": at,
            "nbf": at,
            "role": token.role,
            "scope": token.scope,
        }
        if token.expires_at is not None:
            claims["exp"] = token.expires_at
        if token.profile_id is not None:
            claims["profileId"] = token.profile_id
        if token.constraints is not None:
            claims["constraints"] = wire.to_json(token.constraints)
        key = self.current
        text = jwt.encode(claims, key.secret, ALGORITHM, headers={"kid": key.kid, "typ": TYPE})
        if len(text) > wire.LONGEST_TOKEN:
            raise BadToken(
                f"a token with so many scopes and constraints is longer than {wire.LONGEST_TOKEN} characters"
            )
        return text

    def claims(self, text: str, now: float, *, expired: bool = False) -> tuple[dict[str, Any], int | None]:
        """What a token says that was signed here and is for here, and when the key that signed it retires. Its times are
        not looked at if `expired`; whether it was revoked nobody knows here. Raises `BadToken`."""
        if len(text) > wire.LONGEST_TOKEN:
            raise BadToken(f"the token is longer than {wire.LONGEST_TOKEN} characters")
        if not SPELLING.fullmatch(text):
            raise BadToken("the token is not whole")
        key = self._key(text, now)
        try:
            claims: dict[str, Any] = jwt.decode(
                text,
                key.secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={
                    "require": list(NEEDED),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise BadToken("the token was not signed here") from None
        except jwt.InvalidTokenError as error:
            raise BadToken(f"the token is not valid: {error}") from None
        if not expired:
            _check_times(claims, now)
        return claims, key.retires_at

    def _key(self, text: str, now: float) -> Key:
        try:
            header = jwt.get_unverified_header(text)
        except jwt.InvalidTokenError as error:
            raise BadToken(f"the token is not whole: {error}") from None
        if header.get("alg") != ALGORITHM or header.get("typ") != TYPE:
            raise BadToken(f"the token is not signed with {ALGORITHM}")
        for key in self._keys:
            if key.kid == header.get("kid") and (key.retires_at is None or key.retires_at > now):
                return key
        raise BadToken("the token was signed with a key that is not known here")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    """By relay's own clock, which is not always the machine's."""
    times = [claims[name] for name in ("iat", "nbf", "exp") if name in claims]
    if not all(type(each) is int for each in times):
        raise BadToken("the token is not valid: its times are no integers")
    if claims["nbf"] > now + LEEWAY or claims["iat"] > now + LEEWAY:
        raise BadToken("the token is not valid yet", by=_named(claims))
    if "exp" in claims and claims["exp"] + LEEWAY <= now:
        raise BadToken("the token has expired", by=_named(claims))


def _named(claims: Mapping[str, Any]) -> Caller:
    return Caller(claims["sub"], str(claims["role"]), claims["jti"])


def _new_key(at: int) -> Key:
    return Key(secrets.token_hex(8), secrets.token_bytes(KEY_BYTES), at)


def _written(key: Key) -> dict[str, Any]:
    text = urlsafe_b64encode(key.secret).decode()
    known = {"kid": key.kid, "key": text, "createdAt": key.created_at, "retiresAt": key.retires_at}
    return {name: value for name, value in known.items() if value is not None}


def _keys(text: str) -> tuple[Key, ...]:
    found = json.loads(text)
    if not isinstance(found, list) or not found:
        raise ValueError("expected a list of keys")
    keys = tuple(_read(each) for each in found)
    if keys[0].retires_at is not None:
        raise ValueError("the first key signs, and must not retire")
    if len({key.kid for key in keys}) != len(keys):
        raise ValueError("two keys have the same kid")
    return keys


def _read(known: Any) -> Key:
    kid, secret, retires_at = known["kid"], urlsafe_b64decode(known["key"]), known.get("retiresAt")
    if not isinstance(kid, str) or not KID.fullmatch(kid):
        raise ValueError("a kid is no text of letters, digits, - and _")
    if len(secret) < KEY_BYTES:
        raise ValueError(f"the key {kid} has fewer than {KEY_BYTES} bytes")
    if type(known["createdAt"]) is not int or not (retires_at is None or type(retires_at) is int):
        raise ValueError(f"the times of the key {kid} are no seconds")
    return Key(kid, secret, known["createdAt"], retires_at)
