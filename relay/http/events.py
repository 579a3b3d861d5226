"""`GET /api/events`: the event log as server-sent events.

A client is a cursor on the log (`relay.http.feed`). `Last-Event-ID` (or `?after=`) resumes after that event; when the
log no longer reaches back that far the client gets one `reset` event and goes on from now. With `agentId` it gets what
concerns that agent (SSE-3, SSE-7), judged by what the agent was when the event happened. `types` chooses among that:
names of events, or groups such as `message.*`, with commas between them.
"""

import re
from collections.abc import Iterable, Iterator

import orjson
import trio

from relay.store import LoggedEvent

from . import reach
from .answers import Header, Stream, Write
from .errors import Refused
from .feed import Feed, Matcher, everything, portions
from .query import LARGEST, Query
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()

EVENT_STREAM: Header = (b"content-type", b"text/event-stream; charset=utf-8")
KEEP_ALIVE = 15.0  # seconds of silence before a comment is sent
MOST_TYPES = 50
LONGEST_TYPES = 4_000  # characters
TYPE = re.compile(r"[a-z]+(\.[a-z]+)*(\.\*)?")


@route("GET", "/api/events", scope="event:read")
async def events(call: Call[None]) -> Stream:
    log = call.fleet.store.events
    after = _resume_point(call)
    wanted = _types(call.query)
    place = log.last_id if after is None else after
    agent = call.query.text("agentId")
    reach.of_everybody(call.fleet.store, call.principal, agent, "agentId")
    concerned = call.fleet.matcher(agent, place) if agent is not None else everything
    feed = Feed(log, _both(concerned, wanted), place)
    return Stream(
        EVENT_STREAM, lambda write: _Subscription(feed, write).run(), ((b"x-accel-buffering", b"no"),)
    )


def _resume_point(call: Call[None]) -> int | None:
    value = call.headers.get(b"last-event-id")
    if value is None:
        return call.query.integer("after", 0, LARGEST)
    if not value.isdigit() or len(value) > 16:
        raise Refused(400, "Last-Event-ID: expected the id of an event")
    return int(value)


def _types(query: Query) -> re.Pattern[str] | None:
    """What the name of an event must be."""
    text = query.text("types", longest=LONGEST_TYPES)
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) > MOST_TYPES or not all(TYPE.fullmatch(name) for name in names):
        example = "such as message.new,command.*"
        raise Refused(400, f"types: expected at most {MOST_TYPES} names of events or groups, {example}")
    return re.compile("|".join(re.escape(name).replace(r"\*", ".+") for name in names))


def _both(concerned: Matcher, wanted: re.Pattern[str] | None) -> Matcher:
    """A matcher that follows an agent must see every event, also those that are not wanted."""
    if wanted is None:
        return concerned
    fits = wanted.fullmatch
    return lambda event: concerned(event) and fits(event.type) is not None


class _Subscription:
    """One client, and the time by which it must hear something."""

    def __init__(self, feed: Feed, write: Write) -> None:
        self._feed = feed
        self._write = write
        self._comment_at = 0.0

    async def run(self) -> None:
        await self._comment("relay")
        while True:
            if self._feed.lost:
                told = self._feed.start_over()
                await self._send(b"id: %d\nevent: reset\ndata: %s\n\n" % (told["last"], orjson.dumps(told)))
            for chunk in _chunks(await self._feed.next(self._comment_at)):
                await self._send(chunk)
            if trio.current_time() >= self._comment_at:
                await self._comment("keep-alive")

    async def _comment(self, text: str) -> None:
        """Breaks the silence, and tells the place to resume from: there may have been no event for this client yet."""
        await self._send(b": %s\nid: %d\n\n" % (text.encode(), self._feed.cursor))

    async def _send(self, chunk: bytes) -> None:
        await self._write(chunk)
        self._comment_at = trio.current_time() + KEEP_ALIVE


def _chunks(new: Iterable[LoggedEvent]) -> Iterator[bytes]:
    texts = (
        b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.type.encode(), event.data) for event in new
    )
    return (b"".join(portion) for portion in portions(texts))
