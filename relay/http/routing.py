"""The declaration of routes, and finding the one that a request is for.

Rules: every route names the scope it needs, or `public`. Literal segments win over parameters (COM-9, RTE-1). A path
is split first and decoded after, once (RTE-3), so that a parameter may hold an encoded slash. A method that a known
path does not have is as unknown as the path (O-50).

    route = Routes()

    @route("PATCH", "/api/agents/:id/label", scope="agent:write", body=wire.SetLabel)
    async def set_label(call: Call[wire.SetLabel]) -> Answer: ...
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, overload
from urllib.parse import unquote_to_bytes

import attrs

from relay import fleet, wire
from relay.fleet import Caller

from .answers import Answer, Stream
from .auth import Principal
from .errors import Refused
from .query import Query
from .upstream import Upstream
from .verifying import Verifier

__all__ = ["PUBLIC", "Call", "Handler", "Route", "Routes", "Table"]

PUBLIC = "public"

FLEET_WIDE = frozenset(
    {"automation:write", "config:write", "connector:write", "provider:write", "recipe:write", "system:write"}
)
"""What only a token without constraints may do: to change what is run, and where, is to reach all of it."""

B = TypeVar("B")
T = TypeVar("T")


class Surroundings(Protocol):
    """What a handler may know of the edge it runs in."""

    upstream: Upstream
    tokens: Verifier

    @property
    def streams(self) -> int:
        """How many event streams are open."""

    @property
    def bus_connections(self) -> int:
        """How many connections the bus has."""

    def uptime(self) -> float:
        """Seconds since the server started."""


@attrs.define
class Call(Generic[B]):
    """One request on its way to a handler, already authenticated, its body already a `B`."""

    fleet: fleet.Fleet
    principal: Principal
    body: B
    path: Mapping[str, str]
    query: Query
    headers: Mapping[bytes, bytes]
    edge: Surroundings
    peer: str | None = None
    """The address that the request came from."""

    @property
    def by(self) -> Caller:
        """Who asks, for records."""
        return self.principal.caller

    def need(self, scope: str, **resource: str | None) -> None:
        """That the caller may do this, to that (`Principal.may`): for what the declaration of a route cannot say, or when
        the check comes after another (AUTH-5). Raises 403."""
        if not self.principal.may(scope, **resource):
            raise Refused(403, "forbidden")

    def need_reach(self, **resource: str | None) -> None:
        """That this is within the caller's constraints, whatever it may do. Raises 403."""
        if not self.principal.reaches(**resource):
            raise Refused(403, "forbidden")

    def speak_as(self, name: str, member: str) -> None:
        """Whoever has a name says and does nothing in another's; raises 403, and tells which `member` of the body is wrong."""
        if not self.principal.may_be(name):
            raise Refused(403, f"{member}: this token does not speak for {name}")

    def reach(self, target: str | None, channel: str | None = None) -> None:
        """An integration reaches only whom it is configured for; raises 403 for another target, or channel."""
        if self.principal.integration is not None:
            self.fleet.integrations.permit(self.principal.integration, target, channel)

    def read(self, kind: type[T]) -> T:
        """The body as a `kind`, for routes that take any JSON because something is checked before its members."""
        if not isinstance(self.body, dict):
            raise Refused(400, "expected a JSON object")
        return wire.decode(kind, self.body)

    def number(self, name: str) -> int:
        """A path parameter that is a positive integer (`msgid`); anything else is 400."""
        value = self.path[name]
        if value.isascii() and value.isdecimal() and len(value) < 19 and int(value) > 0:
            return int(value)
        raise Refused(400, f"{name}: expected a positive integer")


Handler: TypeAlias = Callable[[Call[Any]], Awaitable[Answer | Stream]]
Typed: TypeAlias = Callable[[Call[B]], Awaitable[Answer | Stream]]


