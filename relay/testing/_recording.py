"""A VFS for SQLite that keeps a record of what is done to files, while it is done to the real ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import apsw

from ._survival import File, Image, Link, Step, Sync, Truncate, Unlink, Write

__all__ = ["Recording", "recording"]

JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
"""Files with whose first sync SQLite's VFS syncs the directory too."""

numbers = count(1)


class Recording:
    """What was in a directory, and what was done to it since. The lock makes one step of doing and recording."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.lock = threading.RLock()
        self.start = Image()
        self.steps: list[Step] = []
        self._acknowledged: list[tuple[int, Any]] = []
        for path in self.directory.rglob("*"):
            if path.is_file() and not path.name.endswith("-shm"):
                file = File(self._name(path))
                self.start.names[file.name] = file
                self.start.contents[file] = path.read_bytes()
        self._files = dict(self.start.names)

    def acknowledge(self, what: Any) -> None:
        with self.lock:
            self._acknowledged.append((len(self.steps), what))

    def acknowledged(self, steps: int) -> tuple[Any, ...]:
        """What was acknowledged before more than `steps` steps were made."""
        return tuple(what for made, what in self._acknowledged if made <= steps)

    def file(self, path: str) -> File:
        """What is at `path` now. If it is new, its creation is recorded."""
        name = self._name(path)
        if name not in self._files:
            self._files[name] = File(name)
            self.steps.append(Link(self._files[name]))
        return self._files[name]

    def deleted(self, path: str, *, synced: bool) -> None:
        file = self.file(path)
        del self._files[file.name]
        self.steps.append(Unlink(file))
        if synced:
            self.steps.append(Sync(None, file.directory))

    def _name(self, path: Path | str) -> str:
        return Path(path).relative_to(self.directory).as_posix()


@contextmanager
def recording(directory: Path) -> Iterator[tuple[Recording, str]]:
    """Record, within the block, under the VFS of the name that is given."""
    record = Recording(directory)
    name = f"relay-recording-{next(numbers)}"
    vfs = _VFS(record, name)
    try:
        yield record, name
    finally:
        vfs.unregister()


class _VFS(apsw.VFS):
    """The system's, but that it does not sync."""

    def __init__(self, record: Recording, name: str) -> None:
        super().__init__(name, "", maxpathname=0)
        self._record = record

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if name is None:
            return apsw.VFSFile("", name, flags)  # temporary: nobody looks for it after a crash
        return _File(self._record, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with self._record.lock:
            super().xDelete(filename, False)
            self._record.deleted(filename, synced=syncdir)


class _File(apsw.VFSFile):
    def __init__(self, record: Recording, name: str | apsw.URIFilename, flags: list[int]) -> None:
        self._record = record
        with record.lock:
            super().__init__("", name, flags)
            self._file = record.file(name if isinstance(name, str) else name.filename())
        self._directory = self._file.directory if flags[0] & JOURNALS else None

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        with self._record.lock:
            super().xWrite(data, offset)
            self._record.steps.append(Write(self._file, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with self._record.lock:
            super().xTruncate(newsize)
            self._record.steps.append(Truncate(self._file, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._record.lock:
            self._record.steps.append(Sync(self._file, self._directory))
        self._directory = None
