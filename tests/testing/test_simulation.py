"""Simulation: races, crashes and stalls are found, made simple, and found again."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

import attrs
import pytest
import trio

from relay.actors import Actor, Ask, Context, Step, Tell, open_system
from relay.testing import (
    Faults,
    HiddenNondeterminism,
    PropertyViolated,
    Sim,
    SimulationLeak,
    SimulationStalled,
    simulate,
)
from relay.testing._choices import Chance, Choices, Record
from relay.testing._explore import explore, run_once
from relay.testing._sim import Abandoned

NO_FAULTS = Faults()


class Account:
    """An account that leaves read and write to its clients."""


@attrs.frozen
class Read(Ask[Account, int]):
    pass


@attrs.frozen
class Write(Ask[Account, None]):
    value: int


@attrs.frozen
class Add(Tell[Account]):
    amount: int


class Bank(Actor[Account]):
    def __init__(self) -> None:
        self.value = 0

    def handle(self, message: Read | Write | Add, context: Context[Account]) -> Step:
        match message:
            case Read():
                context.reply(message, self.value)
            case Write(value):
                self.value = value
                context.reply(message, None)
            case Add(amount):
                self.value += amount
        return None


async def lost_update(sim: Sim) -> None:
    """Two clients add one each, by reading and writing: only some schedules lose an update."""
    async with open_system() as system:
        bank = await system.spawn(Bank, name="bank")

        async def deposit() -> None:
            value = await bank.ask(Read())
            await bank.ask(Write(value + 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(deposit)
            nursery.start_soon(deposit)
        value = await bank.ask(Read())
    assert value == 2


def test_a_race_is_found_made_simple_and_found_again() -> None:
    found = explore(lost_update, runs=100, faults=NO_FAULTS)
    assert found.failed is not None
    assert found.first is not None
    assert isinstance(found.failed.error, AssertionError)
    assert sum(found.failed.record) == 1, "one choice that is not tame is enough"
    assert found.seed is not None
    again = run_once(lost_update, Record(found.failed.record), faults=NO_FAULTS, seed=found.seed)
    assert again.log == found.failed.log
    assert isinstance(again.error, AssertionError)


def test_a_small_scenario_is_explored_in_every_way() -> None:
    orders: set[tuple[str, ...]] = set()

    async def scenario(sim: Sim) -> None:
        order: list[str] = []

        async def note(name: str) -> None:
            for _ in range(2):
                await trio.lowlevel.checkpoint()
                order.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "a")
            nursery.start_soon(note, "b")
        orders.add(tuple(order))

    found = explore(scenario, runs=10_000, faults=NO_FAULTS, exhaustive=True)
    assert found.failed is None
    assert found.runs < 10_000, "it came to the end of all ways"
    assert {("a", "b", "a", "b"), ("a", "b", "b", "a"), ("b", "a", "a", "b"), ("b", "a", "b", "a")} <= orders


def test_what_must_always_hold_is_checked_after_every_step() -> None:
    async def scenario(sim: Sim) -> None:
        banks: list[Bank] = []

        def make() -> Bank:
            banks.append(Bank())
            return banks[-1]

        sim.always(lambda: all(bank.value < 3 for bank in banks), "less than 3")
        async with open_system() as system:
            bank = await system.spawn(make, name="bank")
            for _ in range(4):
                bank.tell(Add(1))
            await system.idle()

    found = explore(scenario, runs=5, faults=NO_FAULTS)
    assert found.failed is not None
    assert isinstance(found.failed.error, PropertyViolated)
    assert str(found.failed.error) == "always: less than 3"


def test_what_happens_sometimes_must_happen_in_some_run() -> None:
    async def scenario(sim: Sim) -> None:
        happened = False
        sim.sometimes(lambda: happened, "the rare case")
        async with open_system() as system:
            bank = await system.spawn(Bank)
            happened = sim.choose(10) == 9 and rare
            bank.tell(Add(1))
            await system.idle()

    rare = True
    assert explore(scenario, runs=100, faults=NO_FAULTS).failed is None
    rare = False
    found = explore(scenario, runs=100, faults=NO_FAULTS)
    assert found.failed is not None
    assert str(found.failed.error) == "sometimes: the rare case; not once in 100 runs"


@pytest.mark.parametrize(("after", "kept"), [(5, True), (50, False)])
def test_what_must_hold_in_the_end_gets_its_time(after: float, kept: bool) -> None:
    async def scenario(sim: Sim) -> None:
        until = trio.current_time() + after
        sim.eventually(lambda: trio.current_time() >= until, within=20, name="time passes")

    found = explore(scenario, runs=2, faults=NO_FAULTS)
    assert (found.failed is None) is kept


@pytest.mark.parametrize(("after", "kept"), [(5, True), (50, False)])
def test_the_actors_go_on_until_what_must_hold_in_the_end_does(after: float, kept: bool) -> None:
    class Late(Bank):
        def started(self, context: Context[Account]) -> Step:
            context.set_timer("late", after, Add(1))
            return None

        def handle(self, message: Read | Write | Add, context: Context[Account]) -> Step:
            done.append(message)
            return None

    done: list[object] = []

    async def scenario(sim: Sim) -> None:
        done.clear()
        sim.eventually(lambda: bool(done), within=20, name="it is done")
        async with open_system() as system:
            await system.spawn(Late)

    found = explore(scenario, runs=2, faults=Faults(crash=1.0, most=1))
    assert (found.failed is None) is kept
    assert kept or isinstance(found.failed.error, PropertyViolated)  # type: ignore[union-attr]


def test_waiting_for_what_cannot_happen_is_an_error_that_shows_the_actors() -> None:
    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            await system.spawn(Bank, name="bank")
            await trio.sleep_forever()

    found = explore(scenario, runs=1, faults=NO_FAULTS)
    assert found.failed is not None
    assert isinstance(found.failed.error, SimulationStalled)
    assert "bank, running, mailbox 0/1000" in str(found.failed.error)


async def spin(sim: Sim) -> None:
    while True:
        await trio.lowlevel.checkpoint()


async def spin_shielded(sim: Sim) -> None:
    with trio.CancelScope(shield=True):
        await spin(sim)


async def spin_while_leaving(sim: Sim) -> None:
    async with open_system() as system:
        await system.spawn(Rearming, name="rearming")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(5):
                await system.idle()
                await spin(sim)


class Rearming(Actor[Account]):
    """Its timer keeps time from going on."""

    def started(self, context: Context[Account]) -> None:
        context.set_timer("again", 0, Add(0))

    def handle(self, message: Read | Write | Add, context: Context[Account]) -> None:
        context.set_timer("again", 0, Add(0))


async def retry_in_vain(sim: Sim) -> None:
    while True:
        await trio.sleep(1e-9)


async def raise_when_abandoned(sim: Sim) -> None:
    try:
        await spin_shielded(sim)
    except Abandoned:
        raise ValueError from None


@pytest.mark.parametrize(
    "scenario", [spin, spin_shielded, spin_while_leaving, retry_in_vain, raise_when_abandoned]
)
def test_a_run_without_an_end_is_ended_and_says_who_spins(scenario: Any) -> None:
    run = run_once(scenario, Record([]), faults=NO_FAULTS, most=5_000)
    assert isinstance(run.error, SimulationStalled)
    said = str(run.error)
    assert said.startswith("no end after 5000 steps")
    assert ("Timers.run" if scenario is spin_while_leaving else "main") in said


def test_a_simpler_schedule_that_does_not_end_is_no_failure_of_that_kind() -> None:
    chosen: list[tuple[int, int]] = []

    async def scenario(sim: Sim) -> None:
        chosen.append((sim.choose(4), sim.choose(50)))
        if chosen[-1][0] and not chosen[-1][1]:
            await spin(sim)
        assert not chosen[-1][0]

    found = explore(scenario, runs=20, faults=NO_FAULTS)
    assert found.failed is not None
    assert type(found.failed.error) is AssertionError
    assert any(first and not second for first, second in chosen), "some of those that were tried spin"
    run_once(scenario, Record(found.failed.record), faults=NO_FAULTS)
    assert all(chosen[-1])


def test_crashes_lose_what_was_not_kept_and_only_of_the_actors_they_are_for() -> None:
    totals: set[int] = set()

    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            safe = await system.spawn(Bank, name="safe")
            bank = await system.spawn(Bank, name="bank")
            for _ in range(3):
                bank.tell(Add(1))
                safe.tell(Add(1))
            await trio.sleep(10)
            totals.add(await bank.ask(Read()))
            assert await safe.ask(Read()) == 3

    found = explore(scenario, runs=200, faults=Faults(crash=0.1, only=("bank",)))
    assert found.failed is None
    assert totals == {0, 1, 2, 3}


def test_delays_losses_and_repeats_happen() -> None:
    seen: set[tuple[int, bool]] = set()

    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            bank = await system.spawn(Bank, name="bank")
            far = sim.unreliable(bank)
            for _ in range(2):
                far.tell(Add(1))
            before = trio.current_time()
            await system.idle()
            late = trio.current_time() > before
            seen.add((await bank.ask(Read()), late))

    explore(scenario, runs=300, faults=Faults(lose=0.2, duplicate=0.2, delay=0.2))
    assert {value for value, _ in seen} == {0, 1, 2, 3, 4}
    assert {late for _, late in seen} == {False, True}


def test_delays_are_only_for_the_actors_they_are_for() -> None:
    late: set[str] = set()

    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            for name in ("safe", "bank"):
                bank = await system.spawn(Bank, name=name)
                before = trio.current_time()
                await bank.ask(Read())
                late.update({name} if trio.current_time() > before else ())

    assert explore(scenario, runs=50, faults=Faults(delay=0.5, only=("bank",))).failed is None
    assert late == {"bank"}


@pytest.mark.parametrize("probability", [0.0, 0.001, 0.05, 0.3, 0.45, 0.5, 0.55, 0.7, 0.9, 0.999, 1.0])
def test_chance_is_as_probable_as_it_says(probability: float) -> None:
    choices = Choices(Chance(1))
    number = 20_000
    happened = sum(choices.chance(probability) for _ in range(number))
    likely = 4 * (number * probability * (1 - probability)) ** 0.5
    assert abs(happened - number * probability) <= likely
    again = Choices(Record(choices.record))
    assert sum(again.chance(probability) for _ in range(number)) == happened
    assert again.record == choices.record
    assert not any(Choices(Record([])).chance(probability) for _ in range(9)) or probability == 1


@pytest.mark.parametrize("most", [0, 3, 100])
def test_what_is_certain_always_fails_until_there_were_enough_faults(most: int) -> None:
    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            failed = [system.fault("store.commit") for _ in range(10)]
        assert failed == [number < most for number in range(10)]
        assert not system.fault("another")

    assert explore(scenario, runs=10, faults=Faults(named={"store.commit": 1.0}, most=most)).failed is None


@pytest.mark.parametrize("wrong", [-0.1, 1.1, 5.0, float("nan")])
@pytest.mark.parametrize("name", ["crash", "delay", "lose", "duplicate", "named"])
def test_what_is_no_probability_is_refused(name: str, wrong: float) -> None:
    faults: dict[str, Any] = {name: {"store.commit": wrong} if name == "named" else wrong}
    with pytest.raises(ValueError, match=f"{name}.* is a probability"):
        Faults(**faults)


def test_an_exhaustive_search_tries_a_fault_and_its_absence() -> None:
    seen: list[bool] = []

    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            seen.append(system.fault("rare"))

    faults = Faults(named={"rare": 0.0001})
    explore(scenario, runs=1_000, faults=faults, exhaustive=True)
    assert set(seen) == {False, True}


def test_what_comes_from_outside_is_found_by_running_twice() -> None:
    source = random.Random()

    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            banks = [await system.spawn(Bank, name=f"bank-{number}") for number in range(20)]
            for bank in source.sample(banks, 20):
                bank.tell(Add(1))
            await system.idle()

    found = explore(scenario, runs=1, faults=NO_FAULTS)
    assert found.failed is not None
    assert isinstance(found.failed.error, HiddenNondeterminism)
    assert "at step" in str(found.failed.error)


class Thinking(Actor[Account]):
    """Takes no virtual time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def handle(self, message: Read | Write | Add, context: Context[Account]) -> None:
        await trio.lowlevel.checkpoint()
        until = perf_counter() + self.seconds
        while perf_counter() < until:
            pass


