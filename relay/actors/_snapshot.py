"""What every actor is doing: as data, and as text for a person who wonders why nothing moves.

A snapshot only reads, so it may be taken at any moment, also by a signal that interrupts a handler.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ._text import shown

if TYPE_CHECKING:
    from ._cell import Cell

__all__ = ["ActorInfo", "describe", "dumped_on", "look", "unfinished"]


@attrs.frozen(kw_only=True)
class ActorInfo:
    """One actor at one moment.

    `message` is what its `async` handler, or hook, is busy with, for `seconds`, at the line `where`, and `waits_for` whom
    it asks. `tasks` and `timers` are what runs beside its handlers. `failure` is the last one that its supervisor
    forgave.
    """

    address: str
    state: str
    incarnation: int
    queued: int
    capacity: int
    stashed: int = 0
    held: bool = False
    tasks: int = 0
    timers: int = 0
    message: str | None = None
    seconds: float | None = None
    where: str | None = None
    waits_for: tuple[str, ...] = ()
    failure: str | None = None
    children: tuple[ActorInfo, ...] = ()


def look(cell: Cell) -> ActorInfo:
    """`cell` and everybody below it."""
    handling = cell.handling
    busy: dict[str, Any] = {}
    if handling is not None:
        busy = {
            "message": shown(handling.message),
            "seconds": trio.current_time() - handling.since,
            "where": _where(handling.coroutine),
            "waits_for": tuple(other.address for other in handling.waits_for),
        }
    return ActorInfo(
        address=cell.address,
        state=cell.state.value,
        incarnation=cell.incarnation,
        queued=len(cell.queue or ()),
        capacity=cell.capacity,
        stashed=len(cell.stashed or ()),
        held=cell.held,
        tasks=0 if cell.duties is None else cell.duties.tasks,
        timers=0 if cell.duties is None else cell.duties.timers,
        failure=None if cell.last_failure is None else shown(cell.last_failure),
        children=tuple(look(child) for child in list((cell.children or {}).values())),
        **busy,
    )


def unfinished(actor: ActorInfo) -> Iterator[str]:
    """Who, of this actor and those below it, still has something to do, and what."""
    for child in actor.children:
        yield from unfinished(child)
    if actor.message is not None or actor.queued:
        yield _line(actor)


def describe(actors: Iterable[ActorInfo], indent: str = "") -> str:
    """The same as text, one line an actor."""
    lines = []
    for actor in actors:
        lines.append(indent + _line(actor))
        if actor.children:
            lines.append(describe(actor.children, indent + "  "))
    return "\n".join(lines)


@contextmanager
def dumped_on(number: int | None, snapshot: Callable[[], Iterable[ActorInfo]]) -> Iterator[None]:
    """Within the block, signal `number` prints the actors and what the main thread is doing on standard error."""
    if number is None:
        yield
        return

    def dump(_: int, frame: FrameType | None) -> None:
        stack = "".join(traceback.format_stack(frame, limit=12))
        said = f"actors:\n{describe(snapshot(), '  ')}\nmain thread:\n{stack}"
        os.write(2, said.encode())  # not by way of a file that the interrupted code may be writing to

    before = signal.signal(number, dump)
    try:
        yield
    finally:
        signal.signal(number, before)


def _line(actor: ActorInfo) -> str:
    parts = [actor.address, actor.state, f"mailbox {actor.queued}/{actor.capacity}"]
    if actor.incarnation > 1:
        parts.append(f"incarnation {actor.incarnation}")
    if actor.stashed:
        parts.append(f"stashed {actor.stashed}")
    if actor.held:
        parts.append("held back")
    if actor.message is not None:
        parts.append(f"{actor.seconds:.1f} s at {actor.message}")
    if actor.where is not None:
        parts.append(f"in {actor.where}")
    if actor.waits_for:
        parts.append(f"waits for {', '.join(actor.waits_for)}")
    if actor.tasks:
        parts.append(f"tasks {actor.tasks}")
    if actor.timers:
        parts.append(f"timers {actor.timers}")
    if actor.failure is not None:
        parts.append(f"failed last with {actor.failure}")
    return ", ".join(parts)


def _where(coroutine: Coroutine[Any, Any, Any] | None) -> str | None:
    """The innermost line that is waiting, of all that have an `await` to show."""
    inner: Any = coroutine
    frame: FrameType | None = None
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None) or frame
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return (
        None if frame is None else f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
    )
