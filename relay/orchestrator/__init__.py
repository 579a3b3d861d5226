"""The host daemon: starts agents in worktrees of their own, keeps them running, lands their work.

It is a client of relay like any other: it polls commands for its agent id, carries them out, and reports.
"""

import logging
import signal
from collections.abc import Callable

import trio

from ._problems import Refused as Refused, Restart as Restart
from .config import Config as Config, load_config as load_config
from .daemon import Ready as Ready, serve as serve


def run(config: Config, ready: Callable[[Ready], None] | None = None) -> None:
    """Run a daemon until SIGTERM or SIGINT. The agents it started go on. Raises `Restart` when another version is installed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    trio.run(_run, config, ready)


async def _run(config: Config, ready: Callable[[Ready], None] | None) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        started = await nursery.start(serve, config)
        if ready is not None:
            ready(started)


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
