"""The tasks an incarnation runs beside its handlers."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from ._cancelled import as_failure, split
from ._errors import ActorStopped

__all__ = ["Background"]


class Background:
    """A nursery that lives as long as one incarnation, made when the first task is wanted.

    Its tasks run in `context`, whoever starts them: they are part of no handler. One that fails is given to `fail`, and
    does no harm to the others by itself.
    """

    def __init__(self, context: contextvars.Context, fail: Callable[[BaseException], None]) -> None:
        self._context = context
        self._fail = fail
        self._scope = trio.CancelScope()
        self._waiting: list[Callable[[], Awaitable[object]]] = []
        self._nursery: trio.Nursery | None = None
        self._closed = trio.Event()

    @property
    def count(self) -> int:
        """How many tasks still run."""
        return len(self._waiting if self._nursery is None else self._nursery.child_tasks)

    def start(self, function: Callable[[], Awaitable[object]]) -> None:
        """Run `function` beside the others. Raises `ActorStopped` when they are being ended."""
        if self._scope.cancel_called:
            raise ActorStopped("the incarnation has ended, and begins nothing more")
        if self._nursery is None:
            self._waiting.append(function)
        else:
            self._context.run(partial(self._nursery.start_soon, self._run, function))

    async def run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    for function in self._waiting:
                        nursery.start_soon(self._run, function)
                    await trio.sleep_forever()
        finally:
            self._closed.set()

    async def _run(self, function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except BaseException as error:  # noqa: BLE001 - the supervisor is its owner
            cancelled, own = split(error)
            if own is not None:
                self._fail(own)
            elif not self._scope.cancel_called:
                self._fail(as_failure(cancelled))

    async def close(self) -> None:
        """Cancel what still runs and wait for its end."""
        self._scope.cancel()
        await self._closed.wait()
