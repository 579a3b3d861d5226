"""Handlers that ask: inherited deadlines, and circles of waits that are errors instead of hangs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from relay.actors import (
    Actor,
    ActorFailed,
    Ask,
    Bounds,
    Context,
    DeadlineExpired,
    DeadlockError,
    Family,
    Ref,
    System,
    Tell,
    open_system,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


class Asking:
    """Actors that ask each other along a path."""


@attrs.frozen
class Along(Ask[Asking, str]):
    """Ask the next of `path` the same; the answer is who was asked."""

    path: tuple[str, ...]


@attrs.frozen
class Do(Ask[Asking, object]):
    """Run something inside the handler."""

    work: Callable[[Context[Asking]], Awaitable[object]]


@attrs.frozen
class Note(Tell[Asking]):
    pass


class Asker(Actor[Asking]):
    def __init__(self, others: dict[str, Ref[Asking]], log: list[str]) -> None:
        self.others = others
        self.log = log

    async def handle(self, message: Along | Do | Note, context: Context[Asking]) -> None:  # type: ignore[override]
        match message:
            case Along(path=()):
                context.reply(message, context.self_ref.address)
            case Along(path=(name, *rest)):
                answer = await self.others[name].ask(Along(tuple(rest)))
                context.reply(message, f"{context.self_ref.address} {answer}")
            case Do(work=work):
                context.reply(message, await work(context))
            case Note():
                self.log.append(context.self_ref.address)


class World:
    def __init__(self, system: System) -> None:
        self.system = system
        self.others: dict[str, Ref[Asking]] = {}
        self.log: list[str] = []

    async def spawn(self, *names: str, bounds: Bounds | None = None) -> list[Ref[Asking]]:
        for name in names:
            self.others[name] = await self.system.spawn(
                Asker, self.others, self.log, name=name, bounds=bounds
            )
        return [self.others[name] for name in names]


@pytest.fixture(params=[True, False], ids=["inline", "queued"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with open_system(inline=request.param) as system:
        yield World(system)


async def test_handlers_may_ask_each_other(autojump_clock: MockClock, world: World) -> None:
    [a, *_] = await world.spawn("a", "b", "c")
    assert await a.ask(Along(("b", "c"))) == "a b c"


@pytest.mark.parametrize("path", [("a",), ("b", "a"), ("b", "c", "b"), ("b", "c", "a")])
async def test_a_circle_of_asks_is_an_error_that_names_it(
    autojump_clock: MockClock, world: World, path: tuple[str, ...]
) -> None:
    [a, *_] = await world.spawn("a", "b", "c")

    with trio.fail_after(1), pytest.raises(ActorFailed) as failed:
        await a.ask(Along(path))

    cause: BaseException | None = failed.value
    while cause is not None and not isinstance(cause, DeadlockError):
        cause = cause.__cause__
    assert cause is not None
    names = [step.split(" ")[0] for step in str(cause).split(" -> ")]
    assert names[0] == names[-1]
    assert "(Along)" in str(cause)
    assert await world.others[path[-1]].ask(Along(())) == path[-1], "everybody goes on"


async def test_waiting_for_room_may_close_a_circle_too(autojump_clock: MockClock, world: World) -> None:
    [a] = await world.spawn("a", bounds=Bounds(capacity=1))
    [b] = await world.spawn("b")

    async def fill(context: Context[Asking]) -> object:
        a.tell(Note())
        with pytest.raises(DeadlockError, match=r"b .Do. -> a .Do. -> b"):
            await a.send(Note())
        return "told"

    async def ask_b(context: Context[Asking]) -> object:
        return await b.ask(Do(fill))

    with trio.fail_after(1):
        assert await a.ask(Do(ask_b)) == "told"


async def test_two_that_ask_the_same_third_are_no_circle(autojump_clock: MockClock, world: World) -> None:
    a, b, _ = await world.spawn("a", "b", "c")

    async def pause(context: Context[Asking]) -> object:
        await trio.sleep(1)
        return None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.others["c"].ask, Do(pause))
        nursery.start_soon(a.ask, Along(("c",)))
        nursery.start_soon(b.ask, Along(("c",)))


async def test_what_a_handler_asks_inherits_the_deadline(autojump_clock: MockClock, world: World) -> None:
    a, b = await world.spawn("a", "b")

    async def pause(context: Context[Asking]) -> object:
        await trio.sleep(10)
        return None

    async def note(context: Context[Asking]) -> object:
        world.log.append("cost work")
        return None

    async def ask_b(context: Context[Asking]) -> object:
        return await b.ask(Do(note))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.ask, Do(pause))
        await trio.sleep(1)
        with pytest.raises(trio.TooSlowError), trio.fail_after(3):
            await a.ask(Do(ask_b))
    await world.system.idle()
    assert world.log == [], "nobody waited for it any more when b came to it"
    assert world.system.fates.abandoned == 1, "whoever asked left in time"
    assert not world.system.failures, "an asker that is late is no reason for a restart"


async def test_a_deadline_of_its_own_that_passes_is_a_failure(
    autojump_clock: MockClock, world: World
) -> None:
    [a] = await world.spawn("a")

    async def late(context: Context[Asking]) -> object:
        raise DeadlineExpired("of something else")

    with pytest.raises(ActorFailed):
        await a.ask(Do(late))


async def test_a_task_that_its_handler_left_behind_waits_for_itself_alone(
    autojump_clock: MockClock, world: World
) -> None:
    [a] = await world.spawn("a")
    answers: list[str] = []

    async def ask_a() -> None:
        await trio.sleep(1)
        answers.append(await a.ask(Along(())))

    async with trio.open_nursery() as nursery:

        async def leave(context: Context[Asking]) -> object:
            nursery.start_soon(ask_a)
            context.start_soon(ask_a)
            return None

        await a.ask(Do(leave))
    await trio.sleep(2)
    assert answers == ["a", "a"]


async def test_actors_do_not_see_the_context_variables_of_their_askers(autojump_clock: MockClock) -> None:
    colour = ContextVar("colour", default="none")
    colour.set("of the block")
    async with open_system() as system:
        colour.set("of the asker")

        async def look(context: Context[Asking]) -> object:
            return colour.get()

        [a] = await World(system).spawn("a")
        assert await a.ask(Do(look)) == "of the block"


async def test_hooks_do_not_see_the_context_variables_of_who_spawns(autojump_clock: MockClock) -> None:
    colour = ContextVar("colour", default="none")
    seen: list[str] = []

    class Looking(Actor[Asking]):
        async def started(self, context: Context[Asking]) -> None:  # type: ignore[override]
            seen.append(colour.get())

        def handle(self, message: object, context: Context[Asking]) -> None: ...

    colour.set("of the block")
    async with open_system() as system:
        colour.set("of the spawner")
        await system.spawn(Looking)
    assert seen == ["of the block"]


async def test_a_member_of_a_family_may_be_part_of_a_circle(autojump_clock: MockClock, world: World) -> None:
    family: Family[str, Asking] = world.system.family(lambda key: Asker(world.others, world.log), name="f")
    world.others["member"] = family["one"]
    [a] = await world.spawn("a")
    with trio.fail_after(1), pytest.raises(ActorFailed):
        await a.ask(Along(("member", "a")))
