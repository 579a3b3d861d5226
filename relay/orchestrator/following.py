"""A session's log as it grows: its last lines at once, then all that is new, until the session is over (2.26).

An event stream. Each event has `{"lines": [...]}`; the last one is `end`. Lines come when they are complete, one that never ends in
pieces. A log that was begun anew is read from its beginning.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import trio

from .diagnosis import CONTROL, TAIL_BYTES

__all__ = ["follow"]

LOOK_EVERY = 0.25  # seconds
KEEP_ALIVE = 15.0  # seconds of silence
PART = 64 * 1024  # bytes that are read at once; also the longest line


async def follow(
    path: Path, lines: int, is_running: Callable[[], bool], *, raw: bool = False
) -> AsyncGenerator[bytes]:
    """The parts of the stream. Starts with the last `lines` of the log."""
    log = _Log(path, raw=raw)
    yield _event(log.last(lines))
    heard = trio.current_time()
    while True:
        running = is_running()  # before the last look, so that nothing is missed
        if new := log.new():
            yield _event(new)
            heard = trio.current_time()
            continue
        if not running:
            if rest := log.rest():
                yield _event(rest)
            yield b'event: end\ndata: {"running": false}\n\n'
            return
        if trio.current_time() - heard >= KEEP_ALIVE:
            yield b": keep-alive\n\n"
            heard = trio.current_time()
        await trio.sleep(LOOK_EVERY)


class _Log:
    """One log file, and how far it was read."""

    def __init__(self, path: Path, *, raw: bool) -> None:
        self._path = path
        self._raw = raw
        self._place = 0
        self._begun = b""

    def last(self, lines: int) -> list[str]:
        """The last complete lines that are not empty."""
        size = self._size()
        self._place = max(0, size - TAIL_BYTES)
        found: list[str] = []
        while self._place < size and (new := self._read(PART)):
            found += [line for line in self._complete(new) if line.strip()]
        return found[-lines:]

    def new(self) -> list[str]:
        if self._size() < self._place:
            self._place, self._begun = 0, b""
        return self._complete(self._read(PART))

    def rest(self) -> list[str]:
        """The line that was begun, and will not be ended."""
        rest, self._begun = self._begun, b""
        return [self._text(rest)] if rest else []

    def _complete(self, new: bytes) -> list[str]:
        *ended, self._begun = (self._begun + new).split(b"\n")
        if len(self._begun) > PART:
            ended, self._begun = [*ended, self._begun], b""
        return [self._text(line) for line in ended]

    def _text(self, line: bytes) -> str:
        text = line.decode(errors="replace")
        return text if self._raw else CONTROL.sub("", text)

    def _read(self, most: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._place)
                new = file.read(most)
        except OSError:
            return b""
        self._place += len(new)
        return new

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


def _event(lines: list[str]) -> bytes:
    return b"data: %s\n\n" % json.dumps({"lines": lines}).encode()
