"""The application: answers the declared routes, and leaves everything else to Quart.

A plain request costs one task (Hypercorn's) and one cancel scope. Declared routes are answered in Quart's public
extension point for connections, before Quart makes a request context, a nursery and a second task for them
(`benchmarks/edge.py` measures what that saves). Quart serves what is not the API.

Order of checks: route (404), token (401), body (400), scope (403) unless the route checks it later, then the handler.
"""

from collections.abc import Awaitable, Collection, Mapping
from contextlib import suppress
from typing import Any, cast

import orjson
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from quart import Response
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection
from werkzeug.exceptions import HTTPException

from relay import wire
from relay.actors import ActorError
from relay.fleet import Fleet
from relay.fleet.denials import Denied
from relay.fleet.tokens import host_with

from .answers import Answer, Header, Stream, failure
from .auth import Authenticator, BadToken, Principal, peer_of, unauthorized
from .bus import Bus
from .errors import CHALLENGE, Refused, answer_to
from .keys import Keyring
from .query import NO_QUERY, Query
from .routing import PUBLIC, Call, Route, Table
from .upstream import Upstream
from .verifying import Verifier

__all__ = ["Edge"]

MOST_STREAMS = 2_000
CLOSE_WITHIN = 2.0  # seconds
FORBIDDEN = 403


