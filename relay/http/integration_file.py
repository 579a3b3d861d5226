"""The file in which whoever runs the server names its integrations (messaging-control 9.1).

`<home>/integrations.json`, or the file that `AGENT_RELAY_INTEGRATIONS` names, holds a list of objects with the members of
`wire.IntegrationSettings`. Without the first there are no integrations. Rules:

1. A file that is not understood as a whole is not used at all, and every problem is told with its place. That goes for
   unknown members, too: a misspelt `targets` would allow everything.
2. Names differ, and so do secrets; none is the root token.
3. The file is private, as it holds secrets.
"""

import ipaddress
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import orjson

from relay import wire
from relay.fleet.integrations import PER_MINUTE

from .auth import Principal
from .private_files import read_private

__all__ = ["IntegrationFile", "IntegrationsUnusable", "per_minute", "principals"]

ENVIRONMENT = "AGENT_RELAY_INTEGRATIONS"
RATE = "INTEGRATION_RATE_LIMIT_PER_MINUTE"
MOST_PER_MINUTE = 1_000_000
SHORTEST_SECRET = 16  # characters
MOST = 200  # integrations
MEMBERS = frozenset({"name", "secret", "targets", "channels", "scopes", "callbackUrl", "callbackAllow"})
TAKEN = frozenset({*wire.RESERVED, "root", "server"})
"""Names that say in records who did something."""
DEFAULT_SCOPES = ["integration:write"]
SCOPE = re.compile(r"\*|[a-z]+:[a-z]+")
HOST = re.compile(r"[A-Za-z0-9._-]+")


class IntegrationsUnusable(Exception):
    """The integrations cannot be had; the text names the file and everything that is wrong with it."""


@attrs.frozen
class IntegrationFile:
    """Where the integrations are. `named`: somebody named the file, so it must be there."""

    path: Path
    named: bool

    @classmethod
    def of(cls, home: Path, environment: Mapping[str, str] = os.environ) -> "IntegrationFile":
        """Raises `IntegrationsUnusable` for a file in the home of somebody unknown."""
        given = environment.get(ENVIRONMENT, "").strip()
        try:
            return cls(Path(given).expanduser() if given else home / "integrations.json", named=bool(given))
        except RuntimeError as error:
            raise IntegrationsUnusable(f"{ENVIRONMENT}: {given}: {error}") from error

    def load(self, *tokens: str) -> list[wire.IntegrationSettings]:
        """What the file says; `tokens` are those that no integration may have. Raises `IntegrationsUnusable`."""
        try:
            text = read_private(self.path, "its secrets", encoding="utf-8")
        except FileNotFoundError as error:
            if not self.named:
                return []
            raise IntegrationsUnusable(f"{self.path}: {error.strerror}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise IntegrationsUnusable(f"{self.path}: {reason}") from error
        try:
            return _understood(text, tokens)
        except wire.Invalid as error:
            raise IntegrationsUnusable(f"{self.path}: {error}") from error


def principals(integrations: list[wire.IntegrationSettings]) -> dict[str, Principal]:
    """Who calls with which secret."""
    return {
        each.secret: Principal(
            f"integration:{each.name}", frozenset(each.scopes), integration=each.name, role="integration"
        )
        for each in integrations
    }


def per_minute(environment: Mapping[str, str] = os.environ) -> int:
    """How many requests of one integration pass in a minute. Raises `IntegrationsUnusable`."""
    given = environment.get(RATE, "").strip()
    if not given:
        return PER_MINUTE
    if given.isascii() and given.isdecimal() and len(given) < 10 and 1 <= int(given) <= MOST_PER_MINUTE:
        return int(given)
    raise IntegrationsUnusable(f"{RATE}: expected a number from 1 to {MOST_PER_MINUTE}, not {given!r}")


def _understood(text: str, tokens: tuple[str, ...]) -> list[wire.IntegrationSettings]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise wire.Invalid([f"it is not JSON: {error}"]) from None
    if not isinstance(document, list) or len(document) > MOST:
        raise wire.Invalid([f"expected a list of at most {MOST} integrations"])
    found: list[wire.IntegrationSettings] = []
    problems: list[str] = []
    for number, each in enumerate(document):
        try:
            found.append(_one(each, tokens))
        except wire.Invalid as error:
            problems += [f"[{number}] {problem}" for problem in error.problems]
    problems += _shared(found)
    if problems:
        raise wire.Invalid(problems)
    return found


def _one(document: object, tokens: tuple[str, ...]) -> wire.IntegrationSettings:
    if not isinstance(document, dict):
        raise wire.Invalid(["expected an object"])
    unknown = [f"{member}: there is no such member" for member in document if member not in MEMBERS]
    try:
        settings = wire.decode(wire.IntegrationSettings, document)
    except wire.Invalid as error:
        raise wire.Invalid(unknown + error.problems) from None
    blank = [
        f"{member}: holds nothing, which would allow everything; leave it out"
        for member in ("targets", "channels")
        if document.get(member) and not getattr(settings, member)
    ]
    if problems := [*unknown, *blank, *_problems(settings, tokens)]:
        raise wire.Invalid(problems)
    return attrs.evolve(settings, scopes=settings.scopes or DEFAULT_SCOPES)


def _problems(settings: wire.IntegrationSettings, tokens: tuple[str, ...]) -> Iterator[str]:
    if settings.name in TAKEN:
        yield f"name: {settings.name} is taken"
    if len(settings.secret) < SHORTEST_SECRET:
        yield f"secret: shorter than {SHORTEST_SECRET} characters"
    if settings.secret in tokens:
        yield "secret: it is the root token"
    for scope in settings.scopes:
        if not SCOPE.fullmatch(scope):
            yield f"scopes: {scope} is no scope, like integration:write"
    if settings.callback_url is not None and not _is_callable(settings.callback_url):
        yield "callbackUrl: expected http:// or https://, a host, and perhaps a port and a path"
    for entry in settings.callback_allow:
        if not _is_place(entry):
            yield f"callbackAllow: {entry} is no host, no address and no network"


def _shared(settings: list[wire.IntegrationSettings]) -> Iterator[str]:
    """What several have and only one may."""
    for name, count in Counter(each.name for each in settings).items():
        if count > 1:
            yield f"there are {count} integrations with the name {name}"
    for secret, count in Counter(each.secret for each in settings).items():
        if count > 1:
            yield f"{', '.join(each.name for each in settings if each.secret == secret)} have the same secret"


def _is_callable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        return False


def _is_place(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry)
    except ValueError:
        return HOST.fullmatch(entry) is not None
    return True
