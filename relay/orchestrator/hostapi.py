"""The host API: what relay asks this host directly, over HTTP (2.26).

A small server on h11: a handful of GET routes, one request at a time per connection, everything bounded. The token is
the daemon's own, compared in constant time; the Host header must name this host.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import h11
import trio

from relay import __version__

from .config import Config
from .gitstate import diff, preview, probe, state
from .paths import inside

__all__ = ["HostApi", "serve_host_api"]

REQUEST_WITHIN = 10.0  # seconds for head and answer together
GIT_WITHIN = 8.0
CONNECTIONS = 64
HEAD_LIMIT = 16 * 1024  # bytes

Query = Mapping[str, str]


class Bad(Exception):
    """A request that gets an error answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@attrs.frozen
class HostApi:
    """What the routes need."""

    config: Config
    health: Callable[[], dict[str, object]]
    sessions: Callable[[], list[dict[str, object]]]

    async def answer(self, target: str, headers: Mapping[bytes, bytes]) -> Any:
        """The JSON answer to GET `target`; raises `Bad`."""
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path == "/api/health":
            return self.health()
        self._authorise(headers)
        if url.path == "/api/sessions":
            return {"sessions": self.sessions()}
        if url.path == "/api/version":
            return {"orchestrator": __version__, "runner": __version__}
        route = self._routes().get(url.path)
        if route is None:
            raise Bad(404, f"there is no {url.path} here")
        path = self._path(query)
        with trio.move_on_after(GIT_WITHIN):
            return await route(path, query)
        return {"error": f"git took longer than {GIT_WITHIN:.0f} s"}

    def _routes(self) -> Mapping[str, Callable[[Path, Query], Awaitable[dict[str, Any]]]]:
        return {
            "/api/workspace/probe": lambda path, query: probe(path),
            "/api/workspace/state": lambda path, query: state(
                path, query.get("baseRef"), query.get("baseSha")
            ),
            "/api/workspace/merge-preview": lambda path, query: preview(
                path, query.get("baseRef"), query.get("baseSha"), query.get("strategy", "auto")
            ),
            "/api/workspace/diff": lambda path, query: diff(
                path, query.get("baseRef"), query.get("baseSha"), patch=query.get("patch") != "0"
            ),
        }

    def _authorise(self, headers: Mapping[bytes, bytes]) -> None:
        bearer = headers.get(b"authorization", b"")
        given = headers.get(b"x-agent-relay-token") or (
            bearer[7:] if bearer[:7].lower() == b"bearer " else b""
        )
        token = (self.config.token or "").encode()
        if not token or not secrets.compare_digest(given.strip(), token):
            raise Bad(401, "the token is missing or wrong")

    def _path(self, query: Query) -> Path:
        path = Path(query.get("path", ""))
        if not path.is_absolute() or not inside(self.config.base_dir, path):
            raise Bad(400, f"path must be inside {self.config.base_dir}")
        return path

    def allows(self, host: bytes) -> bool:
        """Whether a Host header names this host."""
        name = host.decode("latin1").rpartition(":")[0] or host.decode("latin1")
        return name in {"127.0.0.1", "localhost", "[::1]", self.config.api_host, self.config.hostname}


async def serve_host_api(
    api: HostApi, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; started with the base URL."""
    listeners = await trio.open_tcp_listeners(api.config.api_port, host=api.config.api_host)
    port = listeners[0].socket.getsockname()[1]
    limiter = trio.CapacityLimiter(CONNECTIONS)
    task_status.started(f"http://{api.config.api_host}:{port}")
    await trio.serve_listeners(partial(_connection, api, limiter), listeners)


async def _connection(api: HostApi, limiter: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    async with stream, limiter:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        try:
            while connection.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}:
                with trio.fail_after(REQUEST_WITHIN):
                    await _exchange(api, connection, stream)
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (
            h11.RemoteProtocolError,
            trio.TooSlowError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
        ):
            return


async def _exchange(api: HostApi, connection: h11.Connection, stream: trio.SocketStream) -> None:
    request = await _next(connection, stream)
    if not isinstance(request, h11.Request):
        return
    while not isinstance(await _next(connection, stream), h11.EndOfMessage):
        pass
    headers = dict(request.headers)
    status, answer = 200, None
    try:
        if not api.allows(headers.get(b"host", b"")):
            raise Bad(421, "this host does not answer to that name")
        if request.method != b"GET":
            raise Bad(404, "only GET is served here")
        answer = await api.answer(request.target.decode("latin1"), headers)
    except Bad as bad:
        status, answer = bad.status, {"error": str(bad)}
    body = json.dumps(answer).encode()
    head = [("content-type", "application/json"), ("content-length", str(len(body)))]
    for event in (h11.Response(status_code=status, headers=head), h11.Data(data=body), h11.EndOfMessage()):
        await stream.send_all(connection.send(event) or b"")


async def _next(connection: h11.Connection, stream: trio.SocketStream) -> object:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        connection.receive_data(await stream.receive_some(HEAD_LIMIT))
