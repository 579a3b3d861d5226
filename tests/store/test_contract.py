"""What every engine promises of parts, transactions, ids and pressure."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
import trio
import trio.testing
from storekit import Outcomes, event, kept, lost_fence, put, transactions_counted
from trio.testing import MockClock

from relay.actors import System, open_system, virtual_wall
from relay.store import Conflict, Event, Owner, Store, StoreError, StoreFailed, Superseded, Write, open_store
from relay.store.sqlite import BATCH_PARTS, MOST_BYTES, MOST_PARTS


async def test_a_part_is_told_when_it_can_be_read(store: Store) -> None:
    seen: list[set[str]] = []
    told = trio.Event()

    def done(error: BaseException | None) -> None:
        assert error is None
        seen.append(kept(store))
        assert store.events.since(0)[0].type == "counted"
        told.set()

    store.stage((put("a"), put("b")), (event(1),), Owner(), done)
    assert kept(store) == set()
    assert store.events.since(0) == []
    with trio.fail_after(5):
        await told.wait()
    assert seen == [{"a", "b"}]


async def test_outcomes_are_told_in_the_order_of_staging(store: Store, outcomes: Outcomes) -> None:
    for number in range(1_500):
        outcomes.stage(str(number), [put(str(number))] if number % 7 else [lost_fence()])
        if number % 100 == 0:
            await trio.lowlevel.checkpoint()
    await outcomes.all()
    assert [int(name) for name, _ in outcomes.told] == list(range(1_500))
    assert kept(store) == {str(number) for number in range(1_500) if number % 7}


async def test_many_parts_share_one_transaction(store: Store, outcomes: Outcomes) -> None:
    with transactions_counted(store) as commits:
        for number in range(3 * BATCH_PARTS):
            outcomes.stage(str(number), [put(str(number))])
        await outcomes.all()
    assert 3 <= len(commits) <= 10


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (lost_fence(), Conflict),
        (Write("insert into meta (key, value) values ('taken', '')"), apsw.ConstraintError),
        (Write("insert into no_such_table values (1)"), apsw.SQLError),
        (Write("insert into meta (key, value) values (?, ?)", ("object", object())), TypeError),
        (Write("insert into meta (key, value) values ('big', ?)", (2**70,)), OverflowError),
        (Write("insert into meta (key, value) values ('half a pair', ?)", ("\ud800",)), UnicodeEncodeError),
    ],
    ids=["fence", "constraint", "sql", "type", "range", "text"],
)
async def test_a_part_that_fails_is_undone_alone(
    store: Store, outcomes: Outcomes, broken: Write, expected: type[Exception]
) -> None:
    outcomes.stage("before", [put("taken")], [event(1)])
    outcomes.stage("broken", [put("half"), broken], [event(2)])
    outcomes.stage("after", [put("after")], [event(3)])
    told = await outcomes.all()
    assert (told["before"], told["after"]) == (None, None)
    assert isinstance(told["broken"], expected)
    assert kept(store) == {"taken", "after"}
    assert [logged.data for logged in store.events.since(0)] == [b'{"number":1}', b'{"number":3}']
    assert [logged.id for logged in store.events.since(0)] == [1, 2]


async def test_an_event_of_a_write_that_changed_nothing_is_not_told(store: Store, outcomes: Outcomes) -> None:
    """And takes no id."""
    for name in ("first", "again", "other"):
        key = "its own" if name == "other" else "shared"
        write = Write("insert or ignore into meta (key, value) values (?, ?)", (key, name))
        outcomes.stage(
            name, [put(name), write], [event(1), Event("kept", "test", name, {}, of=write), event(2)]
        )
    elsewhere = Event("kept", "test", None, {}, of=put("elsewhere"))
    outcomes.stage("odd", [put("odd")], [elsewhere])
    told = await outcomes.all()
    assert isinstance(told["odd"], ValueError)
    logged = store.events.since(0)
    assert [each.subject for each in logged if each.type == "kept"] == ["first", "other"]
    assert [each.id for each in logged] == list(range(1, 9))


async def test_an_event_that_is_no_json_fails_its_part(store: Store, outcomes: Outcomes) -> None:
    outcomes.stage("odd", [put("odd")], [event(1), Event("odd", "test", None, {"value": object()})])
    outcomes.stage("even", [put("even")], [event(2)])
    told = await outcomes.all()
    assert isinstance(told["odd"], TypeError)
    assert told["even"] is None
    assert kept(store) == {"even"}
    assert [(logged.id, logged.data) for logged in store.events.since(0)] == [(1, b'{"number":2}')]


async def test_an_event_that_cannot_be_stored_takes_its_id_back(store: Store, outcomes: Outcomes) -> None:
    outcomes.stage("odd", [put("odd")], [event(1), Event("odd", "test", "\ud800", {})])
    outcomes.stage("even", [put("even")], [event(2)])
    told = await outcomes.all()
    assert isinstance(told["odd"], UnicodeEncodeError)
    assert kept(store) == {"even"}
    assert [(logged.id, logged.data) for logged in store.events.since(0)] == [(1, b'{"number":2}')]


async def test_an_event_is_what_it_was_when_it_was_staged(store: Store, outcomes: Outcomes) -> None:
    data = {"number": 1}
    outcomes.stage("a", (), [Event("counted", "test", "it", data)])
    data["number"] = 2
    await outcomes.all()
    (logged,) = store.events.since(0)
    assert (logged.data, logged.subject) == (b'{"number":1}', "it")


async def test_after_a_failure_nothing_more_is_taken_from_its_owner(store: Store, outcomes: Outcomes) -> None:
    unlucky, other = Owner(), Owner()
    outcomes.stage("first", [put("first")], owner=unlucky)
    outcomes.stage("fails", [lost_fence()], owner=unlucky)
    outcomes.stage("behind", [put("behind")], owner=unlucky)
    outcomes.stage("other", [put("other")], owner=other)
    told = await outcomes.all()
    outcomes.stage("later", [put("later")], owner=unlucky)
    told = await outcomes.all()
    assert told["first"] is None
    assert isinstance(told["fails"], Conflict)
    assert unlucky.failed is told["fails"]
    assert isinstance(told["behind"], Superseded)
    assert isinstance(told["later"], Superseded)
    assert other.failed is None
    assert kept(store) == {"first", "other"}


async def test_a_commit_that_fails_fails_its_whole_batch(store: Store, outcomes: Outcomes) -> None:
    outcomes.stage("before", [put("before")], [event(1)])
    await outcomes.all()
    connection = store._batch._connection
    connection.set_commit_hook(lambda: True)
    owners = [Owner(), Owner()]
    for number, owner in enumerate(owners):
        outcomes.stage(f"fails {number}", [put(str(number))], [event(2)], owner)
    told = await outcomes.all()
    connection.set_commit_hook(None)
    assert all(isinstance(told[f"fails {number}"], StoreFailed) for number in (0, 1))
    assert all(isinstance(owner.failed, StoreFailed) for owner in owners)
    outcomes.stage("behind", [put("behind")], [event(3)], owners[0])
    outcomes.stage("after", [put("after")], [event(4)])
    told = await outcomes.all()
    assert isinstance(told["behind"], Superseded)
    assert told["after"] is None
    assert kept(store) == {"before", "after"}
    assert [(logged.id, logged.data) for logged in store.events.since(0)] == [
        (1, b'{"number":1}'),
        (2, b'{"number":4}'),
    ]


async def test_a_full_disk_fails_what_does_not_fit_and_nothing_else(store: Store, outcomes: Outcomes) -> None:
    connection = store._batch._connection
    pages = connection.pragma("page_count")
    connection.pragma("max_page_count", pages + 5)
    outcomes.stage("large", [put("large", "x" * 1_000_000)], [event(1)])
    assert isinstance((await outcomes.all())["large"], (StoreError, apsw.FullError))
    assert kept(store) == set()
    connection.pragma("max_page_count", pages + 5_000)
    outcomes.stage("large again", [put("large", "x" * 1_000_000)], [event(2)])
    assert (await outcomes.all())["large again"] is None
    assert [logged.id for logged in store.events.since(0)] == [1]


async def test_the_gate_is_closed_while_too_many_parts_are_staged(store: Store, outcomes: Outcomes) -> None:
    for number in range(MOST_PARTS):
        outcomes.stage(str(number), [put(str(number))])
    assert not store.gate.closed
    outcomes.stage("one too many")
    assert store.gate.closed
    opened_at: list[int] = []
    with trio.fail_after(10):
        while store.gate.closed:
            await trio.lowlevel.checkpoint()
        opened_at.append(len(outcomes.told))
    assert opened_at[0] >= MOST_PARTS // 2
    await outcomes.all()


@pytest.mark.parametrize("where", ["writes", "events"])
async def test_the_gate_is_closed_while_too_many_bytes_are_staged(
    store: Store, outcomes: Outcomes, where: str
) -> None:
    half = "x" * (MOST_BYTES // 2)
    for number in range(2):
        assert not store.gate.closed
        if where == "writes":
            outcomes.stage(str(number), [put(str(number), half)])
        else:
            outcomes.stage(str(number), (), [Event("large", "test", None, {"text": half})])
    assert store.gate.closed
    assert await outcomes.all() == {"0": None, "1": None}
    assert not store.gate.closed


async def test_numbers_only_grow(store: Store, outcomes: Outcomes) -> None:
    assert [store.next_id("messages") for _ in range(3)] == [1, 2, 3]
    assert store.next_id("activity") == 1
    assert store.next_id("commands") == 1


async def test_the_moment_of_an_event_is_the_systems(
    mock_clock: MockClock, store: Store, outcomes: Outcomes, system: System
) -> None:
    mock_clock.jump(12.345)
    outcomes.stage("a", (), [event(1)])
    await outcomes.all()
    assert store.events.since(0)[0].at == round(system.wall() * 1000)


async def test_a_sound_database_has_nothing_to_report(store: Store, outcomes: Outcomes) -> None:
    outcomes.stage("a", [put("a")], [event(1), event(2), event(3)])
    await outcomes.all()
    assert store.check() == []
    outcomes.stage("b", [Write("delete from events where id = 2")])
    await outcomes.all()
    assert store.check() == ["the event log has a gap"]


async def test_leaving_the_block_commits_what_is_staged(path: Path | None, system: System) -> None:
    told: list[BaseException | None] = []
    async with open_store(path, system) as store:
        for number in range(1_000):
            store.stage((put(str(number)),), (), Owner(), told.append)
    assert told == [None] * 1_000


async def test_a_store_that_is_closed_refuses(path: Path | None, system: System) -> None:
    told: list[BaseException | None] = []
    async with open_store(path, system) as store:
        pass
    store.stage((put("late"),), (), Owner(), told.append)
    assert told == []
    await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in told] == [StoreFailed]


async def test_a_callback_that_raises_ends_the_store_and_hides_no_outcome(
    path: Path | None, system: System
) -> None:
    told: list[BaseException | None] = []

    def broken(_: BaseException | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(StoreFailed, match="ZeroDivisionError"), trio.CancelScope() as limit:
        async with open_store(path, system) as store:
            store.stage((put("a"),), (), Owner(), broken)
            store.stage((put("b"),), (), Owner(), told.append)
            limit.deadline = trio.current_time() + 5
            await trio.sleep_forever()
    assert not limit.cancel_called
    assert len(told) == 1


async def test_a_writer_that_dies_ends_the_block_and_leaves_nobody_waiting(
    path: Path | None, system: System
) -> None:
    """Not even the rollback is possible: its connection is gone."""
    told: list[BaseException | None] = []
    with pytest.raises(StoreFailed, match="closed") as raised, trio.CancelScope() as limit:
        async with open_store(path, system) as store:
            store._batch._connection.close()
            for _ in range(10):
                store.stage((put("a"),), (), Owner(), told.append)
            with trio.CancelScope(shield=True), trio.fail_after(5):
                while len(told) < 10:
                    await trio.sleep(0.001)
            store.stage((put("a"),), (), Owner(), told.append)
            limit.deadline = trio.current_time() + 5
            await trio.sleep_forever()
    assert not limit.cancel_called
    assert isinstance(raised.value.__cause__, apsw.ConnectionClosedError)
    await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in told] == [StoreFailed] * 11


async def test_an_error_of_the_block_is_raised_as_it_is(path: Path | None, system: System) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_store(path, system):
            raise ZeroDivisionError


def test_the_in_process_engine_repeats_itself() -> None:
    async def run() -> list[tuple[int, int, bytes]]:
        async with open_system(wall=virtual_wall(), seed=1) as system, open_store(None, system) as store:
            outcomes = Outcomes(store)
            for number in range(100):
                fails = [lost_fence()] if system.random.random() < 0.3 else []
                outcomes.stage(str(number), fails, [event(number)])
                await trio.sleep(system.random.random() * 10)
            await outcomes.all()
            return [(logged.id, logged.at, logged.data) for logged in store.events.since(0)]

    runs = [trio.run(run, clock=MockClock(autojump_threshold=0)) for _ in range(3)]
    assert 50 < len(runs[0]) < 90
    assert runs[0] == runs[1] == runs[2]
