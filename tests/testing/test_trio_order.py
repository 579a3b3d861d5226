"""The canary: trio's order of tasks is still ours to choose."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from relay.testing._choices import Chance, Choices, Record, decode, encode
from relay.testing._trio import interrupt, ordered_by


def order(choices: Choices) -> list[int]:
    seen: list[int] = []

    async def note(number: int) -> None:
        for _ in range(3):
            seen.append(number)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(note, number)

    with ordered_by(choices):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    return seen


def test_the_tame_order_is_that_of_creation() -> None:
    assert order(Choices(Record([]))) == [0, 1, 2, 3] * 3


def test_choices_decide_the_order_and_repeat_it() -> None:
    orders = set()
    for seed in range(30):
        choices = Choices(Chance(seed))
        seen = order(choices)
        orders.add(tuple(seen))
        assert order(Choices(Record(choices.record))) == seen
    assert len(orders) > 20


def test_outside_the_block_trio_is_as_it_was() -> None:
    run = vars(trio._core._run)
    before = run["_r"], run["_ALLOW_DETERMINISTIC_SCHEDULING"]
    order(Choices(Record([])))
    assert (run["_r"], run["_ALLOW_DETERMINISTIC_SCHEDULING"]) == before


def test_a_task_is_interrupted_where_it_stands() -> None:
    seen: list[str] = []

    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            try:
                while True:
                    await trio.lowlevel.checkpoint()
            except KeyError:
                seen.append("interrupted")

    def before(batch: Sequence[trio.lowlevel.Task]) -> None:
        for task in batch:
            if task.name.endswith("shielded"):
                interrupt(task, KeyError())
                seen.append("interrupts")

    with ordered_by(Choices(Record([])), before):
        trio.run(shielded, clock=MockClock())
    assert seen[-1] == "interrupted"
    assert len(seen) <= 3


def test_a_record_is_a_word() -> None:
    record = [0, 3, 0, 0, 12, 1, 0, 0]
    assert decode(encode(record)) == record[:-2]
    assert decode(encode([])) == []
    assert set(encode(record)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    with pytest.raises(ValueError, match="not the record of a run"):
        decode("nonsense")
