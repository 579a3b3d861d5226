"""Durable actors: nothing leaves before its commit, and a failed commit never became true."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from relay.actors import Actor, ActorFailed, Ask, Context, Ref, Step, System, Tell, open_system, virtual_wall
from relay.store import Conflict, Decision, Durable, Event, Store, StoreFailed, Write, open_store


class Account:
    """An account whose balance is a row of `meta`."""


@attrs.frozen
class Deposit(Ask[Account, int]):
    amount: int
    note: str = ""


@attrs.frozen
class DepositAndWait(Deposit):
    """The same, by a handler that waits for the commit."""


@attrs.frozen
class Balance(Ask[Account, int]):
    pass


@attrs.frozen
class Break(Ask[Account, int]):
    """A decision that breaks a constraint when it is committed."""


@attrs.frozen
class Fenced(Ask[Account, str]):
    """A decision behind a fence that is lost, made by a handler that waits for it."""


class Heard:
    """What an observer hears."""


@attrs.frozen
class Changed(Tell[Heard]):
    balance: int


class Teller(Durable[Account]):
    def __init__(self, store: Store, observer: Ref[Heard]) -> None:
        super().__init__(store)
        row = store.row("select value from meta where key = 'balance'")
        self.balance = int(row[0]) if row else 0
        self.observer = observer

    def handle(self, message: object, context: Context[Account]) -> Step:
        match message:
            case DepositAndWait(amount=amount, note=note):
                return self._deposit(message, self._record(amount, note), context)
            case Deposit(amount=amount, note=note):
                decision = self._record(amount, note)
                self.balance += amount
                self.settle(message, decision, context)
            case Balance():
                self.settle(message, Decision(reply=self.balance), context)
            case Break():
                self.balance = -1
                write = Write("insert into meta (key, value) values (null, null), ('balance', 'x')")
                self.settle(message, Decision(reply=0, writes=(write, write)), context)
            case Fenced():
                return self._fenced(message, context)
        return None

    async def _deposit(self, message: Deposit, decision: Decision[int], context: Context[Account]) -> None:
        self.balance = await self.commit(decision, context)
        context.reply(message, self.balance)

    def _record(self, amount: int = 0, note: str = "") -> Decision[int]:
        balance = self.balance + amount
        sql = "insert or replace into meta (key, value) values (?, ?)"
        writes = tuple(Write(sql, pair) for pair in (("balance", str(balance)), ("note", note)))
        event = Event("balance.changed", "teller", None, {"balance": balance})
        return Decision(
            reply=balance, writes=writes, events=(event,), tells=((self.observer, Changed(balance)),)
        )

    async def _fenced(self, message: Fenced, context: Context[Account]) -> None:
        lost = Write("update meta set value = value where key = 'no such fence'", (), 1)
        try:
            await self.commit(Decision(reply=None, writes=(*self._record().writes, lost)), context)
        except Conflict:
            context.reply(message, "lost")


class Observer(Actor[Heard]):
    def __init__(self, store: Store, heard: list[tuple[int, int]]) -> None:
        self.store = store
        self.heard = heard

    def handle(self, message: Changed, context: Context[Heard]) -> Step:
        row = self.store.row("select value from meta where key = 'balance'")
        self.heard.append((message.balance, int(row[0]) if row else 0))
        return None


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system(wall=virtual_wall()) as system:
        yield system


@pytest.fixture(params=["file", "in-process"])
async def store(request: pytest.FixtureRequest, system: System, tmp_path: Path) -> AsyncIterator[Store]:
    path = tmp_path / "relay.db" if request.param == "file" else None
    async with open_store(path, system) as store:
        yield store


@pytest.fixture
def heard() -> list[tuple[int, int]]:
    return []


@pytest.fixture
async def teller(system: System, store: Store, heard: list[tuple[int, int]]) -> AsyncIterator[Ref[Account]]:
    observer = await system.spawn(Observer, store, heard)
    teller = await system.spawn(Teller, store, observer)
    yield teller
    await system.stop(teller)


async def test_answers_come_after_their_commit_and_in_order(
    system: System, teller: Ref[Account], store: Store, heard: list[tuple[int, int]]
) -> None:
    answers: list[int] = []

    async def deposit() -> None:
        answer = await teller.ask(Deposit(1))
        row = store.row("select value from meta where key = 'balance'")
        assert row is not None
        assert int(row[0]) >= answer, "an answer that is not durable yet"
        answers.append(answer)

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(deposit)
    assert sorted(answers) == list(range(1, 201))
    assert await teller.ask(Balance()) == 200
    await system.idle()
    assert [told for told, _ in heard] == list(range(1, 201))
    assert all(stored >= told for told, stored in heard), "a message that left before its commit"
    assert store.events.last_id == 200


async def test_an_answer_that_changes_nothing_does_not_overtake_what_it_was_derived_from(
    teller: Ref[Account], store: Store
) -> None:
    async def deposit() -> None:
        await teller.ask(Deposit(5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deposit)
        await trio.lowlevel.checkpoint()
        assert await teller.ask(Balance()) in {0, 5}
        row = store.row("select value from meta where key = 'balance'")
        assert row is None or int(row[0]) == 5


async def test_a_failed_commit_fails_its_asker_and_what_was_staged_behind_it(
    teller: Ref[Account], store: Store
) -> None:
    """The state that a failed decision left behind is never seen by anybody."""
    await teller.ask(Deposit(10))
    failed: list[type[Exception]] = []

    async def ask(message: Break | Deposit) -> None:
        try:
            await teller.ask(message)
        except ActorFailed as error:
            failed.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, Break())
        nursery.start_soon(ask, Deposit(1))
    assert ActorFailed in failed
    with trio.fail_after(5):
        assert await teller.ask(Balance()) in {10, 11}
    assert store.row("select value from meta where key = 'balance'") in {("10",), ("11",)}


@pytest.mark.parametrize("deposit", [Deposit(7), DepositAndWait(7)], ids=["settled", "awaited"])
async def test_a_full_disk_costs_an_actor_nothing_but_its_answers(
    system: System, teller: Ref[Account], store: Store, deposit: Deposit | DepositAndWait
) -> None:
    assert await teller.ask(Deposit(3)) == 3
    connection = store._batch._connection
    before = connection.pragma("max_page_count")
    connection.pragma("max_page_count", connection.pragma("page_count"))
    for _ in range(12):
        with pytest.raises(ActorFailed) as failed:
            await teller.ask(attrs.evolve(deposit, note="x" * 100_000))
        assert isinstance(failed.value.__cause__, StoreFailed)
    connection.pragma("max_page_count", before)
    assert await teller.ask(Deposit(7)) == 10, "it began anew from what is durable, each time"


async def test_a_lost_fence_undoes_the_whole_decision_and_nothing_else(
    teller: Ref[Account], store: Store
) -> None:
    await teller.ask(Deposit(3))
    assert await teller.ask(Fenced()) == "lost"
    assert await teller.ask(Deposit(4)) == 7
    assert store.events.last_id == 2


async def test_the_in_process_engine_runs_under_a_mock_clock(autojump_clock: MockClock) -> None:
    async def run() -> list[int]:
        async with open_system(wall=virtual_wall(), seed=3) as system, open_store(None, system) as store:
            observer = await system.spawn(Observer, store, [])
            teller = await system.spawn(Teller, store, observer)
            answers = []
            for amount in range(20):
                answers.append(await teller.ask(Deposit(amount)))
                await trio.sleep(1)
            await system.stop(teller)
            return answers

    assert await run() == await run()
