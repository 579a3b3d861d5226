"""Small JSON files that are there whole or not at all, also after the machine lost power; and locks."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["HeldBy", "locked", "read_json", "remove", "sync_directory", "synced", "write_json", "write_text"]


class HeldBy(Exception):
    """Another process holds the lock. It is named in the text: `process 4711`."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` within the block. Raises `HeldBy`, or `OSError` when it cannot be made.

    The kernel frees it when the process ends, however it ends. The file stays, and names who held it last.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            number = os.pread(file, 20, 0).decode(errors="replace").strip()
            raise HeldBy(f"process {number}" if number else "another process") from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by the JSON text of `value`, as `write_text` does."""
    write_text(path, json.dumps(value))


def write_text(path: Path, text: str) -> None:
    """Replace `path` by the text, for its owner only: written beside it, synced, renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_directory(path.parent)


def read_json(path: Path) -> Any:
    """What the file holds; None when there is none, or nothing that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def synced(path: Path) -> None:
    """What was written into the file is on the disk."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_directory(path: Path) -> None:
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
