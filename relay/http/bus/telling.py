"""What a connection is told: answers, errors, and events as frames (BUS-4)."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson
import trio

from relay import wire
from relay.http.feed import Feed, portions
from relay.store import LoggedEvent
from relay.wire import bus

from .deeds import Outcome
from .socket import Socket

__all__ = ["Teller", "frames"]

WORTH_KEEPING = 16 * 1024  # bytes: longer ones are written anew for each connection
CODES = {
    400: "invalid",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    422: "invalid",
    503: "overloaded",
}
"""What an HTTP status is called in an error frame."""


class Teller:
    """Each of its methods waits until the client has room."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def tell(self, frame: dict[str, Any]) -> None:
        await self._socket.send(wire.encode(frame).decode())

    async def result(self, name: str, outcomes: Sequence[Outcome]) -> None:
        ok = all(outcome["ok"] for outcome in outcomes)
        await self.tell({"type": "result", "id": name, "ok": ok, "results": outcomes})

    async def failure(self, outcome: Outcome) -> None:
        await self.error(CODES.get(outcome["status"], "internal"), outcome["error"])

    async def error(self, code: str, text: str, name: str | None = None) -> None:
        told = {"type": "error", "code": code, "error": text}
        await self.tell(told if name is None else {**told, "id": name})

    async def events(self, feed: Feed, *, bound: bool) -> None:
        """All that there is to be told, for ever; a ping when that is nothing for long."""
        ping_at = trio.current_time() + bus.HEARTBEAT
        while True:
            if feed.lost:
                told = feed.start_over()
                await self.tell({"type": "reset", "eventId": told["last"], **told})
            for text in frames(await feed.next(ping_at), bound=bound):
                await self._socket.send(text)
                ping_at = trio.current_time() + bus.HEARTBEAT
            if trio.current_time() >= ping_at:
                await self.tell({"type": "ping", "eventId": feed.cursor})
                ping_at = trio.current_time() + bus.HEARTBEAT


def frames(events: Iterable[LoggedEvent], *, bound: bool) -> Iterator[str]:
    """The events in order, in as few frames as may be. `bound`: a command that is new is for this client to execute."""
    for portion in portions(_text(event, bound) for event in events):
        yield portion[0] if len(portion) == 1 else f'{{"type":"events","events":[{",".join(portion)}]}}'


def _text(event: LoggedEvent, bound: bool) -> str:
    return _frame(event, bound) if len(event.data) <= WORTH_KEEPING else _frame.__wrapped__(event, bound)


@lru_cache(maxsize=1024)
def _frame(event: LoggedEvent, bound: bool) -> str:
    """Written once for all connections, which read the same tail of the log at about the same time."""
    place = f'"eventId":{event.id},"at":{event.at}'
    data = event.data.decode()
    if event.type == "message.new":
        return f'{{"type":"message.new",{place},"message":{data}}}'
    if bound and event.type == "command.requested":
        return f'{{"type":"command",{place},{_command(event.data)}}}'
    about = orjson.dumps({"event": event.type, "source": event.source, "subject": event.subject}).decode()
    return f'{{"type":"event",{place},{about[1:-1]},"data":{data}}}'


def _command(data: bytes) -> str:
    command = orjson.loads(data)["command"]
    told = {
        "commandId": command["id"],
        "commandType": command["type"],
        "params": command.get("params", {}),
        "command": command,
    }
    return orjson.dumps(told).decode()[1:-1]
