"""A client that shows what really is on the wire: sends bytes, reads one answer at a time."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import orjson
import trio
from hypercorn.typing import ASGIFramework

from relay.http.hosting import Hosting, keep_serving
from relay.http.listening import listen


@attrs.frozen
class Received:
    """One answer, its header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> str:
        """The text of an error answer; fails unless the answer is exactly one."""
        assert self.headers["content-type"] == "application/json", self
        document = self.json
        assert list(document) == ["error"], self
        assert isinstance(document["error"], str)
        return document["error"]


class Connection:
    """A TCP connection to a server. Every wait in it ends after ten seconds."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        with trio.fail_after(10):
            await self.stream.send_all(data)

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Received:
        await self.send(request(method, path, body, **headers))
        return await self.answer()

    async def answer(self) -> Received:
        with trio.fail_after(10):
            head = await self.until(b"\r\n\r\n")
            status, *lines = head.decode("latin1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            size = int(headers.get("content-length", "0"))
            return Received(int(status.split()[1]), headers, await self.exactly(size))

    async def until(self, mark: bytes) -> bytes:
        """What comes before `mark`, which is taken off as well."""
        with trio.fail_after(10):
            while mark not in self._buffer:
                await self._more()
        before, _, self._buffer = self._buffer.partition(mark)
        return before

    async def exactly(self, size: int) -> bytes:
        with trio.fail_after(10):
            while len(self._buffer) < size:
                await self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def closed(self) -> bool:
        """Waits for the server to close the connection; False if something else comes first."""
        with trio.fail_after(10):
            try:
                return not self._buffer and await self.stream.receive_some() == b""
            except trio.BrokenResourceError:
                return True

    async def _more(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError(self._buffer)
        self._buffer += data


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request. An underscore in a header's name stands for a dash; Host defaults to localhost."""
    headers = {"host": "localhost", **headers}
    if body:
        headers["content_length"] = str(len(body))
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Connection]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Connection(stream)


@asynccontextmanager
async def serving(
    app: ASGIFramework, *, stop: trio.Event | None = None, **hosting: Any
) -> AsyncIterator[int]:
    """An ASGI application on a port of this machine, through everything relay puts below applications."""
    chosen = Hosting(**{"grace": 0.2, **hosting})
    stop = trio.Event() if stop is None else stop
    ended = trio.Event()

    async def keep(listener: socket.socket) -> None:
        await keep_serving(app, listener, chosen, stop)
        ended.set()

    with listen("127.0.0.1", 0, stalled=chosen.stalled) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, listener)
            yield listener.getsockname()[1]
            stop.set()
            with trio.fail_after(10):
                await ended.wait()


async def eventually(condition: Callable[[], bool], *, within: float = 10.0) -> None:
    """Returns once the condition holds."""
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(0.005)
