"""One request over a connection to an address that was chosen before.

The library below may ask for a connection to any host: it gets one to the chosen address. The request keeps its `Host`,
and TLS its name, so the certificate is that of the name. There is no proxy, no redirect, and no connection that outlives
its request: one that was opened for a name is never used for another name of the same address.
"""

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpcore2
import httpx2
import trio
from httpcore2 import AsyncConnectionPool, AsyncNetworkBackend, AsyncNetworkStream, ConnectError, TrioBackend

__all__ = ["Failed", "exchange", "post"]

Failed = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError, ssl.SSLError)
"""What `post` and `exchange` raise when no answer comes, or not all of it."""

MOST_READ = 65_536  # bytes of an answer, which nobody looks at
READ_WITHIN = 1.0  # seconds: the sender is to see that its answer was taken, more is not owed to it
CONNECT_WITHIN = 4.0  # seconds, for all addresses together


class _Pinned(AsyncNetworkBackend):
    """Connects to the first of `addresses` that can be reached, whatever host is asked for."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        failure: Exception = ConnectError("no address to connect to")
        for address in self._addresses:
            try:
                return await TrioBackend().connect_tcp(
                    address, port, timeout=CONNECT_WITHIN / len(self._addresses), socket_options=()
                )
            except (ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


async def post(
    url: httpx2.URL,
    body: bytes,
    headers: Mapping[str, str],
    addresses: Sequence[str],
    tls: ssl.SSLContext | None,
) -> int:
    """The status of the answer; `tls` is needed for https. Raises one of `Failed` when there is none."""
    async with exchange("POST", url, headers, addresses, tls, body) as answer:
        with trio.move_on_after(READ_WITHIN):
            await _discard(answer)
        return answer.status


@asynccontextmanager
async def exchange(
    method: str,
    url: httpx2.URL,
    headers: Mapping[str, str],
    addresses: Sequence[str],
    tls: ssl.SSLContext | None,
    body: bytes = b"",
) -> AsyncIterator[httpcore2.Response]:
    """The answer, from when its head is there; its body may be read within the block. Raises one of `Failed`."""
    target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    pool = AsyncConnectionPool(
        ssl_context=tls, network_backend=_Pinned(addresses), max_keepalive_connections=0
    )
    async with pool, pool.stream(method, target, headers=list(headers.items()), content=body) as answer:
        yield answer


async def _discard(answer: httpcore2.Response) -> None:
    """A connection that is closed with unread data is reset, which the sender may take for a failure."""
    read = 0
    try:
        async for part in answer.aiter_stream():
            read += len(part)
            if read > MOST_READ:
                return
    except Failed:
        return  # the status is what counts, and it has come
