"""Where relay is told to find this host's API: an address that it can reach, or none.

Relay refuses a host that names a place which is not the host's (`docs/hosts.md`), so a daemon whose API only this machine can
reach names none to a relay on another one.
"""

from __future__ import annotations

import ipaddress
import logging
from urllib.parse import urlsplit

from .config import Config

__all__ = ["advertised"]

log = logging.getLogger(__name__)


def advertised(config: Config, port: int) -> str | None:
    """The URL; None when relay could not call it."""
    listening = _address(config.api_host)
    if listening is not None and listening.is_unspecified:
        return f"http://{config.hostname}:{port}"
    if _is_local(config.api_host) and not _is_local(urlsplit(config.relay_url).hostname or ""):
        log.warning(
            "the host API listens on %s, which relay at %s cannot reach: set apiHost, and folders, sessions and logs"
            " can be asked for there",
            config.api_host,
            config.relay_url,
        )
        return None
    host = f"[{config.api_host}]" if ":" in config.api_host else config.api_host
    return f"http://{host}:{port}"


def _is_local(host: str) -> bool:
    known = _address(host)
    return known.is_loopback if known is not None else host.lower() == "localhost"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
