"""Hypercorn as a supervised child: an ASGI application on a listening socket until it is told to stop."""

import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import hypercorn.protocol
import hypercorn.protocol.h11
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework

from relay.wire.bus import LARGEST

from .lean import LeanConfig
from .listening import BACKLOG
from .protocol import EdgeProtocol
from .websocket import EdgeWebSocket

__all__ = ["Hosting", "hypercorn_config", "keep_serving"]

log = logging.getLogger(__name__)

RESTARTS = 5
RESTARTS_WITHIN = 30.0  # seconds


@attrs.frozen
class Hosting:
    """How connections are treated. Durations are seconds.

    `stalled`: a client that reads nothing for so long is dropped; `idle`: a connection without a request is closed;
    `grace`: what running requests get when the server stops; `lean`: use `relay.http.lean`.
    """

    stalled: float = 20.0
    idle: float = 75.0
    grace: float = 3.0
    lean: bool = True


async def keep_serving(
    app: ASGIFramework, listener: socket.socket, hosting: Hosting, stop: trio.Event
) -> None:
    """Serves until `stop`. When Hypercorn fails it is started again, with growing delays; raises when that is often."""
    await _supervise(partial(_serve, app, listener, hosting, stop))


async def _supervise(child: Callable[[], Awaitable[None]]) -> None:
    failures: deque[float] = deque(maxlen=RESTARTS)
    while True:
        try:
            return await child()
        except Exception:
            log.exception("the HTTP server failed")
            now = trio.current_time()
            failures.append(now)
            if len(failures) == RESTARTS and now - failures[0] < RESTARTS_WITHIN:
                raise
            await trio.sleep(0.1 * 2 ** len(failures))


async def _serve(app: ASGIFramework, listener: socket.socket, hosting: Hosting, stop: trio.Event) -> None:
    config = hypercorn_config(hosting)
    config.bind = [f"fd://{os.dup(listener.fileno())}"]  # Hypercorn closes what it is given
    async with trio.open_nursery() as nursery:
        if isinstance(config, LeanConfig):
            nursery.start_soon(config.sweep, stop)
        await serve(app, config, shutdown_trigger=stop.wait, mode="asgi")
        nursery.cancel_scope.cancel()


def hypercorn_config(hosting: Hosting) -> Config:
    """Hypercorn's settings, and why they are not the default."""
    config = LeanConfig(stalled=hosting.stalled) if hosting.lean else Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("relay.http.hypercorn")
    config.include_server_header = False
    config.graceful_timeout = hosting.grace
    config.keep_alive_timeout = hosting.idle  # also what a client has to send its request head in
    config.keep_alive_max_requests = 1_000_000
    config.read_timeout = None  # would end silent event streams; slow bodies are the guard's
    config.websocket_max_message_size = LARGEST
    config.backlog = BACKLOG
    return config


setattr(hypercorn.protocol.h11, "WSStream", EdgeWebSocket)  # noqa: B010
setattr(hypercorn.protocol, "H11Protocol", EdgeProtocol)  # noqa: B010 - what every connection begins with, lean or not
