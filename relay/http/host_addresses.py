"""Where a host's API may be: its `apiUrl` is judged when it registers, and called only at the addresses that passed.

Whoever may register a host names the place that relay calls, and could name one that only relay can reach. Rules:

1. `http` or `https`, a host and a port, no user, query or fragment.
2. Its name is resolved once, at the registration. From then on relay connects to those addresses and never to the name, so
   nothing is gained by a name that changes its mind.
3. An address is fit if it is the one that the registration came from, or lies in one of the networks of
   `AGENT_RELAY_HOST_NETWORKS` (as `10.0.0.0/8,fd00::/8`). Loopback is fit for who comes from loopback.
4. Addresses of metadata services, link-local, multicast and unspecified ones are never fit, listed or not.
5. A request that a proxy has passed on says nothing of where it came from: then only the networks count.
"""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Iterable, Mapping
from typing import TypeAlias
from urllib.parse import urlsplit

import trio

from .outgoing import Resolve, inner, resolve

__all__ = ["ENVIRONMENT", "HostNetworks", "Unfit", "origin_of", "parse_networks"]

log = logging.getLogger(__name__)

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

ENVIRONMENT = "AGENT_RELAY_HOST_NETWORKS"
RESOLVED_WITHIN = 5.0  # seconds
MOST_ADDRESSES = 4  # of one name, that are tried
FORWARDED = (
    b"forwarded",
    b"x-forwarded-",
    b"x-real-ip",
    b"x-client-ip",
    b"true-client-ip",
    b"cf-connecting-ip",
    b"via",
)
"""How the names of headers begin that only a proxy adds."""
METADATA: tuple[Network, ...] = (
    ipaddress.IPv4Network("100.100.100.200/32"),
    ipaddress.IPv4Network("168.63.129.16/32"),
    ipaddress.IPv4Network("192.0.0.192/32"),
    ipaddress.IPv6Network("fd00:ec2::254/128"),
    ipaddress.IPv6Network("fd20:ce::254/128"),
)


class Unfit(Exception):
    """Relay does not call this place; the text says why, and what to do."""


class HostNetworks:
    """Judges the places of hosts' APIs. `resolve_name` is that of the machine unless given."""

    def __init__(self, networks: Iterable[Network] = (), resolve_name: Resolve | None = None) -> None:
        self._networks = tuple(networks)
        self._resolve = resolve_name or resolve

    async def addresses(self, url: str, peer: str | None) -> list[str]:
        """The addresses of the host of `url` that may be called for a host that has registered from `peer`; none when its
        name has no address now. Raises `Unfit` when it has, and none of them may be."""
        name, port = place_of(url)
        found: Iterable[str] = ()
        with trio.move_on_after(RESOLVED_WITHIN):
            try:
                found = await self._resolve(name, port)
            except (OSError, UnicodeError) as error:
                log.warning("the API of a host is at %s, which has no address: %s", url, error)
        known = list(dict.fromkeys(found))
        fit = [address for address in known if self._is_fit(address, peer)]
        if known and not fit:
            raise Unfit(
                f"apiUrl: {name} is {', '.join(known[:MOST_ADDRESSES])}, which is not where this registration came from"
                f" ({peer or 'unknown'}); {ENVIRONMENT} of the server lists the networks that hosts may be in"
            )
        return fit[:MOST_ADDRESSES]

    def _is_fit(self, address: str, peer: str | None) -> bool:
        known = parsed(address)
        if known is None or not may_ever_be_called(known):
            return False
        source = parsed(peer) if peer is not None else None
        if known.is_loopback:
            return source is not None and source.is_loopback
        return known == source or any(known in network for network in self._networks)


def place_of(url: str) -> tuple[str, int]:
    """Name and port of the host; raises `Unfit` for what is no address of an API."""
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError as error:
        raise Unfit(f"apiUrl: {error}") from None
    if parts.scheme not in ("http", "https") or not name or parts.username is not None:
        raise Unfit("apiUrl: expected an http:// or https:// address without a user")
    if parts.query or parts.fragment or "?" in url or "#" in url or port == 0:
        raise Unfit("apiUrl: expected an address without a query, a fragment, or port 0")
    return name, port or (443 if parts.scheme == "https" else 80)


def parsed(text: str) -> Address | None:
    """The address; that of version 4 where it is only written as one of version 6."""
    try:
        known = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = known.ipv4_mapped if isinstance(known, ipaddress.IPv6Address) else None
    return mapped or known


def may_ever_be_called(address: Address) -> bool:
    """Whether it is none of those that nobody's API is at. What leads to another address counts as that, too."""
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if any(address in network for network in METADATA):
        return False
    within = inner(address)
    return not within or all(may_ever_be_called(each) and not each.is_loopback for each in within)


def origin_of(peer: str | None, headers: Mapping[bytes, bytes]) -> str | None:
    """The address that a request came from; None when a proxy has passed it on, and nobody knows."""
    return None if any(name.startswith(FORWARDED) for name in headers) else peer


def parse_networks(text: str | None = None) -> list[Network]:
    """The networks of `AGENT_RELAY_HOST_NETWORKS`, separated by commas or spaces. What is none is left out, and told."""
    found: list[Network] = []
    given = os.environ.get(ENVIRONMENT, "") if text is None else text
    for part in given.replace(",", " ").split():
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            log.error("%s: %s is left out: %s", ENVIRONMENT, part, error)
    return found
