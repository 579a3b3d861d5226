"""Calls of the edge to hosts, for routes that only pass on what a host says (messaging-control 14.8, agents-workspaces 9.1).

1. A host is called at the addresses that were judged when it registered (`host_addresses`), whatever its name means by now.
   Redirects are not followed, no proxy of the environment is used, and no connection outlives its call.
2. Relay shows the token of that very host (`host_tokens`). What the caller showed to relay stays here.
3. A call has one limit for all of it, and what is read is bounded. An event stream is passed on as it comes: for it the limit
   is over when its head is there (O-44).
4. Nobody is asked on the way: no actor waits while a host does (M-I44).
5. What a host says is shown under relay's name, so browsers are told to run nothing of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import trio

from relay import wire

from .answers import JSON, Answer, Header, Stream, Write, ok
from .host_addresses import HostNetworks, may_ever_be_called, parsed
from .host_tokens import host_token
from .outgoing import said

if TYPE_CHECKING:
    import ssl

    import httpcore2

__all__ = ["Unanswered", "Upstream", "open_upstream", "unavailable"]

WITHIN = 10.0  # seconds, for the whole call
LARGEST = 4 * 1_048_576  # bytes
HARMLESS: tuple[Header, ...] = (
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"x-content-type-options", b"nosniff"),
)


class Unanswered(Exception):
    """The host gave no answer that could be passed on; the text says why."""


class Upstream:
    """Fetches from hosts. Made by `open_upstream`. `networks` are those that hosts may be in, `tls` what the machine trusts
    unless given."""

    def __init__(self, key: str, networks: HostNetworks, tls: ssl.SSLContext | None = None) -> None:
        self._key = key
        self.networks = networks
        self._tls = tls

    def token(self, host: str) -> str:
        """What relay shows to this host's API."""
        return host_token(self._key, host)

    async def ask(
        self,
        host: wire.Orchestrator,
        method: str,
        path: str,
        *,
        query: bytes = b"",
        body: bytes | None = None,
        within: float | None = None,
    ) -> Answer | Stream:
        """What the host answers, unchanged. Raises `Unanswered`."""
        from . import pinned  # with what it brings it weighs several megabytes, and most servers call nobody

        limit = WITHIN if within is None else within
        async with AsyncExitStack() as stack:
            try:
                with trio.fail_after(limit):
                    exchange = await self._exchange(host, method, path, query, body)
                    answer = await stack.enter_async_context(exchange)
                    kind = _header(answer, b"content-type") or JSON[1]
                    if _header(answer, b"content-encoding") not in (None, b"identity"):
                        raise Unanswered("the host sent what relay does not read: it is compressed")
                    if b"text/event-stream" not in kind.lower():
                        return Answer(answer.status, await _read(answer), (JSON[0], kind), HARMLESS)
            except trio.TooSlowError:
                raise Unanswered(f"the host did not answer within {limit:g} seconds") from None
            except pinned.Failed as error:
                raise Unanswered(f"the host cannot be reached: {said(error)}") from None
            run, close = partial(_pass_on, answer), stack.pop_all().aclose
            return Stream((JSON[0], kind), run, HARMLESS, answer.status, close)
        raise AssertionError

    async def read(self, host: wire.Orchestrator, path: str, query: Mapping[str, str]) -> Answer:
        """As `ask`, for what is always a whole answer."""
        answer = await self.ask(host, "GET", path, query=urlencode(query, quote_via=quote).encode())
        if isinstance(answer, Answer):
            return answer
        if answer.close is not None:
            await answer.close()
        raise Unanswered("the host began a stream, and was asked for something else")

    async def _exchange(
        self, host: wire.Orchestrator, method: str, path: str, query: bytes, body: bytes | None
    ) -> AbstractAsyncContextManager[httpcore2.Response]:
        """The call, to be entered."""
        import httpx2

        from . import pinned

        base = (host.api_url or "").rstrip("/")
        target = f"{base}{path}" + (f"?{query.decode('ascii')}" if query else "")
        try:
            url = httpx2.URL(target)
        except httpx2.InvalidURL as error:
            raise Unanswered(f"the host cannot be reached: {error}") from None
        headers = {
            "Host": url.netloc.decode("ascii"),
            "X-Agent-Relay-Token": self.token(host.id),
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": "relay",
        }
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if url.scheme == "https" and self._tls is None:
            create = partial(httpx2.create_ssl_context, trust_env=False)
            self._tls = await trio.to_thread.run_sync(create)
        return pinned.exchange(method, url, headers, _pinned(host), self._tls, body or b"")


def _pinned(host: wire.Orchestrator) -> list[str]:
    """Where the host is called. What must never be called is not, whatever its record says."""
    known = [(address, parsed(address)) for address in host.api_addresses]
    fit = [address for address, meant in known if meant is not None and may_ever_be_called(meant)]
    if not fit:
        raise Unanswered(
            f"{host.api_url} had no address when the host registered: let its orchestrator start again"
        )
    return fit


def _header(answer: httpcore2.Response, name: bytes) -> bytes | None:
    return next((value for known, value in answer.headers if known.lower() == name), None)


async def _read(answer: httpcore2.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_stream():
        body += part
        if len(body) > LARGEST:
            raise Unanswered(f"the host answered with more than {LARGEST} bytes")
    return bytes(body)


async def _pass_on(answer: httpcore2.Response, write: Write) -> None:
    """Until the host ends it, or is gone. The head leaves with the first part (`lean`)."""
    from . import pinned

    try:
        async for part in answer.aiter_stream():
            await write(part)
    except pinned.Failed:
        return


def unavailable(reason: str) -> Answer:
    return ok({"available": False, "reason": reason})


@asynccontextmanager
async def open_upstream(key: str, networks: HostNetworks | None = None) -> AsyncIterator[Upstream]:
    """Calls hosts with tokens that are derived from `key`, where `networks` allows it; by default where they register from."""
    yield Upstream(key, networks or HostNetworks())
