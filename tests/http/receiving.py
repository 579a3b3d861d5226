"""Places that are called back: real sockets on this machine, which answer as a test wants it."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import orjson
import trio

PEM = Path(__file__).parent / "hooks_example.pem"


@attrs.frozen
class Called:
    """One request as it came, its header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def delivery(self) -> str:
        return self.headers["x-agent-relay-delivery"]

    def is_signed_with(self, secret: str) -> bool:
        expected = "sha256=" + hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, self.headers["x-agent-relay-signature"])


Behaviour = Callable[[trio.abc.Stream], Awaitable[None]]


def answering(status: int, *headers: str) -> Behaviour:
    lines = [f"HTTP/1.1 {status} x", *headers, "content-length: 2", "connection: close", "", "ok"]
    return lambda stream: stream.send_all("\r\n".join(lines).encode())


def redirecting(to: str) -> Behaviour:
    return answering(307, f"location: {to}")


async def closing(stream: trio.abc.Stream) -> None:
    """Say nothing."""


async def silent(stream: trio.abc.Stream) -> None:
    """Never answer."""
    while await stream.receive_some():
        pass


async def endless(stream: trio.abc.Stream) -> None:
    """Success, and then more than anybody wants to hear."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await stream.send_all(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


async def trickling(stream: trio.abc.Stream) -> None:
    """Success, and then a body that does not come."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx")
    await silent(stream)


async def long_headed(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 1_000_000)
    await silent(stream)


async def babbling(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"220 mail.example ESMTP\r\n")


class Receiver:
    """Notes who calls, and answers with the next of its behaviours, the last of them for ever."""

    def __init__(self, port: int, behaviours: tuple[Behaviour, ...]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/hook"
        self.calls: list[Called] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.behaviours = list(behaviours)

    async def serve(self, tls: ssl.SSLContext | None, stream: trio.abc.Stream) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if tls is not None:
                stream = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)  # type: ignore[arg-type,assignment]
            await self._converse(stream)
            await stream.aclose()
        except (trio.BrokenResourceError, ssl.SSLError, EOFError):
            pass
        finally:
            self.open -= 1

    async def _converse(self, stream: trio.abc.Stream) -> None:
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            buffer += await _more(stream)
        head, _, body = buffer.partition(b"\r\n\r\n")
        request, *lines = head.decode("latin1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += await _more(stream)
        self.calls.append(Called(request.split()[1], headers, body))
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        await behaviour(stream)


async def _more(stream: trio.abc.Stream) -> bytes:
    found = await stream.receive_some(65_536)
    if not found:
        raise EOFError
    return bytes(found)


@asynccontextmanager
async def receiving(*behaviours: Behaviour, tls: bool = False) -> AsyncIterator[Receiver]:
    """A receiver on this machine; by default it takes everything. With `tls` it is `hooks.example`."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    receiver = Receiver(port, behaviours or (answering(200),))
    async with trio.open_nursery() as nursery:
        serve = partial(receiver.serve, _server_tls() if tls else None)
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield receiver
        nursery.cancel_scope.cancel()


def _server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    return context


def trusting() -> ssl.SSLContext:
    """What a client needs that trusts `hooks.example`, and nobody else."""
    return ssl.create_default_context(cafile=str(PEM))
