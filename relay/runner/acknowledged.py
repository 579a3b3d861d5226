"""Which messages the agent has acknowledged, on disk (1.13-13).

A message is written down the moment its acknowledgement is read, before relay is told. Whatever dies after that, it is
not handed over again: relay is only told again that it has been read.

The newest 1 000 are kept. That is enough: nothing is handed over while relay cannot be reached, so no more than a batch
or two are ever acknowledged and not yet marked as read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Acknowledged"]

log = logging.getLogger(__name__)

KEPT = 1_000


class Acknowledged:
    """A set of message ids in a file of lines. A line without its end was never written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids = dict.fromkeys(_read(path))
        self._lines = 0
        self._write_anew()

    def __contains__(self, number: int) -> bool:
        return number in self._ids

    def add(self, numbers: Iterable[int]) -> None:
        """Remember these, on disk when this returns. A disk that refuses is reported; then only this life knows."""
        new = [number for number in numbers if number not in self._ids]
        if not new:
            return
        self._ids.update(dict.fromkeys(new))
        self._lines += len(new)
        try:
            if self._lines > KEPT:
                self._write_anew()
            else:
                _write(self._path, "ab", new)
        except OSError as error:
            log.error("what was acknowledged cannot be written down: %s", error)

    def _write_anew(self) -> None:
        self._ids = dict.fromkeys(list(self._ids)[-KEPT:])
        beside = self._path.with_suffix(".new")
        _write(beside, "wb", self._ids)
        beside.replace(self._path)
        self._lines = 0


def _read(path: Path) -> list[int]:
    try:
        whole = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [int(line) for line in whole if line.isdigit()]


def _write(path: Path, mode: str, numbers: Iterable[int]) -> None:
    with path.open(mode) as file:
        file.write(b"".join(b"%d\n" % number for number in numbers))
        file.flush()
        os.fsync(file.fileno())
