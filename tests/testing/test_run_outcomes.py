"""What a run comes to: failures of every kind, what is about the whole test, and runs without an end."""

from __future__ import annotations

import os
from typing import Any
from unittest import SkipTest

import attrs
import pytest
import trio

from relay.actors import Actor, Ask, Context, Tell, open_system
from relay.testing import Faults, HiddenNondeterminism, Sim, SimulationStalled
from relay.testing._choices import Chance, Priorities, Record
from relay.testing._explore import Exploration, explore
from relay.testing._run import run_once
from relay.testing._sim import MOST_STEPS

NO_FAULTS = Faults()


class Account:
    """What the keeper understands."""


@attrs.frozen
class Balance(Ask[Account, int]):
    pass


@attrs.frozen
class Add(Tell[Account]):
    what: object


class Keeper(Actor[Account]):
    def handle(self, message: Balance | Add, context: Context[Account]) -> None:
        if isinstance(message, Balance):
            context.reply(message, 0)


def search(scenario: Any, runs: int = 100, **more: Any) -> Exploration:
    return explore(scenario, runs=runs, faults=NO_FAULTS, **more)


async def raises_nothing(sim: Sim) -> None:
    if sim.choose(3) == 2:
        with pytest.raises(ValueError):
            pass


async def fails(sim: Sim) -> None:
    if sim.choose(3) == 2:
        pytest.fail("no")


async def fails_in_a_task(sim: Sim) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, sim)
        nursery.start_soon(trio.sleep, 1)


@pytest.mark.parametrize("scenario", [raises_nothing, fails, fails_in_a_task])
def test_what_pytest_fails_is_a_failure_like_any_other(scenario: Any) -> None:
    found = search(scenario)
    assert found.failed is not None
    assert isinstance(found.failed.error, pytest.fail.Exception)
    assert sum(map(bool, found.failed.record)) == 1
    again = run_once(scenario, Record(found.failed.record), faults=NO_FAULTS)
    assert isinstance(again.error, pytest.fail.Exception)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(
    "outcome",
    [pytest.skip.Exception("s"), pytest.xfail.Exception("x"), SkipTest(), KeyboardInterrupt(), SystemExit(1)],
    ids=repr,
)
def test_what_is_about_the_whole_test_comes_out_bare(outcome: BaseException, within: bool) -> None:
    async def raising() -> None:
        raise outcome

    async def scenario(sim: Sim) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            if within:
                nursery.start_soon(raising)
            else:
                await raising()

    with pytest.raises(type(outcome)) as raised:
        search(scenario)
    assert raised.value is outcome


async def poll(sim: Sim) -> None:
    async with open_system() as system:
        keeper = await system.spawn(Keeper, name="keeper")
        while await keeper.ask(Balance()) != 5:
            pass


@pytest.mark.parametrize("source", [Record([]), Chance(1)])
def test_asking_for_ever_has_an_end(source: Any) -> None:
    run = run_once(poll, source, faults=NO_FAULTS, most=5_000)
    assert isinstance(run.error, SimulationStalled)
    assert "keeper" in str(run.error)


def test_a_run_without_an_end_is_made_once_and_not_made_simpler() -> None:
    runs = 0

    async def scenario(sim: Sim) -> None:
        nonlocal runs
        runs += 1
        if runs < 3 or not sim.choose(2):
            return
        while True:
            await trio.lowlevel.checkpoint()

    found = search(scenario, most=5_000)
    assert found.failed is not None
    assert isinstance(found.failed.error, SimulationStalled)
    assert runs == found.runs + 2, "two runs without a failure were repeated"
    assert MOST_STEPS >= 5_000


def test_also_later_runs_are_made_twice() -> None:
    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            keepers = [await system.spawn(Keeper, name=name) for name in "abcd"]
            if sim.choose(2):
                keepers[os.urandom(1)[0] % 4].tell(Add(1))
            await system.idle()

    found = search(scenario)
    assert found.failed is not None
    assert isinstance(found.failed.error, HiddenNondeterminism)
    assert found.runs > 1


def test_messages_that_differ_in_what_they_say_are_different() -> None:
    async def scenario(sim: Sim) -> None:
        async with open_system() as system:
            keeper = await system.spawn(Keeper, name="keeper")
            keeper.tell(Add(os.urandom(8).hex()))

    found = search(scenario, runs=1)
    assert found.failed is not None
    assert isinstance(found.failed.error, HiddenNondeterminism)
    assert "keeper Add(what=" in str(found.failed.error)


class Plain:
    """Its repr holds its address."""


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("kind", [Plain, Unspeakable, object])
def test_addresses_of_objects_are_no_difference(kind: type) -> None:
    kept: list[object] = []

    async def scenario(sim: Sim) -> None:
        kept.append(kind())
        async with open_system() as system:
            keeper = await system.spawn(Keeper, name="keeper")
            keeper.tell(Add(kept[-1]))

    assert search(scenario, runs=12).failed is None


def test_what_is_counted_is_the_search() -> None:
    async def scenario(sim: Sim) -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert sim.choose(10) != 7

    found = search(scenario)
    assert found.failed is not None
    assert 11 * found.runs < found.steps < 60 * found.runs
    assert found.seconds > 0


def test_priorities_change_anywhere_in_a_run() -> None:
    late = 0
    for seed in range(100):
        source = Priorities(seed, picks=3_000)
        order = [source.pick(["a", "b", "c"]) for _ in range(3_000)]
        changes = [at for at in range(1, 3_000) if order[at] != order[at - 1]]
        late += any(at > 1_500 for at in changes)
    assert late > 30


def test_priorities_are_drawn_for_runs_as_long_as_those_before() -> None:
    """The others are overtaken late in a run that has far more decisions than any fixed number."""

    async def scenario(sim: Sim) -> None:
        done: list[str] = []

        async def step(name: str) -> None:
            for _ in range(600):
                await trio.lowlevel.checkpoint()
                done.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(step, "a")
            nursery.start_soon(step, "b")
        lengths.add(sim._choices.picks)
        seen.append("".join(done))

    seen: list[str] = []
    lengths: set[int] = set()
    assert search(scenario, runs=31).failed is None
    assert min(lengths) > 550
    flips = [[at for at in range(1, 600) if text[2 * at] != text[2 * at - 2]] for text in seen]
    assert any(0 < len(one) < 5 and one[-1] > 520 for one in flips), "beyond what was once fixed"
