"""Reading the frames of a client."""

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import orjson

from relay import wire
from relay.wire import bus

__all__ = ["Bad", "Frame", "grouped", "parse"]

MOST_TOGETHER = 500  # messages of one transaction, but for those of a single frame
LONGEST_TEXT = 2_000  # characters of what is said about a frame

Frame = Any
"""One of the classes of `wire.bus.FRAMES`."""


@attrs.frozen
class Bad:
    """A frame that cannot be done. `counts`: it is one of those that end a connection when there are too many; a type that
    this server does not know may be of a newer client."""

    code: str
    text: str
    id: str | None = None

    @property
    def counts(self) -> bool:
        return self.code != "unknown_type"


def parse(text: str | None) -> Frame | Bad:
    """The frame; None stands for one of bytes."""
    if text is None:
        return Bad("malformed", "a frame must be text")
    try:
        members = orjson.loads(text)
    except ValueError as error:
        return Bad("malformed", f"the frame is not JSON: {error}")
    if not isinstance(members, dict) or not isinstance(members.get("type"), str):
        return Bad("malformed", "a frame must be an object with a `type`")
    named = members.get("id")
    name = named if isinstance(named, str) and len(named) <= 240 else None
    kind = bus.FRAMES.get(members["type"])
    if kind is None:
        return Bad("unknown_type", f"type: expected one of {', '.join(bus.FRAMES)}", name)
    try:
        return wire.decode(kind, members)
    except wire.Invalid as error:
        return Bad("invalid", str(error)[:LONGEST_TEXT], name)


def grouped(texts: Iterable[str | None]) -> Iterator[Frame | Bad | list[bus.Send]]:
    """The frames in order, those that send messages and follow each other in one list, to be sent together."""
    together: list[bus.Send] = []
    count = 0
    for frame in map(parse, texts):
        if isinstance(frame, bus.Send) and count + len(frame.messages) <= MOST_TOGETHER:
            together.append(frame)
            count += len(frame.messages)
            continue
        if together:
            yield together
            together, count = [], 0
        if isinstance(frame, bus.Send):
            together, count = [frame], len(frame.messages)
        else:
            yield frame
    if together:
        yield together