def test_a_failure_that_does_not_repeat_itself_is_no_schedule_to_be_shown() -> None:
    runs = 0

    async def scenario(sim: Sim) -> None:
        nonlocal runs
        runs += 1
        assert runs != 7

    found = explore(scenario, runs=20, faults=NO_FAULTS)
    assert found.failed is not None
    assert isinstance(found.failed.error, HiddenNondeterminism)
    assert isinstance(found.failed.error.__cause__, AssertionError)
    assert "one came to AssertionError" in str(found.failed.error)
    assert runs == 8, "noise is not made simpler"


def test_a_simpler_schedule_that_fails_by_luck_is_not_shown() -> None:
    failures = 0

    async def scenario(sim: Sim) -> None:
        nonlocal failures
        if sim.choose(1000):
            failures += 1
            assert failures > 2, "the run and its repetition fail"

    found = explore(scenario, runs=20, faults=NO_FAULTS)
    assert found.failed is not None
    assert isinstance(found.failed.error, HiddenNondeterminism)


def test_choices_beside_the_actors_that_are_not_the_same_again_are_noticed() -> None:
    runs = 0

    async def scenario(sim: Sim) -> None:
        nonlocal runs
        runs += 1
        for _ in range(runs):
            sim.choose(2)

    for exhaustive in (False, True):
        found = explore(scenario, runs=20, faults=NO_FAULTS, exhaustive=exhaustive)
        assert found.failed is not None
        assert isinstance(found.failed.error, HiddenNondeterminism)


