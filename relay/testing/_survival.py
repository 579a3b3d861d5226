"""What is left of a disk after the power was lost: the model behind `crashes`. It knows nothing of SQLite.

What was done to a file lasts once the file was synced, and its name once the directory was. Of what was done since,
each change may be found or not, whatever came before or after it; of a write, each sector; and where a lost write made
the file longer, there may be anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

import attrs

__all__ = [
    "Change",
    "File",
    "Image",
    "Link",
    "Step",
    "Survival",
    "Sync",
    "Truncate",
    "Unlink",
    "Write",
    "survivals",
]

SECTOR = 512
"""How many bytes are written whole or not at all."""

JUNK = 0.2
"""How often there is something else where a lost write made a file longer."""


@attrs.frozen(eq=False)
class File:
    """A file, which is not its name: a new one may have the name of one that was deleted."""

    name: str

    @property
    def directory(self) -> str:
        return self.name.rpartition("/")[0]


@attrs.frozen
class Write:
    file: File
    at: int
    data: bytes

    def __str__(self) -> str:
        return f"the write of {len(self.data)} bytes at {self.at} of {self.file.name}"


@attrs.frozen
class Truncate:
    file: File
    size: int

    def __str__(self) -> str:
        return f"the truncation of {self.file.name} to {self.size} bytes"


@attrs.frozen
class Link:
    """The file got its name."""

    file: File

    def __str__(self) -> str:
        return f"the creation of {self.file.name}"


@attrs.frozen
class Unlink:
    """The file lost its name."""

    file: File

    def __str__(self) -> str:
        return f"the deletion of {self.file.name}"


Change = Write | Truncate | Link | Unlink


@attrs.frozen
class Sync:
    """What was done to `file` lasts from now on; so do the names in `directory`."""

    file: File | None
    directory: str | None = None

    def __str__(self) -> str:
        return f"the sync of {self.file.name if self.file else 'the directory'}"

    def keeps(self, change: Change) -> bool:
        match change:
            case Write(file) | Truncate(file):
                return file is self.file
            case Link(file) | Unlink(file):
                return file.directory == self.directory


Step = Change | Sync


@attrs.frozen
class Image:
    """What a disk holds."""

    names: dict[str, File] = attrs.Factory(dict)
    contents: dict[File, bytes] = attrs.Factory(dict)

    def with_changes(self, changes: Sequence[Change]) -> Image:
        names = dict(self.names)
        changed = {change.file: bytearray(self.contents.get(change.file, b"")) for change in changes}
        for change in changes:
            match change:
                case Write(file, at, data):
                    _resize(changed[file], max(at, len(changed[file])))
                    changed[file][at : at + len(data)] = data
                case Truncate(file, size):
                    _resize(changed[file], size)
                case Link(file):
                    names[file.name] = file
                case Unlink(file):
                    if names.get(file.name) is file:
                        del names[file.name]
        return Image(names, self.contents | {file: bytes(content) for file, content in changed.items()})

    def files(self) -> dict[str, bytes]:
        """What is found. A file without a name is not."""
        return {name: self.contents.get(file, b"") for name, file in sorted(self.names.items())}


@attrs.frozen
class Moment:
    """When the power may be lost: what is safe then, and what was done since. `moved` when the former is not what it
    was a step ago."""

    steps: int
    before: str
    durable: Image
    pending: Sequence[Change]
    moved: bool


def moments(start: Image, steps: Sequence[Step], *, honest: bool) -> Iterator[Moment]:
    """Before each step, and after the last. Where the disk is not `honest`, a sync does nothing."""
    durable, pending, moved = start, list[Change](), True
    for number, step in enumerate(steps):
        yield Moment(number, str(step), durable, pending, moved)
        moved = honest and isinstance(step, Sync)
        if not isinstance(step, Sync):
            pending = [*pending, step]
        elif honest:
            durable = durable.with_changes([change for change in pending if step.keeps(change)])
            pending = [change for change in pending if not step.keeps(change)]
    yield Moment(len(steps), "anything else", durable, pending, moved)


@attrs.frozen
class Survival:
    """One way to lose the power: which of the unsynced changes are found."""

    what: str
    changes: Sequence[Change]


def survivals(moment: Moment, random: Random, samples: int, *, prefixes: bool) -> Iterator[Survival]:
    """Ways in which the pending changes are found or lost: the telling ones, then `samples` by chance."""
    pending = moment.pending
    yield Survival("all that was done", pending)
    if not pending:
        return
    yield Survival("only what was synced", ())
    for length in range(1, len(pending) if prefixes else 0):
        yield Survival(f"what was synced and, of the rest, all up to {pending[length - 1]}", pending[:length])
    yield from _reordered(pending)
    yield from _torn(pending)
    for number in range(samples):
        found = _by_chance(pending, moment.durable, random)
        yield Survival(f"what was synced and, of the rest, choice {number} of chance", found)


def _reordered(pending: Sequence[Change]) -> Iterator[Survival]:
    """Something is lost, and what came after it is found."""
    yield Survival(f"all but {pending[0]}", pending[1:])
    for file in dict.fromkeys(change.file for change in pending):
        others = [change for change in pending if change.file is not file]
        yield Survival(f"all that was done, but to {file.name} only what was synced", others)


def _torn(pending: Sequence[Change]) -> Iterator[Survival]:
    """Of the newest change, if it is a write of several sectors, a part is found."""
    *before, newest = pending
    sectors = _sectors(newest)
    if len(sectors) > 1:
        half = len(sectors) // 2
        yield Survival(f"all, but only the first half of {newest}", [*before, *sectors[:half]])
        yield Survival(f"all, but only the second half of {newest}", [*before, *sectors[half:]])


def _by_chance(pending: Sequence[Change], durable: Image, random: Random) -> list[Change]:
    likely = random.random()
    found: list[Change] = []
    for sector in (sector for change in pending for sector in _sectors(change)):
        if random.random() < likely:
            found.append(sector)
        elif isinstance(sector, Write) and _lengthens(sector, durable) and random.random() < JUNK:
            found.append(Write(sector.file, sector.at, random.randbytes(len(sector.data))))
    return found


def _lengthens(write: Write, durable: Image) -> bool:
    return write.at >= len(durable.contents.get(write.file, b""))


def _sectors(change: Change) -> list[Change]:
    """The parts of a change that are found or lost each by itself."""
    if not isinstance(change, Write):
        return [change]
    first = SECTOR - change.at % SECTOR
    cuts = [0, *range(first, len(change.data), SECTOR), len(change.data)]
    return [Write(change.file, change.at + cut, change.data[cut:end]) for cut, end in pairwise(cuts)]


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))
