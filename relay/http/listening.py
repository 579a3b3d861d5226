"""The socket the server listens on. It is ours and not Hypercorn's, because of one option.

Hypercorn sends where nothing can cancel it, so a client that stops reading would hold its task, and the shutdown of
the server, for ever. `TCP_USER_TIMEOUT` makes the kernel give such a client up; accepted sockets inherit it (Linux).
"""

import errno
import socket

__all__ = ["BACKLOG", "CannotListen", "base_url", "listen"]

BACKLOG = 512


class CannotListen(Exception):
    """The address cannot be had; the text says why. `port` tells whether another port of it could be."""

    def __init__(self, reason: str, *, port: bool = False) -> None:
        super().__init__(reason)
        self.port = port


def listen(host: str, port: int, *, stalled: float) -> socket.socket:
    """A listening TCP socket. `stalled` is how long, in seconds, a peer may leave sent bytes unread."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListen(f"{host}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(stalled * 1000)))
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        port_only = error.errno in (errno.EADDRINUSE, errno.EACCES)
        raise CannotListen(f"{host} port {port}: {error.strerror}", port=port_only) from error
    return listener


def base_url(listener: socket.socket) -> str:
    """`http://host:port` as a client on this machine would write it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
