"""Durable decisions: an actor whose decisions share transactions, against a transaction for each.

A decision is a message of 500 bytes and its event, answered when it is synced to disk (WAL, synchronous=FULL, relay's own
schema). relay is one durable actor that all writers ask. The baseline writes the same rows in a transaction per
decision, in a worker thread, as one does with a connection and a lock. The disk is that of RELAY_BENCH_DIR, else of the
system's temporary files.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import apsw
import attrs
import orjson
import trio
from _interleaved import interleaved
from rows import Row

from relay.actors import Ask, Context, open_system
from relay.store import Decision, Durable, Event, Write, open_store

SECONDS = 0.5
WRITERS = (1, 10, 100, 1_000)
BODY = "x" * 300
MESSAGE = "insert into messages (id, sender, address, kind, thread_id, record, created_at) values (?, ?, ?, ?, ?, ?, ?)"
EVENT = "insert into events (id, at, type, source, subject, data) values (?, ?, ?, ?, ?, ?)"

Decide = Callable[[], Awaitable[object]]


def message(number: int) -> tuple[object, ...]:
    record = orjson.dumps({"id": number, "from": "a", "to": "b", "body": BODY, "padding": "y" * 140}).decode()
    return (number, "a", "b", "chat", number, record, 1_700_000_000_000)


def event(number: int) -> Event:
    return Event("message.new", "a", str(number), {"messageId": number, "from": "a", "to": "b"})


class Posting:
    """Messages of the post office."""


@attrs.frozen
class Post(Ask[Posting, int]):
    pass


class PostOffice(Durable[Posting]):
    def handle(self, post: Post, context: Context[Posting]) -> None:
        number = self.store.next_id("messages")
        write = Write(MESSAGE, message(number))
        self.settle(post, Decision(reply=number, writes=(write,), events=(event(number),)), context)


@asynccontextmanager
async def relay(path: Path) -> AsyncIterator[Decide]:
    async with open_system() as system, open_store(path, system) as store:
        office = await system.spawn(PostOffice, store)

        async def decide() -> int:
            return await office.ask(Post())

        yield decide
        await system.stop(office)


@asynccontextmanager
async def one_each(path: Path) -> AsyncIterator[Decide]:
    async with open_system() as system, open_store(path, system):
        pass  # the schema
    connection = apsw.Connection(str(path))
    connection.execute("pragma synchronous = full").fetchall()
    numbers = iter(range(1, 10**9))
    limiter = trio.CapacityLimiter(1)

    def write() -> None:
        number = next(numbers)
        made = event(number)
        with connection:
            connection.execute(MESSAGE, message(number))
            row = (number, 0, made.type, made.source, made.subject, orjson.dumps(made.data).decode())
            connection.execute(EVENT, row)

    async def decide() -> None:
        await trio.to_thread.run_sync(write, limiter=limiter)

    yield decide
    connection.close()


async def sample(opened, writers: int) -> float:
    """Decisions per second."""
    decided = 0

    async def writer(decide: Decide) -> None:
        nonlocal decided
        while perf_counter() < end:
            await decide()
            decided += 1

    with TemporaryDirectory(prefix="relay-bench-", dir=os.environ.get("RELAY_BENCH_DIR")) as folder:
        path = Path(folder) / "relay.db"
        async with opened(path) as decide:
            start = perf_counter()
            end = start + SECONDS
            async with trio.open_nursery() as nursery:
                for _ in range(writers):
                    nursery.start_soon(writer, decide)
            elapsed = perf_counter() - start
        check(path, decided)
    return decided / elapsed


def check(path: Path, decided: int) -> None:
    connection = apsw.Connection(str(path))
    for table in ("messages", "events"):
        assert connection.execute(f"select count(*) from {table}").fetchall() == [(decided,)]
    connection.close()


def rows() -> Iterator[Row]:
    for writers in WRITERS:
        systems = {
            "relay": partial(sample, relay, writers),
            "one tx each": partial(sample, one_each, writers),
        }
        yield from interleaved("store", f"durable, {writers} at once", "decisions/s", systems)