def test_an_exhaustive_search_notices_that_it_came_to_another_choice() -> None:
    runs = 0

    async def scenario(sim: Sim) -> None:
        nonlocal runs
        runs += 1
        sim.choose(3 if runs < 4 else 2)
        sim.choose(2)

    found = explore(scenario, runs=100, faults=NO_FAULTS, exhaustive=True)
    assert found.failed is not None
    assert isinstance(found.failed.error, HiddenNondeterminism)
    assert "another choice than before" in str(found.failed.error)


def test_the_chance_of_the_random_module_is_that_of_the_run() -> None:
    drawn: list[float] = []

    async def scenario(sim: Sim) -> None:
        drawn.append(random.random())
        assert drawn[-1] < 0.9

    random.seed(3)
    expected = random.random()
    random.seed(3)
    found = explore(scenario, runs=100, faults=NO_FAULTS)
    assert random.random() == expected, "outside nothing has changed"
    assert found.failed is not None
    assert type(found.failed.error) is AssertionError
    assert len(set(drawn)) == found.runs, "each run has its own"
    assert found.seed is not None
    again = run_once(scenario, Record(found.failed.record), faults=NO_FAULTS, seed=found.seed)
    assert type(again.error) is AssertionError


def test_how_long_a_handler_really_takes_does_not_matter() -> None:
    seconds = 0.0

    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            busy = [await system.spawn(Thinking, seconds) for _ in range(2)]
            for _ in range(5):
                for actor in busy:
                    actor.tell(Add(1))
            await system.idle()

    for source in (Record([]), Chance(1)):
        seconds = 0.0
        quick = run_once(scenario, source, faults=NO_FAULTS)
        seconds = 0.002
        slow = run_once(scenario, Record(quick.record), faults=NO_FAULTS)
        assert (quick.log, quick.record) == (slow.log, slow.record)


