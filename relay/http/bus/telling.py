"""Events as frames (BUS-4). Written once for all connections, which read the same tail of the log at about the same time."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import orjson

from relay.http.feed import portions
from relay.store import LoggedEvent

__all__ = ["frames"]

WORTH_KEEPING = 16 * 1024  # bytes: longer ones are written anew for each connection


def frames(events: Iterable[LoggedEvent], *, bound: bool) -> Iterator[str]:
    """The events in order, in as few frames as may be. `bound`: a command that is new is for this client to execute."""
    for portion in portions(_text(event, bound) for event in events):
        yield portion[0] if len(portion) == 1 else f'{{"type":"events","events":[{",".join(portion)}]}}'


def _text(event: LoggedEvent, bound: bool) -> str:
    return _frame(event, bound) if len(event.data) <= WORTH_KEEPING else _frame.__wrapped__(event, bound)


@lru_cache(maxsize=1024)
def _frame(event: LoggedEvent, bound: bool) -> str:
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