@attrs.frozen
class Route:
    """One declared route. `body` None means that a body is not looked at; `dict` is any JSON object, `object` any JSON
    or nothing, `bytes` whatever comes, for a handler that must not look at it before something else. `on` is the kind of
    resource that the first parameter of the path names."""

    method: str
    path: str
    scope: str
    handler: Handler
    body: type[Any] | None = None
    empty_body: bool = False
    scope_checked_late: bool = False
    waits: bool = False
    on: str | None = None
    pattern: tuple[str | None, ...] = attrs.field(init=False)
    names: tuple[str, ...] = attrs.field(init=False)

    @pattern.default
    def _pattern(self) -> tuple[str | None, ...]:
        return tuple(None if part.startswith(":") else part for part in self.path[1:].split("/"))

    def concerns(self, path: Mapping[str, str]) -> dict[str, str | None]:
        """What the path says of whom the request is about."""
        return {} if self.on is None else {self.on: path[self.names[0]]}

    @names.default
    def _names(self) -> tuple[str, ...]:
        return tuple(part[1:] for part in self.path[1:].split("/") if part.startswith(":"))

    @property
    def is_fleet_wide(self) -> bool:
        """Whether it changes what concerns everybody, and not one thing that a token could be limited to."""
        return self.method != "GET" and self.on is None and self.scope in FLEET_WIDE

    def match(self, parts: list[str]) -> dict[str, str] | None:
        values = []
        for wanted, part in zip(self.pattern, parts, strict=True):
            if wanted is None and part:
                values.append(part)
            elif wanted != part:
                return None
        return dict(zip(self.names, values, strict=True))


class Routes:
    """The routes of one module; called as a decorator it adds one."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    @overload
    def __call__(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        late: bool = False,
        waits: bool = False,
        on: str | None = None,
    ) -> Callable[[Typed[None]], Typed[None]]: ...
    @overload
    def __call__(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        body: type[B],
        late: bool = False,
        waits: bool = False,
        on: str | None = None,
    ) -> Callable[[Typed[B]], Typed[B]]: ...
    @overload
    def __call__(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        optional: type[B],
        late: bool = False,
        waits: bool = False,
        on: str | None = None,
    ) -> Callable[[Typed[B | None]], Typed[B | None]]: ...

    def __call__(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        body: type[Any] | None = None,
        optional: type[Any] | None = None,
        late: bool = False,
        waits: bool = False,
        on: str | None = None,
    ) -> Callable[[Typed[Any]], Typed[Any]]:
        """Declares a route. `optional` is a body that may be left out (BODY-3). `late` leaves the scope check to the
        handler, which calls `call.need(...)` where its rule places it. One that `waits` is cancelled when its client goes.
        `on` is the kind of resource, as for `Principal.may`, that the first parameter of the path names."""

        def declare(handler: Typed[Any]) -> Typed[Any]:
            self._routes.append(
                Route(method, path, scope, handler, body or optional, optional is not None, late, waits, on)
            )
            return handler

        return declare


class Table:
    """All routes, arranged for finding: by method and number of segments, literals before parameters."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._candidates: dict[tuple[str, int], list[Route]] = {}
        self.routes = sorted(routes, key=lambda route: (route.path, route.method))
        for route in self.routes:
            self._candidates.setdefault((route.method, len(route.pattern)), []).append(route)
        for found in self._candidates.values():
            found.sort(key=lambda route: [part is None for part in route.pattern])
            if len({route.pattern for route in found}) != len(found):
                raise ValueError(f"two routes cannot be told apart among {[route.path for route in found]}")

    def find(self, method: str, raw_path: bytes) -> tuple[Route, dict[str, str]] | None:
        parts = _decoded(raw_path)
        if parts is None:
            return None
        for route in self._candidates.get((method, len(parts)), ()):
            values = route.match(parts)
            if values is not None:
                return route, values
        return None


def _decoded(raw_path: bytes) -> list[str] | None:
    """The segments of a path, or None if it is not one that a route could have."""
    if not raw_path.startswith(b"/"):
        return None
    try:
        if b"%" not in raw_path:
            return raw_path[1:].decode("ascii").split("/")
        return [unquote_to_bytes(part).decode("utf-8") for part in raw_path[1:].split(b"/")]
    except UnicodeDecodeError:
        return None
