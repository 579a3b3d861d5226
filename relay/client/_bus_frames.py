"""What relay says on the bus, read."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
import trio

from relay import wire

from ._errors import (
    Garbled,
    Overloaded,
    Refused,
    RelayError,
    ServerFailed,
    Superseded,
    Unauthorized,
    Unreachable,
)
from ._events import StreamedEvent
from ._streams import SILENCE
from ._websocket import Closed, WebSocket

__all__ = ["hear", "outcome", "read", "refused", "told", "trouble"]

T = TypeVar("T")

STATUSES = {"invalid": 400, "malformed": 400, "unknown_type": 400, "not_found": 404, "conflict": 409}
"""What the code of an error frame is as an HTTP status."""


async def hear(socket: WebSocket, url: str) -> tuple[dict[str, Any], int]:
    """The next frame, an object with a `type`, and its length. Raises what the end of the connection means."""
    try:
        with trio.fail_after(SILENCE):
            text = await socket.receive()
    except trio.TooSlowError:
        raise Unreachable(f"{url} has said nothing for {SILENCE:g} s") from None
    except Closed as closed:
        raise _meant(closed) from None
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Garbled(url, str(error)) from None
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise Garbled(url, f"a frame is {text[:80]!r}")
    return frame, len(text)


def _meant(closed: Closed) -> RelayError:
    match closed.code:
        case 4401:
            return Unauthorized(401, closed.reason)
        case 4409:
            return Superseded(409, closed.reason)
        case 4400:
            return Refused(400, closed.reason)
        case 1009:
            return Refused(413, closed.reason)
    return closed


def trouble(frame: dict[str, Any]) -> RelayError:
    """What an error frame says."""
    code, text = str(frame.get("code")), str(frame.get("error"))
    if code in ("superseded", "instance_mismatch"):
        return Superseded(409, text)
    if code in ("unauthorized", "forbidden"):
        return Unauthorized(401 if code == "unauthorized" else 403, text)
    if code == "overloaded":
        return Overloaded(503, text, 0.5)
    return Refused(STATUSES[code], text) if code in STATUSES else ServerFailed(500, text)


def told(frame: dict[str, Any]) -> list[StreamedEvent]:
    """The events of a frame. One of a type that this client does not know has none."""
    events = map(_event, frame["events"] if frame["type"] == "events" else (frame,))
    return [event for event in events if event is not None]


def _event(frame: dict[str, Any]) -> StreamedEvent | None:
    place: Any = frame.get("eventId")
    match frame["type"]:
        case "event":
            return StreamedEvent(place, frame["event"], frame["data"])
        case "message.new":
            return StreamedEvent(place, "message.new", frame["message"])
        case "command":
            return StreamedEvent(place, "command.requested", {"command": frame["command"]})
        case "reset":
            return StreamedEvent(place, "reset", {"oldest": frame.get("oldest"), "last": place})
    return None


def outcome(result: dict[str, Any], kind: type[T], member: str | None = None) -> T | Refused:
    """What one thing that was asked for led to."""
    if not result["ok"]:
        return refused(result)
    return wire.decode(kind, result if member is None else result[member])


def refused(result: dict[str, Any]) -> Refused:
    status, text = result["status"], result["error"]
    if status in (429, 503, 504):
        return Overloaded(status, text, 0.5)
    return Unauthorized(status, text) if status in (401, 403) else Refused(status, text)


def read(kind: type[T], value: Any, url: str) -> T:
    try:
        return wire.decode(kind, value)
    except wire.Invalid as error:
        raise Garbled(url, str(error)) from None
