"""Cursors on the event log: what they see, from where, and what they are told when it is gone."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing
from storekit import Outcomes, event

from relay.actors import System
from relay.store import Event, Owner, Store, open_store
from relay.store._log import SLACK, TAIL_EVENTS


async def log_events(outcomes: Outcomes, count: int) -> None:
    for start in range(0, count, 500):
        outcomes.stage(
            f"{len(outcomes.told)}", (), [event(number) for number in range(start, min(start + 500, count))]
        )
    await outcomes.all()


async def test_a_reader_waits_for_what_is_new(store: Store, outcomes: Outcomes) -> None:
    read: list[list[int]] = []

    async def reader() -> None:
        read.append([logged.id for logged in await store.events.read_after(0)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        assert read == []
        outcomes.stage("a", (), [event(1), event(2)])
    assert read == [[1, 2], [1, 2]]


async def test_whoever_has_an_answer_can_read_its_event(store: Store) -> None:
    seen: list[int] = []
    told = trio.Event()

    def done(_: BaseException | None) -> None:
        seen.extend(logged.id for logged in store.events.since(0))
        told.set()

    store.stage((), (event(1),), Owner(), done)
    with trio.fail_after(5):
        await told.wait()
    assert seen == [1]


async def test_any_cursor_sees_what_comes_after_it(store: Store, outcomes: Outcomes) -> None:
    """From memory or from the table: a reader cannot tell."""
    count = TAIL_EVENTS + 700
    await log_events(outcomes, count)
    for cursor in (0, 1, 300, 699, 700, 701, 5_000, count - 1):
        expected = list(range(cursor + 1, min(cursor + 250, count) + 1))
        assert [logged.id for logged in await store.events.read_after(cursor, 250)] == expected
    assert store.events.since(count) == []
    assert store.events.since(count + 10) == []
    old, new = store.events.since(0, 1)[0], store.events.since(count - 1, 1)[0]
    assert (old.data, new.data) == (b'{"number":0}', b'{"number":%d}' % (count - 1))
    assert type(old) is type(new)


async def test_the_table_is_not_read_beyond_what_is_published(path: Path | None, system: System) -> None:
    """The writer commits before the loop hears of it."""
    async with open_store(path, system) as store:
        outcomes = Outcomes(store)
        await log_events(outcomes, 3)
        store.events._tail.clear()
        store.events.last_id = 2
        assert [logged.id for logged in store.events.since(0)] == [1, 2]


async def test_the_log_goes_on_where_it_ended(tmp_path: Path, system: System) -> None:
    for round_ in range(3):
        async with open_store(tmp_path / "relay.db", system) as store:
            assert store.events.last_id == round_ * 10
            await log_events(Outcomes(store), 10)
    async with open_store(tmp_path / "relay.db", system) as store:
        assert [logged.id for logged in store.events.since(5, 20)] == list(range(6, 26))


async def test_old_events_are_given_up(path: Path | None, system: System) -> None:
    keep = 500
    async with open_store(path, system, keep_events=keep) as store:
        outcomes = Outcomes(store)
        assert store.events.oldest_id == 1
        for _ in range(4):
            await log_events(outcomes, SLACK)
            oldest, last = store.events.oldest_id, store.events.last_id
            assert keep <= last - oldest + 1 <= keep + SLACK
            assert [logged.id for logged in store.events.since(0, 1)] == [oldest]
        assert store.events.oldest_id > 2_000
        outcomes.stage("behind the deletion")
        await outcomes.all()
        assert store.row("select min(id), max(id) from events") == (store.events.oldest_id, 4_000)
        assert store.check() == []
    if path is not None:
        async with open_store(path, system) as store:
            assert store.events.oldest_id > 2_000


async def test_a_read_holds_no_more_than_a_megabyte_or_one_event(store: Store, outcomes: Outcomes) -> None:
    """A listener that is slow holds what it has read for long."""
    for size in (400_000, 400_000, 400_000, 2_000_000, 10, 10):
        outcomes.stage(f"{len(outcomes.told)}", (), [Event("t", "s", None, b'"%s"' % (b"x" * size))])
    await outcomes.all()
    log = store.events
    for _ in ("from memory", "from the table"):
        assert [[logged.id for logged in log.since(cursor)] for cursor in (0, 2, 3, 4)] == [
            [1, 2],
            [3],
            [4],
            [5, 6],
        ]
        log._tail.clear()
