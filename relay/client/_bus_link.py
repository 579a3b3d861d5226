"""The connection below the client's bus, kept up over disconnections.

One task reads it, whatever it is at the time: answers go to whoever waits for them, events into a bounded buffer. When it
is lost another is made, the hello said again, and relay goes on after the last event that was put into the buffer; what was
asked and may be asked twice is asked again. A buffer that is full makes the reader wait, unless somebody waits for an
answer: then events are left out, up to the end of the connection, and told again on another once there is room. That one
is not begun before everybody has an answer who could not be asked again.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from random import random
from typing import Any

import attrs
import trio

from relay import wire
from relay.wire import bus

from . import _transport
from ._bus_frames import hear, told, trouble
from ._bus_questions import Questions, encoded
from ._errors import (
    Garbled,
    Overloaded,
    RelayError,
    ServerFailed,
    Superseded,
    Unauthorized,
    Unreachable,
)
from ._events import FIRST_PAUSE, LONGEST_PAUSE, StreamedEvent
from ._transport import Transport
from ._websocket import Closed, WebSocket, websocket

__all__ = ["Link"]

MOST_BUFFERED = 2_000  # events
MOST_BUFFERED_TEXT = 16 * 1_048_576  # characters
ACKNOWLEDGED_WITHIN = 1.0  # seconds


class _Buffer:
    """Events that nobody has taken yet, within bounds but for one."""

    def __init__(self) -> None:
        self._events: deque[tuple[StreamedEvent, int]] = deque()
        self._text = 0

    def __bool__(self) -> bool:
        return bool(self._events)

    def put(self, event: StreamedEvent, size: int) -> None:
        self._events.append((event, size))
        self._text += size

    def take(self) -> StreamedEvent:
        event, size = self._events.popleft()
        self._text -= size
        return event

    @property
    def is_full(self) -> bool:
        return len(self._events) >= MOST_BUFFERED or self._text >= MOST_BUFFERED_TEXT


class Link:
    """`hello` is said on each connection; `connected` is set with the first welcome, or when there will be none."""

    def __init__(self, transport: Transport, hello: bus.Hello) -> None:
        self._transport = transport
        self.hello = hello
        self._socket: WebSocket | None = None
        self._questions = Questions()
        self._buffer = _Buffer()
        self._full = False
        self._leaving = False
        self._changed = trio.lowlevel.ParkingLot()
        self._last: int | None = hello.after
        self._processed = 0
        self._acknowledged = 0
        self._at_work = False
        self._error: RelayError | None = None
        self.connected = trio.Event()
        self.lost = 0
        """How many connections have been lost so far."""

    # -- for those above

    async def next_event(self) -> StreamedEvent:
        """The next one, as soon as there is one. Until `work_off` is called, it counts as being worked off."""
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            self.raise_if_over()
            if self._full:
                await self._catch_up()
            else:
                await self._changed.park()
        event = self._buffer.take()
        self._changed.unpark_all()
        self._at_work = True
        return event

    def work_off(self, event: StreamedEvent | None) -> None:
        """The event need not be told again; None: the last one must be."""
        self._at_work = False
        if event is None:
            return
        if event.type == "reset":
            self._processed = self._acknowledged = 0
        self._processed = max(self._processed, event.id)

    async def _catch_up(self) -> None:
        """The buffer was full, and is worked off: what was left out is told again on another connection. What still comes
        on this one comes after it, so there is no room for it."""
        self._leaving = True
        try:
            if self._socket is not None and not self._questions.at_stake:
                await self._socket.close()
            if self._full:
                await self._changed.park()
        finally:
            self._leaving = False
            self._changed.unpark_all()

    async def ask(
        self, kind: str, members: dict[str, Any], *, repeatable: bool = True
    ) -> list[dict[str, Any]]:
        """The results of a frame. What may not be repeated raises `Unreachable` when it may have been asked in vain."""
        try:
            with self._questions.opened(kind, members, repeatable=repeatable) as question:
                self.raise_if_over()
                self._changed.unpark_all()
                return await question.answer()
        finally:
            self._changed.unpark_all()

    # -- the connection

    async def keep_up(self) -> None:
        """Connects, again and again, until somebody else takes the agent over, or relay will not have this client."""
        pause = FIRST_PAUSE
        while True:
            used = self._transport.token
            try:
                async with websocket(self._transport, "/bus") as socket:
                    await self._begin(socket)
                    pause = FIRST_PAUSE
                    raise await self._converse(socket)
            except (Unreachable, Overloaded, ServerFailed):
                self._questions.lose()
            except RelayError as error:
                replaced = isinstance(error, Unauthorized) and await self._transport.replaced(error, used)
                if not replaced:
                    self._over(error)
                    return
                self._questions.lose()
            await trio.sleep(pause * (0.5 + random()))
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _begin(self, socket: WebSocket) -> None:
        await socket.send(
            encoded({"type": "hello", **wire.to_json(attrs.evolve(self.hello, after=self._last))})
        )
        with trio.move_on_after(_transport.TRY):
            welcome, _ = await hear(socket, self._transport.url)
            place = welcome.get("lastEventId")
            if welcome["type"] == "error":
                raise trouble(welcome)
            if welcome["type"] != "welcome" or not isinstance(place, int):
                raise Garbled(self._transport.url, f"a hello was answered by {welcome['type'][:80]!r}")
            self._full = False
            if welcome.get("reset"):
                self._append(StreamedEvent(place, "reset", {"last": place}), 0)
            self._last = place
            self.connected.set()
            self._changed.unpark_all()
            return
        raise Unreachable(f"{self._transport.url} did not answer a hello in time")

    async def _converse(self, socket: WebSocket) -> RelayError:
        """Returns why the connection is at an end."""
        self._socket = socket
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._say_what_is_asked, socket)
                nursery.start_soon(self._say_regularly, socket)
                try:
                    while True:
                        while self._buffer.is_full and not self._questions:
                            await self._changed.park()
                        await self._take(*await hear(socket, self._transport.url), socket)
                except RelayError as error:
                    nursery.cancel_scope.cancel()
                    failure = error
        finally:
            self._socket = None
            self.lost += 1
        return failure

    async def _say_what_is_asked(self, socket: WebSocket) -> None:
        """Also what was asked while there was no connection, or on one that was lost."""
        while True:
            question = self._questions.next_to_ask()
            if question is None or self._leaving:
                await self._changed.park()
                continue
            question.asked = socket
            with suppress(Closed):  # whoever reads the connection sees it, too
                await socket.send(question.text)

    async def _say_regularly(self, socket: WebSocket) -> None:
        beat_at = trio.current_time() + bus.HEARTBEAT
        while True:
            await trio.sleep(ACKNOWLEDGED_WITHIN)
            await self.acknowledge()
            if trio.current_time() >= beat_at:
                beat_at = trio.current_time() + bus.HEARTBEAT
                await _said(socket, {"type": "heartbeat"})

    async def acknowledge(self) -> None:
        """Tells relay how far the events are worked off. Done every second in any case."""
        if self._socket is not None and self._processed > self._acknowledged:
            self._acknowledged = self._processed
            await _said(self._socket, {"type": "ack", "eventId": self._acknowledged})

    async def _take(self, frame: dict[str, Any], size: int, socket: WebSocket) -> None:
        match frame["type"]:
            case "result" | "error":
                self._answer(frame)
            case "ping":
                self._pass(frame["eventId"])
                await _said(socket, {"type": "pong"})
            case _:
                events = told(frame)
                for event in events:
                    self._put(event, size // len(events))

    def _answer(self, frame: dict[str, Any]) -> None:
        if self._questions.answer(frame) or frame["type"] != "error":
            return
        error = trouble(frame)
        if isinstance(error, Superseded | Unauthorized):
            raise error

    def _put(self, event: StreamedEvent, size: int) -> None:
        self._full = self._full or self._buffer.is_full
        if self._full or (event.type != "reset" and event.id <= (self._last or 0)):
            return
        self._append(event, size)

    def _append(self, event: StreamedEvent, size: int) -> None:
        self._last = event.id
        self._buffer.put(event, size)
        self._changed.unpark_all()

    def _pass(self, place: int) -> None:
        """There was nothing for this client up to here."""
        if not self._full:
            self._last = max(self._last or 0, place)
            if not self._buffer and not self._at_work:
                self._processed = max(self._processed, place)

    def _over(self, error: RelayError) -> None:
        self._error = error
        self.connected.set()
        self._changed.unpark_all()
        self._questions.fail_all(error)

    def raise_if_over(self) -> None:
        if self._error is not None:
            raise self._error


async def _said(socket: WebSocket, frame: dict[str, Any]) -> None:
    with suppress(Closed):  # whoever reads the connection sees it, too
        await socket.send(encoded(frame))
