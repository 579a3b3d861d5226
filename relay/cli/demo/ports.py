"""Ports that stay ours: for a server that must come back on the same one, while other programs take theirs."""

import atexit
import socket

__all__ = ["reserve_port"]


def reserve_port() -> int:
    """A port of 127.0.0.1 that only who asks for it by number gets, until this process ends.

    It is bound and not listened on, so the kernel gives it to nobody else, and a server with SO_REUSEADDR may listen.
    """
    holder = socket.socket()
    atexit.register(holder.close)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return int(holder.getsockname()[1])
