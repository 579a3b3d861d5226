"""The one wrapper around the application, against what the libraries below and the network do wrong.

- A request reaches the application only when its whole body is here, within a size (413) and a time (408). Answering
  before the body has come leaves a Quart connection open and deaf.
- `Host` must name this server, compared exactly (421); a browser's `Origin` must be the same place (403). Together
  they stop DNS rebinding and calls from foreign pages.
- What is held for unfinished requests is bounded (503).
- The end of an answer is sent under a shield. It may close the connection; quart-trio hears of that and cancels the
  application, which would leave the socket open and deaf.
- Every answer carries the security headers, and every failure is JSON (`relay.http.protocol` sees to those below).
- Each WebSocket send is a checkpoint: a send on a closed socket otherwise returns at once, for ever.
"""

import ipaddress
import logging
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

import attrs
import orjson
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    HTTPScope,
    Scope,
    WebsocketScope,
)

__all__ = ["Guard", "Hosts", "Limits", "Refusal", "refusal_headers", "refusal_text"]

log = logging.getLogger(__name__)

SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
DOCUMENT_HEADERS = ((b"referrer-policy", b"no-referrer"), (b"cross-origin-opener-policy", b"same-origin"))
NO_DOCUMENTS = (b"application/json", b"text/event-stream")
KNOWN_HOSTS = 256  # Host values whose check is remembered
OWN_SITES = (b"same-origin", b"none")
HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")


@attrs.frozen
class Limits:
    """Bounds of one request (bytes, seconds) and of all unfinished ones together."""

    body: int = 1_048_576
    body_seconds: float = 15.0
    requests: int = 4_096
    held: int = 64 * 1_048_576
    discarded: int = 8 * 1_048_576  # read beyond the limit and thrown away, so that the client sees the 413


@attrs.frozen
class Refusal(Exception):
    """The guard says no. `closes`: the rest of the request is not worth reading."""

    status: int
    text: str
    closes: bool = False


class Disconnected(Exception):
    """The client left before its request was whole."""


