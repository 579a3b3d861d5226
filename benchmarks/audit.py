"""The chain of the audit: what a record costs with and without it, and verifying it.

The same records go into the same schema, in transactions of 100 as under load; the baseline has no trigger that links them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import apsw
from _interleaved import interleaved
from rows import Row

from relay.store._migrations import migrate
from relay.store.chain import verify

RECORDS, AT_ONCE = 10_000, 100
INSERT = (
    "insert or ignore into activity (id, client_id, kind, view, agent_id, message_id, record, created_at)"
    " values (?, ?, 'message', 'messages', 'a1', ?, ?, 1700000000000)"
)
RECORD = '{"id":%d,"clientId":"server-message-%d","kind":"message","title":"message from a1 to a2","createdAt":1700000000000}'


async def sample(*, chained: bool, verifying: bool = False) -> float:
    """Microseconds for a record: to write it, or to verify it."""
    with TemporaryDirectory(prefix="relay-bench-", dir=os.environ.get("RELAY_BENCH_DIR")) as folder:
        with closing(apsw.Connection(str(Path(folder) / "relay.db"))) as connection:
            connection.execute("pragma journal_mode = wal").fetchall()
            connection.execute("pragma synchronous = full").fetchall()
            migrate(connection)
            if not chained:
                connection.execute("drop trigger activity_is_linked")
            start = perf_counter()
            write(connection)
            elapsed = perf_counter() - start
            if verifying:
                elapsed = verified(connection)
    return elapsed / RECORDS * 1e6


def write(connection: apsw.Connection) -> None:
    for first in range(1, RECORDS + 1, AT_ONCE):
        with connection:
            for number in range(first, first + AT_ONCE):
                text = RECORD % (number, number)
                connection.execute(INSERT, (number, f"server-message-{number}", number, text))


def verified(connection: apsw.Connection) -> float:
    def read(sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return connection.execute(sql, params).fetchall()

    start = perf_counter()
    verdict = verify(read)
    elapsed = perf_counter() - start
    assert verdict.ok
    assert verdict.records == RECORDS
    return elapsed


def rows() -> Iterator[Row]:
    systems = {"relay": partial(sample, chained=True), "unlinked": partial(sample, chained=False)}
    yield from interleaved("audit", "a record, 100 at once", "µs", systems)
    yield from interleaved(
        "audit", "verifying a record", "µs", {"relay": partial(sample, chained=True, verifying=True)}
    )
