"""What a trio user expects of a trio library: threads, instruments, the task tree."""

from __future__ import annotations

import pytest
import trio
from protocols import Add, Counting, Total

from relay.actors import Actor, Context, Step, open_system


class Counter(Actor[Counting]):
    def __init__(self) -> None:
        self.total = 0

    async def handle(self, message: object, context: Context[Counting]) -> None:
        await trio.lowlevel.checkpoint()
        match message:
            case Add(amount):
                self.total += amount
            case Total():
                context.reply(message, self.total)


class Plain(Actor[Counting]):
    def handle(self, message: object, context: Context[Counting]) -> Step:
        if isinstance(message, Total):
            context.reply(message, 0)
        return None


async def test_threads_reach_actors_through_trio() -> None:
    async with open_system() as system:
        counter = await system.spawn(Counter)

        def elsewhere() -> int:
            trio.from_thread.run_sync(counter.tell, Add(3))
            return trio.from_thread.run(counter.ask, Total())

        assert await trio.to_thread.run_sync(elsewhere) == 3


@pytest.mark.parametrize("kind", [Counter, Plain])
async def test_a_thread_that_does_not_go_through_trio_is_told_to(kind: type[Actor[Counting]]) -> None:
    async with open_system() as system:
        counter = await system.spawn(kind)

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match=r"trio\.from_thread"):
                counter.tell(Add())

            async def ask() -> None:
                with pytest.raises(RuntimeError, match=r"trio\.from_thread"):
                    await counter.ask(Total())

            trio.run(ask)

        await trio.to_thread.run_sync(elsewhere)
        with trio.fail_after(5):
            assert await counter.ask(Total()) == 0
        assert system.fates.handled == 1


async def test_instruments_see_a_waiting_handler_under_the_name_of_its_actor() -> None:
    class Names(trio.abc.Instrument):
        def __init__(self) -> None:
            self.seen: set[str] = set()

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.seen.add(task.name)

    names = Names()
    async with open_system() as system:
        counter = await system.spawn(Counter, name="the-counter")
        trio.lowlevel.add_instrument(names)
        counter.tell(Add())
        await system.idle()
        trio.lowlevel.remove_instrument(names)
    assert "the-counter" in names.seen