class Edge(QuartTrio):
    """The Quart application of a server. `close_streams` ends what has no end of its own: event streams, and the bus."""

    def __init__(
        self,
        fleet: Fleet,
        table: Table,
        authenticator: Authenticator,
        upstream: Upstream,
        *,
        answer_within: float,
        keys: Keyring | None = None,
    ) -> None:
        super().__init__("relay.http", static_folder=None)
        self.asgi_http_class = _Connection
        self.asgi_websocket_class = _Socket
        self.register_error_handler(HTTPException, _quart_failure)
        self.table = table
        self.fleet = fleet
        self.tokens = Verifier(keys or Keyring.passing(), fleet)
        authenticator.verifier = self.tokens
        fleet.revocations.listeners.append(self._ended)
        self._authenticator = authenticator
        self.upstream = upstream
        self._answer_within = answer_within
        self.bus = Bus(fleet, authenticator, self.tokens.ends_at, self.denied, answer_within=answer_within)
        self._started = trio.current_time()
        self._streams: dict[trio.CancelScope, Principal] = {}
        self._closing = False

    async def answer(
        self, route: Route, path: dict[str, str], scope: HTTPScope, receive: ASGIReceiveCallable
    ) -> Answer | Stream:
        """What the route says to the request; failures are answers too. Gives up with 504 after a while."""
        principal = NOBODY
        try:
            with trio.CancelScope(deadline=trio.current_time() + self._answer_within) as limit:
                headers = dict(scope["headers"])
                principal = self._principal(route, headers, scope)
                call = await self._call(route, path, scope, receive, headers, principal)
                if route.waits:
                    return await _while_there(receive, route.handler(call))
                return await route.handler(call)
            assert limit.cancelled_caught
            raise trio.TooSlowError
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer; answer_to logs what is a defect
            answer = answer_to(error)
            if answer.status == FORBIDDEN:
                where = f"{route.method} {route.path}"
                self.denied(Denied(FORBIDDEN, str(error), where, peer_of(scope), principal.caller))
            return answer

    async def _call(
        self,
        route: Route,
        path: dict[str, str],
        scope: HTTPScope,
        receive: ASGIReceiveCallable,
        headers: Mapping[bytes, bytes],
        principal: Principal,
    ) -> Call[Any]:
        body = _body(route, cast(Any, await receive())["body"])
        if route.is_fleet_wide and principal.is_limited:
            raise Refused(403, "this token is for some of the fleet only")
        early = route.scope != PUBLIC and not route.scope_checked_late
        if early and not principal.may(route.scope, **self._concerns(route, path, principal)):
            raise Refused(403, "forbidden")
        text = scope["query_string"]
        query = Query(text) if text else NO_QUERY
        return Call(self.fleet, principal, body, path, query, headers, self, peer_of(scope))

    def _concerns(self, route: Route, path: Mapping[str, str], principal: Principal) -> dict[str, str | None]:
        """Whom the request is about. An agent may be the identity of a host: then it is about that, too."""
        known = route.concerns(path)
        if "agent" in known and principal.constraints.orchestrators is not None:
            known["orchestrator"] = host_with(self.fleet.store, known["agent"] or "")
        return known

    def _principal(self, route: Route, headers: Mapping[bytes, bytes], scope: HTTPScope) -> Principal:
        try:
            return self._authenticator.identified(headers)
        except BadToken as bad:
            if route.scope == PUBLIC:
                return NOBODY
            self.denied(Denied(401, str(bad), peer=peer_of(scope), by=bad.by))
            raise Refused(401, unauthorized(bad), CHALLENGE) from None

    def denied(self, denial: Denied) -> None:
        """Have it on record. There may be more refusals than there is time to record."""
        with suppress(ActorError):
            self.fleet.denials.tell(denial)

    async def stream(
        self, stream: Stream, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Sends until the stream ends, the client goes, its token does, or `close_streams` is called."""
        try:
            await self._stream(stream, scope, receive, send)
        finally:
            if stream.close is not None:
                with trio.move_on_after(CLOSE_WITHIN, shield=True):
                    await stream.close()

    async def _stream(
        self, stream: Stream, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        if self._closing or len(self._streams) >= MOST_STREAMS:
            await send_answer(failure(503, "too many streams", (b"retry-after", b"5")), send)
            return
        principal = self._authenticator.principal(dict(scope["headers"]))
        if principal is None:  # its token ended while the stream was made
            await send_answer(failure(401, "a valid token is required", CHALLENGE), send)
            return
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = self.tokens.ends_at(principal)
            self._streams[nursery.cancel_scope] = principal
            try:
                await _start(send, stream.status, (stream.content_type, *stream.headers))
                nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
                await stream.run(lambda chunk: _chunk(send, chunk, more=True))
            finally:
                del self._streams[nursery.cancel_scope]
            nursery.cancel_scope.cancel()
        await _chunk(send, b"", more=False)

    @property
    def streams(self) -> int:
        return len(self._streams)

    @property
    def bus_connections(self) -> int:
        return self.bus.connections

    def uptime(self) -> float:
        return trio.current_time() - self._started

    def end_strangers(self) -> None:
        """Ends what goes on for those whose token is none any more."""
        for scope, principal in self._streams.items():
            if not self._authenticator.knows(principal):
                scope.cancel()
        self.bus.end_strangers()

    def _ended(self, jtis: Collection[str] | None) -> None:
        """Tokens are none any more; None: nobody knows which."""
        self.tokens.forget(jtis)
        for scope, principal in self._streams.items():
            if self._is_over(principal, jtis):
                scope.cancel()
        self.bus.end_those(lambda principal: self._is_over(principal, jtis))

    def _is_over(self, principal: Principal, jtis: Collection[str] | None) -> bool:
        if jtis is None:
            return principal.jti is not None and not self.tokens.stands(principal)
        return principal.jti in jtis

    def close_streams(self) -> None:
        self._closing = True
        for scope in self._streams:
            scope.cancel()
        self.bus.close()


NOBODY = Principal("nobody", frozenset())


class _Connection(TrioASGIHTTPConnection):
    """Answers a declared route itself, without what Quart would set up around it."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        edge = cast(Edge, self.app)
        scope = self.scope
        found = edge.table.find(scope["method"], scope["raw_path"])
        if found is None:
            await super().__call__(receive, send)
            return
        answer = await edge.answer(*found, scope, receive)
        if isinstance(answer, Stream):
            await edge.stream(answer, scope, receive, send)
        else:
            await send_answer(answer, send)


class _Socket(TrioASGIWebsocketConnection):
    """Gives the bus its connections. Quart refuses the others."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if self.scope["path"] == "/bus":
            await cast(Edge, self.app).bus.serve(self.scope, receive, send)
        else:
            await super().__call__(receive, send)


def _body(route: Route, raw: bytes) -> Any:
    """The body as the route declares it. Routes that take any JSON check its members later."""
    if route.body is None:
        return None
    if route.body is bytes:
        return raw
    text = raw.strip()
    if route.empty_body and text in (b"", b"null"):
        return None
    if route.body is object or route.body is dict:
        return _json(text, must_be_object=route.body is dict)
    return wire.decode(route.body, text or b"null")


def _json(text: bytes, *, must_be_object: bool) -> Any:
    try:
        document = orjson.loads(text or b"null")
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    if must_be_object and type(document) is not dict:
        raise Refused(400, "expected a JSON object")
    return document


async def send_answer(answer: Answer, send: ASGISendCallable) -> None:
    length: Header = (b"content-length", b"%d" % len(answer.body))
    await _start(send, answer.status, (answer.content_type, length, *answer.headers))
    await _chunk(send, answer.body, more=False)


async def _start(send: ASGISendCallable, status: int, headers: tuple[Header, ...]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": False})


async def _chunk(send: ASGISendCallable, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _while_there(receive: ASGIReceiveCallable, handling: Awaitable[Answer | Stream]) -> Answer | Stream:
    """What the handler says. When the client goes it is cancelled, and what is said then reaches nobody."""
    failed: Exception | None = None
    answer: Answer | Stream = failure(503, "the client has gone")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
        try:
            answer = await handling
        except Exception as error:  # noqa: BLE001 - it is raised below, alone, and not in a group
            failed = error
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
    return answer


async def _cancel_when_gone(receive: ASGIReceiveCallable, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _quart_failure(error: HTTPException) -> Response:
    """Quart's own refusals, as JSON. A method that a path does not have counts as an unknown path (O-50)."""
    status = error.code or 500
    status = 404 if status == 405 else status
    text = "no such route" if status == 404 else error.description or error.name
    return Response(orjson.dumps({"error": text}), status, content_type="application/json")
