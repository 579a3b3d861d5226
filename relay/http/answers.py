"""What a handler gives back: a finished `Answer`, or a `Stream` that goes on until somebody ends it.

An answer is bytes from the start, so that nothing between the handler and the socket looks at it again.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import orjson

from relay import wire

__all__ = [
    "JSON",
    "OK",
    "Answer",
    "Header",
    "Stream",
    "Write",
    "accepted",
    "answer",
    "created",
    "failure",
    "ok",
]

Header: TypeAlias = tuple[bytes, bytes]
Write: TypeAlias = Callable[[bytes], Awaitable[None]]

JSON: Header = (b"content-type", b"application/json")


@attrs.frozen
class Answer:
    """A whole answer. `headers` come beside the content type and length, which are always sent."""

    status: int
    body: bytes
    content_type: Header = JSON
    headers: tuple[Header, ...] = ()


@attrs.frozen
class Stream:
    """An answer without an end of its own: `run(write)` is cancelled when the client goes or the server stops. `close` is
    called in any case, also when it was never run."""

    content_type: Header
    run: Callable[[Write], Awaitable[None]]
    headers: tuple[Header, ...] = ()
    status: int = 200
    close: Callable[[], Awaitable[None]] | None = None


OK = Answer(200, b'{"ok":true}')


def answer(status: int, value: Any) -> Answer:
    return Answer(status, wire.encode(value))


def ok(value: Any) -> Answer:
    return answer(200, value)


def created(value: Any, *, new: bool = True) -> Answer:
    """201 when something new was stored, else 200 (O-07)."""
    return answer(201 if new else 200, value)


def accepted(value: Any) -> Answer:
    """202: some other process completes what was asked for (COM-6)."""
    return answer(202, value)


def failure(status: int, text: str, *headers: Header, **more: Any) -> Answer:
    """An error answer: an object with the text member `error` (COM-2). `more` are records that tell how things are."""
    known = {name: wire.to_json(record) for name, record in more.items()}
    return Answer(status, orjson.dumps({"error": text, **known}), JSON, headers)
