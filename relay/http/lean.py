"""Hypercorn's connection handling with half the cost per request, kept behind a switch (`Settings.lean`).

Three changes to `hypercorn.trio.tcp_server.TCPServer`, the only inner part of Hypercorn that is touched:
- the head of an answer waits for its body and leaves in the same `send`;
- idle connections are found by one sweeper, not by a task started and cancelled for every request;
- a client that does not take its answer in time is dropped by that sweeper too, also where the kernel has no
  `TCP_USER_TIMEOUT`, and at once when the server stops.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import hypercorn.trio.run
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer

__all__ = ["LeanConfig"]

SWEEP = 1.0  # seconds, at most, between two looks at all connections
SWEEP_STOPPING = 0.05


class LeanConfig(Config):
    """A Hypercorn configuration whose server uses lean connections, and the connections it has now.

    `stalled`: seconds that a client may take to accept what is sent to it.
    """

    def __init__(self, *, stalled: float) -> None:
        self.stalled = stalled
        self.connections: set[_Connection] = set()

    async def sweep(self, stop: trio.Event) -> None:
        """Closes what is idle or stalled; after `stop` every idle connection at once. Runs until cancelled."""
        pause = min(SWEEP, self.keep_alive_timeout / 2, self.stalled / 2)
        while not stop.is_set():
            with trio.move_on_after(pause):
                await stop.wait()
            await self._close(self.keep_alive_timeout, self.stalled)
        with trio.move_on_after(self.graceful_timeout):
            while True:
                await self._close(0.0, self.stalled)
                await trio.sleep(SWEEP_STOPPING)
        while True:
            await self._close(0.0, 0.0)
            await trio.sleep(SWEEP_STOPPING)

    async def _close(self, idle: float, stalled: float) -> None:
        now = trio.current_time()
        for connection in list(self.connections):
            if connection.writing_since is not None and now - connection.writing_since >= stalled:
                connection.abort()
            elif connection.idle_task.since is not None and now - connection.idle_task.since >= idle:
                await connection.close_idle()


class _IdleSince:
    """Stands where Hypercorn has a task per connection: only notes since when the connection is idle."""

    def __init__(self) -> None:
        self.since: float | None = None

    async def restart(self, task_group: Any, action: Callable[[], Awaitable[None]]) -> None:
        self.since = trio.current_time()

    async def stop(self) -> None:
        self.since = None


class _Connection(TCPServer):
    config: LeanConfig
    idle_task: _IdleSince  # type: ignore[assignment]  # the two methods the base class calls

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle_task = _IdleSince()
        self.writing_since: float | None = None
        self._head = b""

    async def run(self) -> None:
        self.config.connections.add(self)
        try:
            await super().run()
        finally:
            self.config.connections.discard(self)

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if self._head or not _is_final_head(event.data):
                await self._write(event.data)
            else:
                self._head = event.data
            return
        await self._write(b"")
        if isinstance(event, Updated):
            self.idle_task.since = trio.current_time() if event.idle else None
        else:
            await super().protocol_send(event)

    async def _write(self, data: bytes) -> None:
        """Sends the withheld head, if any, and `data`. Cannot be cancelled, like the method it stands for: half an
        answer is none. The sweeper limits it."""
        data, self._head = self._head + data, b""
        if not data:
            return
        async with self.send_lock:
            self.writing_since = trio.current_time()
            try:
                with trio.CancelScope(shield=True):
                    await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
            finally:
                self.writing_since = None

    async def _read_data(self) -> None:
        receive, handle = self.stream.receive_some, self.protocol.handle
        try:
            while data := await receive(MAX_RECV):
                await handle(RawData(bytes(data)))
            await handle(RawData(b""))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        await handle(Closed())

    async def close_idle(self) -> None:
        self.idle_task.since = None
        await self._initiate_server_close()

    def abort(self) -> None:
        """Closes the socket under a send that does not end; the send then fails."""
        self.stream.socket.close()


def _is_final_head(data: bytes) -> bool:
    return data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1")


def _connection(app: Any, config: Config, *rest: Any) -> TCPServer:
    kind = _Connection if isinstance(config, LeanConfig) else TCPServer
    return kind(app, config, *rest)


setattr(hypercorn.trio.run, "TCPServer", _connection)  # noqa: B010 - a factory where Hypercorn calls its class
