"""`GET /api/events`: the event log as server-sent events.

A client is a cursor on the log, not a queue: it is written all that is new to it in one chunk, within bounds, and when
it is slow it only falls behind. `Last-Event-ID` (or `?after=`) resumes after that event; when the log no longer
reaches back that far the client gets one `reset` event and goes on from now. With `agentId` it gets what concerns
that agent (SSE-3, SSE-7), judged when the event is read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import orjson
import trio

from relay.store import EventLog, LoggedEvent

from .answers import Header, Stream, Write
from .errors import Refused
from .routing import LARGEST, Call, Routes

__all__ = ["route"]

route = Routes()

EVENT_STREAM: Header = (b"content-type", b"text/event-stream; charset=utf-8")
KEEP_ALIVE = 15.0  # seconds of silence before a comment is sent
MOST_EVENTS = 512  # in one chunk
MOST_BYTES = 256 * 1024  # in one chunk, but for a single larger event

Matcher = Callable[[LoggedEvent], bool]


@route("GET", "/api/events", scope="event:read")
async def events(call: Call[None]) -> Stream:
    log = call.fleet.store.events
    after = _resume_point(call)
    agent = call.query.text("agentId")
    matches: Matcher = call.fleet.matcher(agent) if agent is not None else _everything

    async def run(write: Write) -> None:
        await _Subscription(log, matches, write, log.last_id if after is None else after).run()

    return Stream(EVENT_STREAM, run, ((b"x-accel-buffering", b"no"),))


def _everything(_: LoggedEvent) -> bool:
    return True


def _resume_point(call: Call[None]) -> int | None:
    value = call.headers.get(b"last-event-id")
    if value is None:
        return call.query.integer("after", 0, LARGEST)
    if not value.isdigit() or len(value) > 16:
        raise Refused(400, "Last-Event-ID: expected the id of an event")
    return int(value)


class _Subscription:
    """One client: a cursor on the log, and the time by which it must hear something."""

    def __init__(self, log: EventLog, matches: Matcher, write: Write, cursor: int) -> None:
        self._log = log
        self._matches = matches
        self._write = write
        self._cursor = cursor
        self._comment_at = 0.0

    async def run(self) -> None:
        await self._send(self._comment("relay"))
        while True:
            if self._log.oldest_id - 1 <= self._cursor <= self._log.last_id:
                await self._advance()
            else:
                self._cursor = self._log.last_id
                await self._send(_reset(self._log))

    async def _advance(self) -> None:
        new = await self._read()
        for chunk in _chunks(event for event in new if self._matches(event)):
            await self._send(chunk)
        if new:
            self._cursor = new[-1].id
        if trio.current_time() >= self._comment_at:
            await self._send(self._comment("keep-alive"))

    async def _read(self) -> Sequence[LoggedEvent]:
        with trio.move_on_at(self._comment_at):
            return await self._log.read_after(self._cursor, MOST_EVENTS)
        return ()

    def _comment(self, text: str) -> bytes:
        """Breaks the silence, and tells the place to resume from: there may have been no event for this client yet."""
        return b": %s\nid: %d\n\n" % (text.encode(), self._cursor)

    async def _send(self, chunk: bytes) -> None:
        await self._write(chunk)
        self._comment_at = trio.current_time() + KEEP_ALIVE


def _chunks(new: Iterable[LoggedEvent]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for event in new:
        part = b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.type.encode(), event.data)
        if parts and size + len(part) > MOST_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield b"".join(parts)


def _reset(log: EventLog) -> bytes:
    data = orjson.dumps({"oldest": log.oldest_id, "last": log.last_id})
    return b"id: %d\nevent: reset\ndata: %s\n\n" % (log.last_id, data)
