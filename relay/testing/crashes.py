"""Crash points: the power is lost at every write and sync of the real SQLite, and recovery is checked after each.

    with recorded(tmp_path) as disk:
        bank = apsw.Connection(str(disk.directory / "bank.db"), vfs=disk.vfs)
        ...
        bank.execute("insert into deposits values (7)")
        disk.acknowledge(7)
        ...

    for crash in disk.crashes():
        with crash.restored() as directory:
            bank = apsw.Connection(str(directory / "bank.db"))
            assert bank.pragma("integrity_check") == "ok"
            assert deposits(bank) >= set(crash.acknowledged)

The program runs once, on real files, with any number of connections and threads, and what SQLite does to the files is
recorded step by step. What is on a disk when the power goes does not depend on what the program would have done next,
so each crash is made from the record: all steps up to a boundary, with everything that was synced and a part of what
was not. Files that recovery wrote can be recorded in their turn, for crashes during recovery.

The model is a POSIX file system below SQLite's own "unix" VFS. Syncing a file keeps its content; its name is kept when
the directory is synced, which SQLite does at the first sync of a journal and of a write-ahead log. A write harms nothing
beside it, and a sector is written whole or not. Shared memory does not outlive the power. Only files that are opened
with the VFS of the disk are recorded. Needs apsw.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs

from ._recording import Recording, recording
from ._survival import moments, survivals

__all__ = ["Crash", "Disk", "recorded"]


@attrs.frozen
class Crash:
    """A way to lose the power, and what is found afterwards.

    `boundary` is how many steps had been made, `before` says what came next, `found` what of the steps is found.
    `acknowledged` is what the program had acknowledged by then, in order. `files` are contents by name.
    """

    boundary: int
    before: str
    found: str
    acknowledged: tuple[Any, ...] = attrs.field(repr=False)
    files: dict[str, bytes] = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"power lost after step {self.boundary}, before {self.before}; found: {self.found}"

    @contextmanager
    def restored(self, within: Path | None = None) -> Iterator[Path]:
        """A new directory with the files, for the time of the block, `within` that for temporary files or another.

        When the block fails, its error is told where the power was lost, and the files stay, as they were found.
        """
        directory = Path(tempfile.mkdtemp(prefix="crash-", dir=within))
        try:
            self._put(directory)
            yield directory
        except BaseException as error:
            shutil.rmtree(directory)
            self._put(directory)
            error.add_note(f"{self}; the files are in {directory}")
            raise
        shutil.rmtree(directory)

    def _put(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        for name, content in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Disk:
    """A directory whose files are recorded when SQLite opens them with the VFS named `vfs`. Made by `recorded`."""

    def __init__(self, recording: Recording, vfs: str) -> None:
        self.directory = recording.directory
        self.vfs = vfs
        self._recording = recording

    @property
    def boundaries(self) -> int:
        """The number of moments at which the power can be lost: before each step, and after the last."""
        return len(self._recording.steps) + 1

    def acknowledge(self, what: Any) -> None:
        """Say that after any crash from now on `what` must be found."""
        self._recording.acknowledge(what)

    def crashes(self, *, samples: int = 3, seed: int = 0, honest: bool = True) -> Iterator[Crash]:
        """Every boundary, each with several choices of what is found of the steps that were not synced: none, all, all
        up to any of them, all but the oldest, but those of one file, but a half of the newest write, and `samples`
        choices of sectors by chance, which depend on `seed` alone.

        Choices after which the same is found, with the same acknowledged, are given once. With `honest` false the disk
        lies: it takes syncs and does nothing. A check that does not fail then would never fail.
        """
        acknowledged: tuple[Any, ...] = ()
        given: set[int] = set()
        for moment in moments(self._recording.start, self._recording.steps, honest=honest):
            told = self._recording.acknowledged(moment.steps)
            if news := told != acknowledged:
                acknowledged = told
                given.clear()
            random = Random(f"{seed} {moment.steps}")
            for survival in survivals(moment, random, samples, prefixes=moment.moved or news):
                files = moment.durable.with_changes(survival.changes).files()
                look = hash(tuple(files.items()))
                if look not in given:
                    given.add(look)
                    yield Crash(moment.steps, moment.before, survival.what, told, files)


@contextmanager
def recorded(directory: Path) -> Iterator[Disk]:
    """Record what SQLite does to the files in `directory` that are opened with `vfs=disk.vfs` within the block.

    What is there already is taken as safe. Nothing is really synced, which makes it fast. Close the connections within
    the block.
    """
    with recording(directory) as (record, vfs):
        yield Disk(record, vfs)