def reach_for_a_socket() -> None:
    socket.socket()


def reach_for_a_file() -> None:
    Path(__file__).read_text()


def reach_for_a_thread() -> None:
    threading.Thread(target=print).start()


@pytest.mark.parametrize("reach", [reach_for_a_socket, reach_for_a_file, reach_for_a_thread])
def test_what_is_real_is_refused_where_it_is_reached_for(reach: object) -> None:
    async def scenario(sim: Sim) -> None:
        assert callable(reach)
        reach()

    run = run_once(scenario, Record([]), faults=NO_FAULTS)
    assert isinstance(run.error, SimulationLeak)
    names = []
    traceback = run.error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert getattr(reach, "__name__", "") in names
    reach_for_a_file()  # outside, nothing is refused


def test_ids_jitter_and_wall_time_are_the_runs_own() -> None:
    ids: list[str] = []

    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            before = system.wall()
            sim.jump_wall(3600)
            assert system.wall() - before == 3600
            ids.append(system.new_id("x"))

    for _ in range(2):
        run_once(scenario, Record([]), faults=NO_FAULTS, seed=7)
    run_once(scenario, Record([]), faults=NO_FAULTS, seed=8)
    assert ids[0] == ids[1] != ids[2]


async def scenario_with_fixture(sim: Sim, number: int) -> None:
    assert number == 3


@pytest.fixture
def number() -> int:
    return 3


@simulate(runs=3)
async def test_the_decorator_makes_a_test_that_may_use_fixtures(sim: Sim, number: int) -> None:
    assert number == 3
    async with open_system() as system:
        await system.spawn(Bank)
