"""What must hold always is looked at after every step, what must hold in the end at the moment it does."""

from __future__ import annotations

import attrs
import pytest
import trio

from relay.actors import Actor, Context, Tell, open_system
from relay.testing import Faults, PropertyViolated, Sim
from relay.testing._choices import Record
from relay.testing._explore import explore
from relay.testing._run import Run, run_once


class Counting:
    """What the counter understands."""


@attrs.frozen
class Count(Tell[Counting]):
    pass


class Counter(Actor[Counting]):
    def __init__(self, box: list[int]) -> None:
        self.box = box

    async def handle(self, message: Count, context: Context[Counting]) -> None:  # type: ignore[override]
        await trio.sleep(1)
        self.box[0] = 1
        await trio.sleep(1)
        self.box[0] = 0


def run(scenario: object) -> Run:
    return run_once(scenario, Record([]), faults=Faults())  # type: ignore[arg-type]


def test_a_state_that_an_async_handler_leaves_again_is_seen() -> None:
    seen: list[str] = []

    async def scenario(sim: Sim) -> None:
        box = [0]
        sim.sometimes(lambda: box[0] == 1, "it is one")
        if seen:
            sim.always(lambda: box[0] == 0, "it is zero")
        async with open_system() as system:
            counter = await system.spawn(Counter, box)
            counter.tell(Count())
            await trio.sleep(5)

    assert run(scenario).seen == {"it is one"}
    seen.append("now with what must hold")
    error = run(scenario).error
    assert isinstance(error, PropertyViolated)
    assert str(error) == "always: it is zero"


def test_a_state_between_two_tasks_of_one_moment_is_seen() -> None:
    async def scenario(sim: Sim) -> None:
        box = [0]
        sim.always(lambda: box[0] == 0, "it is zero")

        async def put(value: int) -> None:
            box[0] = value

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, 1)
            nursery.start_soon(put, 0)

    assert isinstance(run(scenario).error, PropertyViolated)


def test_a_property_that_fails_itself_fails_the_run() -> None:
    async def scenario(sim: Sim) -> None:
        sim.always(lambda: 1 // 0 == 1)
        await trio.sleep(1)

    assert isinstance(run(scenario).error, ZeroDivisionError)


def test_what_holds_in_the_end_for_a_moment_has_held() -> None:
    async def scenario(sim: Sim) -> None:
        box = [0]
        sim.eventually(lambda: box[0] == 1, within=1_000, name="it is one")
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                await trio.sleep(5)
                box[0] = 1
                await trio.sleep(1)
                box[0] = 0

            nursery.start_soon(change)
            async with open_system() as system:
                await system.spawn(Counter, box)

    assert run(scenario).error is None


@pytest.mark.parametrize(("within", "missed"), [(10, "two, within 10 s"), (30, None)])
def test_each_of_what_must_hold_in_the_end_has_its_own_time(within: float, missed: str | None) -> None:
    async def scenario(sim: Sim) -> None:
        began = trio.current_time()
        sim.eventually(lambda: trio.current_time() >= began + 5, within=8, name="one")
        sim.eventually(lambda: trio.current_time() >= began + 20, within=within, name="two")

    error = run(scenario).error
    assert str(error) == (f"eventually: {missed}" if missed else "None")


def test_nobody_waits_longer_than_it_takes() -> None:
    ended: list[float] = []

    async def scenario(sim: Sim) -> None:
        box = [0]
        sim.eventually(lambda: box[0] == 1, within=1_000)
        began = trio.current_time()
        async with open_system() as system:
            counter = await system.spawn(Counter, box)
            counter.tell(Count())
        ended.append(trio.current_time() - began)

    assert explore(scenario, runs=3, faults=Faults()).failed is None
    assert all(seconds < 10 for seconds in ended)
