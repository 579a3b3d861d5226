"""A host's API as a socket of this machine that notes what it is asked, and answers as a test wants it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import trio

Behaviour = Callable[[trio.abc.Stream], Awaitable[None]]


def saying(status: int, body: str, *, kind: str | None = "application/json", more: str = "") -> Behaviour:
    typed = f"content-type: {kind}\r\n" if kind else ""
    text = f"HTTP/1.1 {status} x\r\n{typed}{more}content-length: {len(body.encode())}\r\nconnection: close\r\n\r\n{body}"
    return lambda stream: stream.send_all(text.encode())


async def silent(stream: trio.abc.Stream) -> None:
    while await stream.receive_some():
        pass


async def slow_body(stream: trio.abc.Stream) -> None:
    """A head in time, and a body that does not come."""
    await stream.send_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    )
    await silent(stream)


async def babbling(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"-ERR unknown command 'GET'\r\n")


async def endless(stream: trio.abc.Stream) -> None:
    await stream.send_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    while True:
        await stream.send_all(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


@attrs.frozen
class Asked:
    """One request as it came, its header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@attrs.define
class HostApi:
    port: int
    behaviour: Behaviour = attrs.field(factory=lambda: saying(200, "{}"))
    asked: list[Asked] = attrs.field(factory=list)
    connections: int = 0
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        if self.tls is not None:
            stream = trio.SSLStream(stream, self.tls, server_side=True, https_compatible=True)  # type: ignore[arg-type,assignment]
        try:
            async with stream:
                self.asked.append(await _request(stream))
                await self.behaviour(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, EOFError):
            pass


async def _request(stream: trio.abc.Stream) -> Asked:
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        buffer += await _more(stream)
    head, _, body = buffer.partition(b"\r\n\r\n")
    request, *lines = head.decode("latin1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += await _more(stream)
    method, target, _ = request.split(" ")
    return Asked(method, target, headers, body)


async def _more(stream: trio.abc.Stream) -> bytes:
    part = await stream.receive_some(65_536)
    if not part:
        raise EOFError
    return bytes(part)


@asynccontextmanager
async def host_api(address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[HostApi]:
    [listener] = await trio.open_tcp_listeners(0, host=address)
    api = HostApi(listener.socket.getsockname()[1], tls=tls)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, api.serve, [listener])
        yield api
        nursery.cancel_scope.cancel()