class Hosts:
    """The names this server answers to, at any port: loopback, and those configured."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset({"localhost", *(name.strip("[]").lower() for name in names)})
        self.allow = lru_cache(KNOWN_HOSTS)(self._allow)

    def _allow(self, host: bytes) -> bool:
        """Whether the value of a Host header names this server. Parsed and compared whole, never by prefix."""
        match = HOST.fullmatch(host.decode("latin1").lower())
        if match is None:
            return False
        name = match["six"] or match["name"]
        return name in self._names or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _same_place(origin: bytes, host: bytes) -> bool:
    scheme, separator, authority = origin.lower().partition(b"://")
    return bool(separator) and scheme in (b"http", b"https", b"ws", b"wss") and authority == host.lower()


class Guard:
    """Wraps an ASGI application. `held` and `open` say what unfinished requests cost right now."""

    def __init__(
        self, app: ASGIFramework, *, hosts: Hosts | None = None, limits: Limits | None = None
    ) -> None:
        self._app = app
        self._hosts = hosts or Hosts()
        self._limits = limits or Limits()
        self.held = 0
        self.open = 0

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, _Sender(send))
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: "_Sender") -> None:
        headers = dict(scope["headers"])
        self.open += 1
        body = _Body(self, receive)
        try:
            await body.read(headers)
            self.check(headers)
            await self._app(scope, body.replay, cast(ASGISendCallable, send))
        except Disconnected:
            pass
        except Refusal as refusal:
            await send.refuse(refusal)
        except Exception:
            log.exception("the application failed on %s %s", scope["method"], scope["path"])
            await send.refuse(Refusal(500, "internal error", closes=True))
        finally:
            self.open -= 1
            self.held -= body.size

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises `Refusal` unless the request is meant for this server and comes from nowhere else."""
        host = headers.get(b"host", b"")
        if not self._hosts.allow(host):
            raise Refusal(421, "this server does not answer to that Host; allow it with --allow-host")
        origin = headers.get(b"origin")
        if origin is not None and not _same_place(origin, host):
            raise Refusal(403, "requests from another origin are not allowed")
        if headers.get(b"sec-fetch-site", b"none") not in OWN_SITES:
            raise Refusal(403, "requests from another site are not allowed")

    def admit(self, size: int) -> None:
        """Takes `size` bytes into account, or raises 503 when unfinished requests hold too much."""
        if self.open > self._limits.requests or self.held + size > self._limits.held:
            raise Refusal(503, "too many requests at once; try again", closes=True)
        self.held += size

    @property
    def limits(self) -> Limits:
        return self._limits

    async def _websocket(
        self, scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        try:
            self.check(dict(scope["headers"]))
        except Refusal as refusal:
            for message in _answer("websocket.http.response", refusal):
                await send(message)
            return

        async def checkpointed(message: ASGISendEvent) -> None:
            await send(message)
            await trio.lowlevel.checkpoint()

        await self._app(scope, receive, checkpointed)


class _Body:
    """Reads a request body whole, then replays it to the application as one message."""

    def __init__(self, guard: Guard, receive: ASGIReceiveCallable) -> None:
        self._guard = guard
        self._receive = receive
        self._whole: ASGIReceiveEvent | None = None
        self.size = 0

    async def read(self, headers: Mapping[bytes, bytes]) -> None:
        self._guard.admit(0)
        declared = headers.get(b"content-length", b"0")
        if declared == b"0" and b"transfer-encoding" not in headers:
            await self._collect()  # there is no body: its end is already here, and a limit would only cost
            return
        with trio.CancelScope(deadline=trio.current_time() + self._guard.limits.body_seconds) as scope:
            await self._collect()
        if scope.cancelled_caught:
            raise Refusal(408, "the request body took too long", closes=True)

    async def _collect(self) -> None:
        parts = []
        more = True
        while more:
            part, more = await self._part()
            if self.size + len(part) > self._guard.limits.body:
                await self._discard(more)
                raise Refusal(
                    413, f"the request body is larger than {self._guard.limits.body} bytes", closes=True
                )
            self._guard.admit(len(part))
            self.size += len(part)
            parts.append(part)
        self._whole = {"type": "http.request", "body": b"".join(parts), "more_body": False}

    async def _part(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] != "http.request":
            raise Disconnected
        return message["body"], message["more_body"]

    async def _discard(self, more: bool) -> None:
        """A socket closed with unread data is reset, and the reset can overtake the answer: read on a while."""
        room = self._guard.limits.discarded
        while more and room > 0:
            part, more = await self._part()
            room -= len(part)

    async def replay(self) -> ASGIReceiveEvent:
        whole, self._whole = self._whole, None
        return whole if whole is not None else await self._receive()


class _Sender:
    """The application's way out: adds the security headers, and remembers whether an answer has begun."""

    def __init__(self, send: ASGISendCallable) -> None:
        self._send = send
        self._begun = False

    async def __call__(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            message["headers"] = secured(message["headers"])
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            with trio.CancelScope(shield=True):
                await self._send(message)
            return
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answers with the refusal, unless an answer has begun: then the connection is cut off by returning."""
        if self._begun:
            return
        for message in _answer("http.response", refusal):
            await self(message)


def secured(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with the security headers that it does not set itself."""
    given = list(headers)
    names = dict(given)
    given += [header for header in SECURITY_HEADERS if header[0] not in names]
    if names.get(b"content-type", b"").partition(b";")[0] not in NO_DOCUMENTS:
        given += [header for header in DOCUMENT_HEADERS if header[0] not in names]
    return given


def refusal_text(refusal: Refusal) -> bytes:
    """The body of the answer."""
    return orjson.dumps({"error": refusal.text})


def refusal_headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """The headers of the answer, all that it needs."""
    length = len(refusal_text(refusal))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    if refusal.closes:
        headers.append((b"connection", b"close"))
    if refusal.status == 503:
        headers.append((b"retry-after", b"1"))
    return secured(headers)


def _answer(kind: str, refusal: Refusal) -> tuple[Any, Any]:
    """The answer as two messages of ASGI."""
    start = {"type": f"{kind}.start", "status": refusal.status, "headers": refusal_headers(refusal)}
    return start, {"type": f"{kind}.body", "body": refusal_text(refusal), "more_body": False}
