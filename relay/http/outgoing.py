"""Calls of the server to places that a person configured: callbacks of integrations (messaging-control 9.4).

What is called is somewhere on the internet, and whoever names it, or answers for its name, may want to reach what only
the server can. Rules:

1. A name is resolved once. Addresses that are not of the public internet are refused, unless the integration's
   `callbackAllow` has the host, the address or a network around it. The connection is made to an address that was
   judged, never to the name.
2. No redirects, no proxy of the environment, no user or password in the address, `http` and `https` only.
3. The body is signed (HMAC-SHA256 under the integration's secret), so the receiver knows who sent it.
4. Success is a status from 200 to 299. The answer itself is thrown away, and at most 64 KiB of it are read.
"""

import hashlib
import hmac
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import trio

from relay.fleet.callbacks import Callout, Undelivered

if TYPE_CHECKING:
    import httpx2

__all__ = ["PinnedOutgoing", "Resolve", "inner", "is_allowed", "is_public", "resolve", "said", "signature"]

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host and port, as texts. Raises `OSError` when there are none."""

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_ADDRESSES = 4  # of one name, that are tried
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is given out of version 6
NOT_PUBLIC = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # special purposes, Oracle's metadata among them
    ipaddress.IPv4Network("192.88.99.0/24"),  # gateways into version 6
    ipaddress.IPv4Network("168.63.129.16/32"),  # what Azure's machines see of their host
)


class PinnedOutgoing:
    """The way out of a server. `resolve_name` and `tls` are those of the machine unless given."""

    def __init__(self, resolve_name: Resolve | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._resolve = resolve_name or resolve
        self._tls = tls

    async def deliver(self, callout: Callout) -> None:
        """Returns when the receiver took it; raises `Undelivered`, which says why it did not."""
        import httpx2  # with what it brings it weighs several megabytes, and most servers call nobody

        from . import pinned

        url = httpx2.URL(callout.url)
        addresses = await self._addresses(url, callout.allow)
        if self._tls is None and url.scheme == "https":  # takes long enough for others to notice
            self._tls = await trio.to_thread.run_sync(partial(httpx2.create_ssl_context, trust_env=False))
        try:
            status = await pinned.post(url, callout.body, _headers(callout, url), addresses, self._tls)
        except pinned.Failed as error:
            raise Undelivered(f"{url.host} cannot be reached: {said(error)}") from error
        if not 200 <= status < 300:
            also = "; redirects are not followed" if 300 <= status < 400 else ""
            raise Undelivered(f"{url.host} answered {status}{also}")

    async def _addresses(self, url: "httpx2.URL", allow: Sequence[str]) -> list[str]:
        """Those of the url's host that may be called."""
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise Undelivered("only http:// and https:// addresses without a user are called")
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await self._resolve(url.raw_host.decode("ascii"), port)
        except (OSError, UnicodeError) as error:  # the latter for names that are too long
            raise Undelivered(f"{url.host} has no address: {said(error)}") from error
        allowed = [each for each in dict.fromkeys(found) if is_allowed(url.host, each, allow)]
        if not allowed:
            listed = ", ".join(found[:MOST_ADDRESSES]) or "no address"
            raise Undelivered(
                f"{url.host} is {listed}, which is not of the public internet; callbackAllow does not list it"
            )
        return allowed[:MOST_ADDRESSES]


async def resolve(host: str, port: int) -> Sequence[str]:
    """As this machine resolves names. Spellings of numbers that only some programs take for addresses are resolved,
    too, and judged by what they mean."""
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_allowed(host: str, address: str, allow: Iterable[str]) -> bool:
    """Whether `address` may be called for `host`: it is public, or `allow` has the host, the address or its network."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    return is_public(known) or any(_covers(entry, host, known) for entry in allow)


def _covers(entry: str, host: str, address: Address) -> bool:
    try:
        network = ipaddress.ip_network(entry)
    except ValueError:
        return entry.lower() == host.lower()
    return any(each in network for each in (address, *inner(address)))


def is_public(address: Address) -> bool:
    """Whether everybody on the internet can call it: then it is no secret that the server can."""
    written_in = inner(address)
    if written_in:
        return all(map(is_public, written_in))
    if isinstance(address, ipaddress.IPv6Address):
        return address in UNICAST and address.is_global
    known = address.is_global and not address.is_multicast and not address.is_reserved
    return known and not any(address in network for network in NOT_PUBLIC)


def inner(address: Address) -> list[ipaddress.IPv4Address]:
    """The addresses of version 4 that are written into one of version 6: the machine, or a gateway, calls these."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    if address in NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    found = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()))
    return [each for each in found if each is not None]


def _headers(callout: Callout, url: "httpx2.URL") -> dict[str, str]:
    return {
        "Host": url.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "Content-Length": str(len(callout.body)),
        "Connection": "close",
        "User-Agent": "relay",
        "X-Agent-Relay-Event": callout.event,
        "X-Agent-Relay-Delivery": callout.delivery,
        "X-Agent-Relay-Signature": signature(callout.secret, callout.body),
    }


def signature(secret: str, body: bytes) -> str:
    """`sha256=` and the hexadecimal HMAC-SHA256 of the raw body under the secret."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def said(error: BaseException) -> str:
    """What the error says, or else what caused it: the library below gives no reasons of its own."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause) if cause is not None else type(error).__name__
