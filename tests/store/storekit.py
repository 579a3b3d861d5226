"""What the store's tests stage, and how they wait for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import trio

from relay.store import Event, Owner, Store, Write


def put(key: str, value: str = "") -> Write:
    return Write("insert into meta (key, value) values (?, ?)", (key, value))


def lost_fence() -> Write:
    return Write("update meta set value = 'x' where key = 'nobody has this key'", (), 1)


def event(number: int) -> Event:
    return Event("counted", "test", None, {"number": number})


def kept(store: Store) -> set[str]:
    return {key for (key,) in store.rows("select key from meta")}


def page_of(path: Path, name: str) -> int:
    """Where the table or index begins in the file."""
    with closing(apsw.Connection(str(path))) as connection:
        ((root,),) = connection.execute("select rootpage from sqlite_schema where name = ?", (name,))
        ((size,),) = connection.execute("pragma page_size")
    return (int(root) - 1) * int(size)


def overwrite(path: Path, offset: int) -> None:
    """A page is damaged."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x77" * 64)


class Outcomes:
    """Collects the outcomes of staged parts, in the order in which they are told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.told: list[tuple[str, BaseException | None]] = []
        self._staged = 0
        self._news = trio.Event()

    def stage(
        self,
        name: str,
        writes: Sequence[Write] = (),
        events: Sequence[Event] = (),
        owner: Owner | None = None,
    ) -> None:
        def done(error: BaseException | None) -> None:
            self.told.append((name, error))
            self._news.set()
            self._news = trio.Event()

        self._staged += 1
        self.store.stage(writes, events, owner or Owner(), done)

    async def all(self) -> dict[str, BaseException | None]:
        with trio.fail_after(10):
            while len(self.told) < self._staged:
                await self._news.wait()
        return dict(self.told)


@contextmanager
def writer_held_up(path: Path) -> Iterator[None]:
    """Nothing can be committed in this block: another connection has the write lock."""
    connection = apsw.Connection(str(path))
    connection.execute("begin immediate")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()


@contextmanager
def transactions_counted(store: Store) -> Iterator[list[int]]:
    """The list grows by one with every transaction that is committed."""
    commits: list[int] = []

    def committing() -> bool:
        commits.append(1)
        return False

    connection = store._batch._connection
    connection.set_commit_hook(committing)
    yield commits
    connection.set_commit_hook(None)
