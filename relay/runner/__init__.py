"""The runner: what stands between one agent and relay.

`run(read_options([...]))` runs one agent until it ended for good and returns the exit code.
"""

import logging
import signal

import trio

from .adapter import (
    Adapter as Adapter,
    AgentGone as AgentGone,
    DeliveryFailed as DeliveryFailed,
    Exit as Exit,
)
from .lock import alone
from .options import (
    BadOptions as BadOptions,
    Options as Options,
    Patience as Patience,
    read_options as read_options,
)
from .runner import TAKEN_OVER as TAKEN_OVER, Runner as Runner, serve as serve


def run(options: Options) -> int:
    """Run one agent until it ended for good, or SIGTERM or SIGINT came. Raises `BadOptions`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for chatty in ("httpx2", "httpcore2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # not every request it makes
    with alone(options):
        return trio.run(_run, options)


async def _run(options: Options) -> int:
    code = 0
    async with trio.open_nursery() as nursery:
        stopping = await nursery.start(_signals)

        async def agent(*, task_status: trio.TaskStatus[Runner]) -> None:
            nonlocal code
            code = await serve(options, task_status=task_status)
            nursery.cancel_scope.cancel()

        with trio.CancelScope() as starting:
            nursery.start_soon(_cancel_when, stopping, starting)
            runner = await nursery.start(agent)
        if starting.cancelled_caught:
            nursery.cancel_scope.cancel()
            return 0
        await stopping.wait()
        await runner.stop()
    return code


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _signals(*, task_status: trio.TaskStatus[trio.Event]) -> None:
    """The first signal asks to stop, the second one cancels everything."""
    stopping = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started(stopping)
        async for _ in received:
            if stopping.is_set():
                raise KeyboardInterrupt
            stopping.set()
