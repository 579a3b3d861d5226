"""Which messages the agent has acknowledged, on disk (1.13-13).

A message is written down the moment its acknowledgement is read, before relay is told. Whatever dies after that, it is
not handed over again: relay is only told again that it has been read.

This file outlives databases: one that is deleted, restored, or of a second server gives the same ids out again. So a
message is known by its id, its time and its sender; a line that tells less, as once was written, counts for nothing.

The newest 1 000 are kept. That is enough: nothing is handed over while relay cannot be reached, so no more than a batch
or two are ever acknowledged and not yet marked as read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import orjson

from relay import wire

__all__ = ["Acknowledged", "Key", "key_of"]

log = logging.getLogger(__name__)

KEPT = 1_000


class Key(NamedTuple):
    """What tells a message from every other, also from those of another database. `created_at` is epoch milliseconds."""

    id: int
    created_at: int
    sender: str


def key_of(message: wire.Message) -> Key:
    return Key(message.id, round((message.created_at or 0) * 1000), message.from_)


class Acknowledged:
    """A set of messages in a file of lines. A line without its end was never written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = dict.fromkeys(_read(path))
        self._lines = 0
        self._write_anew()

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[Key]) -> None:
        """Remember these, on disk when this returns. A disk that refuses is reported; then only this life knows."""
        new = [key for key in keys if key not in self._keys]
        if not new:
            return
        self._keys.update(dict.fromkeys(new))
        self._lines += len(new)
        try:
            if self._lines > KEPT:
                self._write_anew()
            else:
                _write(self._path, "ab", new)
        except OSError as error:
            log.error("what was acknowledged cannot be written down: %s", error)

    def _write_anew(self) -> None:
        self._keys = dict.fromkeys(list(self._keys)[-KEPT:])
        beside = self._path.with_suffix(".new")
        _write(beside, "wb", self._keys)
        beside.replace(self._path)
        self._lines = 0


def _read(path: Path) -> list[Key]:
    try:
        whole = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [key for line in whole if (key := _parse(line)) is not None]


def _parse(line: bytes) -> Key | None:
    """The key that the line tells; None for any other line."""
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    match told:
        case [int(number), int(created_at), str(sender)]:
            return Key(number, created_at, sender)
    return None


def _write(path: Path, mode: str, keys: Iterable[Key]) -> None:
    with path.open(mode) as file:
        file.write(b"".join(orjson.dumps(tuple(key)) + b"\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())
