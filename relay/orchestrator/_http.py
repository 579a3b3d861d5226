"""A small HTTP server on h11: JSON in, JSON or an event stream out, one request at a time per connection, everything bounded."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import h11
import trio

from ._problems import Refused

__all__ = ["Bad", "Request", "Streamed", "same_machine", "serve_http"]

log = logging.getLogger(__name__)

REQUEST_WITHIN = 10.0  # seconds from the first byte of a request to the last of its answer
IDLE_WITHIN = 30.0  # seconds between two requests
CONNECTIONS = 64
PART = 16 * 1024  # bytes read at once; also the largest head
BODY_LIMIT = 64 * 1024  # bytes
TAKEN_WITHIN = 20.0  # seconds that the reader of a stream has for each part
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Bad(Exception):
    """A request that gets an error answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@attrs.frozen
class Request:
    """What was asked, and whether on this machine. Of a name that is given more than once the last value counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    is_here: bool = False


@attrs.frozen
class Streamed:
    """An event stream: these parts, until there are no more or the reader goes."""

    parts: AsyncGenerator[bytes]


Answer = tuple[int, dict[str, Any]]
Handler = Callable[[Request], Awaitable[Answer | Streamed]]


async def serve_http(
    handler: Handler, host: str, port: int, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; started with the base URL. Raises `Refused` when the address cannot be listened on."""
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        why = error.strerror or str(error)
        raise Refused(
            f"the host API cannot listen on {host}:{port}: {why}; set apiPort to 0 for any free port"
        ) from error
    task_status.started(f"http://{host}:{listeners[0].socket.getsockname()[1]}")
    limiter = trio.CapacityLimiter(CONNECTIONS)
    await trio.serve_listeners(partial(_connection, handler, limiter), listeners)


async def _connection(handler: Handler, limiter: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=PART)
    async with stream, limiter:
        try:
            while await _arrived(connection, stream):
                with trio.fail_after(REQUEST_WITHIN):
                    streamed = await _exchange(handler, connection, stream)
                if streamed is not None:
                    await _stream(streamed, connection, stream)
                    return
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (h11.LocalProtocolError, trio.TooSlowError, *GONE):
            return


async def _arrived(connection: h11.Connection, stream: trio.SocketStream) -> bool:
    """Waits for the next request to begin; False when there is none."""
    if connection.trailing_data[0]:
        return True
    with trio.move_on_after(IDLE_WITHIN):
        part = await stream.receive_some(PART)
        connection.receive_data(part)
        return bool(part)
    return False


async def _exchange(
    handler: Handler, connection: h11.Connection, stream: trio.SocketStream
) -> Streamed | None:
    """Answers one request, but for a stream, which takes longer."""
    try:
        found = await handler(await _request(connection, stream))
        if isinstance(found, Streamed):
            return found
        status, answer = found
    except Bad as bad:
        status, answer = bad.status, {"error": str(bad)}
    except h11.RemoteProtocolError as error:
        status, answer = error.error_status_hint, {"error": str(error)}
    except GONE:
        raise
    except Exception as error:
        log.exception("host API")
        status, answer = 500, {"error": f"{type(error).__name__}: {error}"}
    body = json.dumps(answer).encode()
    head = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("x-content-type-options", "nosniff"),
        *([("connection", "close")] if connection.their_state is not h11.DONE else []),
    ]
    for event in (h11.Response(status_code=status, headers=head), h11.Data(data=body), h11.EndOfMessage()):
        await stream.send_all(connection.send(event) or b"")
    return None


async def _stream(streamed: Streamed, connection: h11.Connection, stream: trio.SocketStream) -> None:
    head = [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("connection", "close"),
    ]
    async with aclosing(streamed.parts) as parts, trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_gone, stream, nursery.cancel_scope)
        with suppress(trio.TooSlowError, *GONE):
            await _taken(connection.send(h11.Response(status_code=200, headers=head)), stream)
            async for part in parts:
                await _taken(connection.send(h11.Data(data=part)), stream)
            await _taken(connection.send(h11.EndOfMessage()), stream)
        nursery.cancel_scope.cancel()


async def _taken(data: bytes | None, stream: trio.SocketStream) -> None:
    with trio.fail_after(TAKEN_WITHIN):
        await stream.send_all(data or b"")


async def _cancel_when_gone(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    with suppress(*GONE):
        while await stream.receive_some(PART):
            pass
    scope.cancel()


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> Request:
    head = await _next(connection, stream)
    if not isinstance(head, h11.Request):
        raise trio.ClosedResourceError
    body = bytearray()
    while isinstance(part := await _next(connection, stream), h11.Data):
        body += part.data
        if len(body) > BODY_LIMIT:
            raise Bad(413, f"the body is larger than {BODY_LIMIT} bytes")
    url = urlsplit(head.target.decode("latin1"))
    return Request(
        method=head.method.decode("latin1"),
        path=unquote(url.path),
        query={name: values[-1] for name, values in parse_qs(url.query).items()},
        headers={name.decode("latin1"): value.decode("latin1") for name, value in head.headers},
        body=bytes(body),
        is_here=_is_here(stream),
    )


def _is_here(stream: trio.SocketStream) -> bool:
    try:
        return same_machine(stream.socket.getsockname()[0], stream.socket.getpeername()[0])
    except OSError:  # it has gone
        return False


def same_machine(ours: str, peer: str) -> bool:
    """Whether who is at the other end of a connection, by both addresses, is on this machine."""
    return ours == peer or (ip_address(ours).is_loopback and ip_address(peer).is_loopback)


async def _next(connection: h11.Connection, stream: trio.SocketStream) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.receive_some(PART))
    return event
