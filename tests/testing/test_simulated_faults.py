"""Faults come throughout a run, networks let messages overtake each other, and a defect is no fault."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
import trio

from relay.actors import Actor, ActorError, Ask, Context, Ref, Reply, Supervision, Tell, open_system
from relay.testing import ActorsFailed, Faults, Sim
from relay.testing._choices import Chance, Record
from relay.testing._explore import explore
from relay.testing._run import run_once

PATIENT = Supervision(restarts=1000, backoff=0.01)


class Noting:
    """What those who take notes understand."""


@attrs.frozen
class Note(Tell[Noting]):
    number: int


@attrs.frozen
class Divide(Ask[Noting, int]):
    by: int


class Notes(Actor[Noting]):
    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def handle(self, message: Note | Divide, context: Context[Noting]) -> None:
        match message:
            case Note(number):
                self.seen.append(number)
            case Divide(by):
                context.reply(message, 1 // by)


def test_faults_are_spread_over_a_long_run() -> None:
    when: list[int] = []
    number = 0

    async def scenario(sim: Sim) -> None:
        nonlocal number
        async with open_system() as system:
            notes = await system.spawn(Notes, [], supervision=PATIENT)
            for number in range(200):
                notes.tell(Note(number))
                before = len(system.failures)
                await trio.sleep(1)
                when.extend([number] * (len(system.failures) - before))

    assert explore(scenario, runs=60, faults=Faults(crash=0.05)).failed is None
    thirds = Counter(number * 3 // 200 for number in when)
    assert min(thirds.values()) > 30, thirds


def test_what_is_late_is_overtaken_and_repeats_come_late() -> None:
    seen: list[tuple[int, ...]] = []

    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            got: list[int] = []
            notes = await system.spawn(Notes, got)
            far = sim.unreliable(notes)
            for number in range(4):
                far.tell(Note(number))
                await trio.sleep(1)
            await trio.sleep(100)
            seen.append(tuple(got))

    assert explore(scenario, runs=300, faults=Faults(duplicate=0.2, delay=0.2, only=())).failed is None
    first = [tuple(dict.fromkeys(numbers)) for numbers in seen]
    assert (0, 1, 2, 3) in seen
    assert any(numbers != (0, 1, 2, 3) for numbers in first), "one is overtaken"
    assert any(
        len(numbers) == 5 and numbers[at] == numbers[-1] for numbers in seen for at in range(len(numbers) - 2)
    ), "a repeat comes after others"


def test_a_late_message_to_who_is_gone_is_lost() -> None:
    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            notes = await system.spawn(Notes, [])
            sim.unreliable(notes).tell(Note(1))
            await system.stop(notes)
            await trio.sleep(100)

    assert run_once(scenario, Record([]), faults=Faults(delay=1.0, only=())).error is None


async def divide_by_zero(sim: Sim) -> None:
    async with open_system() as system:
        notes = await system.spawn(Notes, [], name="notes")
        try:
            await notes.ask(Divide(0))
        except ActorError:
            pass


def test_an_actor_that_fails_by_itself_fails_the_run() -> None:
    error = run_once(divide_by_zero, Record([]), faults=Faults()).error
    assert isinstance(error, ActorsFailed)
    assert "notes failed: ZeroDivisionError" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_a_failure_may_be_taken_or_kept() -> None:
    async def taken(sim: Sim) -> None:
        async with open_system() as system:
            notes = await system.spawn(Notes, [])
            with pytest.raises(ActorError):
                await notes.ask(Divide(0))
            assert isinstance(system.failures.popleft().error, ZeroDivisionError)

    assert explore(taken, runs=5, faults=Faults()).failed is None
    assert explore(divide_by_zero, runs=5, faults=Faults(), keeps_failures=True).failed is None


class Slow(Actor[Noting]):
    def handle(self, message: Note | Divide, context: Context[Noting]) -> None:
        if isinstance(message, Divide):
            slot = context.defer(message)
            context.start_soon(self._answer, slot)

    async def _answer(self, slot: Reply[int]) -> None:
        await trio.sleep(1)
        slot.set(1)


class Asking(Actor[Noting]):
    def __init__(self, other: Ref[Noting]) -> None:
        self.other = other

    async def handle(self, message: Note | Divide, context: Context[Noting]) -> None:  # type: ignore[override]
        await self.other.ask(Divide(1))


def test_a_consequence_of_a_fault_is_no_defect() -> None:
    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            slow = await system.spawn(Slow, name="slow", supervision=PATIENT)
            asking = await system.spawn(Asking, slow, name="asking", supervision=PATIENT)
            for number in range(5):
                asking.tell(Note(number))
                await trio.sleep(0.5)
                slow.tell(Note(number))
                await trio.sleep(1.5)
            failed.update(one.address for one in system.failures)

    failed: set[str] = set()
    assert explore(scenario, runs=50, faults=Faults(crash=0.1, only=("slow",))).failed is None
    assert failed == {"slow", "asking"}


def test_a_defect_beside_a_fault_is_found() -> None:
    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            notes = await system.spawn(Notes, [], name="notes", supervision=PATIENT)
            notes.tell(Note(1))
            await trio.sleep(1)
            if system.failures:
                try:
                    await notes.ask(Divide(0))
                except ActorError:
                    pass

    found = explore(scenario, runs=50, faults=Faults(crash=0.2))
    assert found.failed is not None
    assert isinstance(found.failed.error, ActorsFailed)


def test_the_same_faults_are_found_in_a_replay() -> None:
    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            notes = await system.spawn(Notes, [], name="notes", supervision=PATIENT)
            far = sim.unreliable(notes)
            for number in range(20):
                far.tell(Note(number))
                await trio.sleep(1)

    faults = Faults(crash=0.2, delay=0.2, duplicate=0.2, lose=0.2)
    for seed in range(20):
        one = run_once(scenario, Chance(seed), faults=faults, exposure=30.0)
        again = run_once(scenario, Record(one.record), faults=faults)
        assert (one.log, one.record) == (again.log, again.record)
