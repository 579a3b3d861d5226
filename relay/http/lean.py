"""Hypercorn's connection handling with half the cost per request, kept behind a switch (`Hosting.lean`).

What is touched of Hypercorn's inside is `hypercorn.trio.tcp_server.TCPServer` and its `TaskGroup`:
- the head of an answer waits for its body and leaves in the same write, which costs no switch of task when the socket
  takes it at once; later parts of a streamed answer are written the usual way;
- what the parser hands to the application costs no switch of task either;
- idle connections are found by one sweeper, not by a task started and cancelled for every request;
- a client that does not take its answer in time is dropped by that sweeper too, also where the kernel has no
  `TCP_USER_TIMEOUT`, and at once when the server stops.
"""

import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import time
from typing import Any

import hypercorn.trio.run
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, ConnectionState, Scope
from hypercorn.utils import parse_socket_addr

__all__ = ["LeanConfig"]

SWEEP = 1.0  # seconds, at most, between two looks at all connections
SWEEP_STOPPING = 0.05
MOST_MESSAGES = 16  # from the parser to the application
MOST_BYTES = 1_048_576  # of them, but for a single larger one


class LeanConfig(Config):
    """A Hypercorn configuration whose server uses lean connections, and the connections it has now.

    `stalled`: seconds that a client may take to accept what is sent to it.
    """

    def __init__(self, *, stalled: float) -> None:
        self.stalled = stalled
        self.connections: set[_Connection] = set()
        self._second = 0
        self._headers: list[tuple[bytes, bytes]] = []

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        """As it is, but the date is not put into words for every answer."""
        second = int(time())
        if second != self._second:
            self._second, self._headers = second, super().response_headers(protocol)
        return self._headers

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
            await self._serve()
        except OSError:
            pass
        except Exception:  # noqa: BLE001 - it is logged; the other connections have nothing to do with it
            await self.config.log.exception("a connection failed")
        finally:
            self.config.connections.discard(self)
            await self._close()

    async def _serve(self) -> None:
        socket = self.stream.socket
        client = parse_socket_addr(socket.family, socket.getpeername())
        server = parse_socket_addr(socket.family, socket.getsockname())
        async with _Tasks() as tasks:
            self._task_group = tasks
            self.protocol = ProtocolWrapper(
                self.app,
                self.config,
                self.context,
                tasks,
                ConnectionState(self.state),
                False,
                client,
                server,
                self.protocol_send,
                "http/1.1",
            )
            await self.protocol.initiate()
            self.idle_task.since = trio.current_time()
            await self._read_data()

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
        head, self._head = self._head, b""
        if head:
            data = self._at_once(head + data)
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

    def _at_once(self, data: bytes) -> bytes:
        """Writes what the socket takes without waiting; returns the rest. Errors are left to the usual way."""
        if self.send_lock.locked():
            return data
        try:
            return data[os.write(self.stream.socket.fileno(), data) :]
        except OSError:
            return data

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


class _Tasks(TaskGroup):
    """The tasks of one connection: one for each request, one after the other."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        inbox = _Inbox()
        self.spawn(_run_app, app, config, scope, inbox, send)
        return inbox.put


async def _run_app(
    app: AppWrapper,
    config: Config,
    scope: Scope,
    inbox: "_Inbox",
    send: Callable[[ASGISendEvent | None], Awaitable[None]],
) -> None:
    try:
        await app(scope, inbox.receive, send, trio.to_thread.run_sync, trio.from_thread.run)
    except Exception:  # noqa: BLE001 - it is logged, and the connection goes on or is closed below
        await config.log.exception("the application failed")
    finally:
        inbox.close()
        await send(None)


class _Inbox:
    """What the parser has for the application. Bounded by making the parser wait, while there is somebody to read."""

    def __init__(self) -> None:
        self._messages: deque[ASGIReceiveEvent] = deque()
        self._bytes = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._closed = False

    async def put(self, message: ASGIReceiveEvent) -> None:
        size = _size(message)
        while self._messages and not (self._closed or self._has_room(size)):
            await self._changed.park()
        if not self._closed:
            self._messages.append(message)
            self._bytes += size
            self._changed.unpark_all()

    async def receive(self) -> ASGIReceiveEvent:
        while not self._messages:
            await self._changed.park()
        message = self._messages.popleft()
        self._bytes -= _size(message)
        self._changed.unpark_all()
        return message

    def _has_room(self, size: int) -> bool:
        return len(self._messages) < MOST_MESSAGES and self._bytes + size <= MOST_BYTES

    def close(self) -> None:
        self._closed = True
        self._messages.clear()
        self._changed.unpark_all()


def _size(message: ASGIReceiveEvent) -> int:
    given: Mapping[str, Any] = message
    return len(given.get("body") or given.get("text") or given.get("bytes") or "")


def _is_final_head(data: bytes) -> bool:
    return data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1")


def _connection(app: Any, config: Config, *rest: Any) -> TCPServer:
    kind = _Connection if isinstance(config, LeanConfig) else TCPServer
    return kind(app, config, *rest)


setattr(hypercorn.trio.run, "TCPServer", _connection)  # noqa: B010 - a factory where Hypercorn calls its class
