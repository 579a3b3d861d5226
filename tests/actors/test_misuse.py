"""What was set up wrongly is refused at once, by a message that says what to do; the block always ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from relay.actors import (
    Actor,
    Ask,
    Bounds,
    Child,
    Context,
    Exit,
    Refusal,
    Step,
    Supervision,
    Supervisor,
    System,
    Tell,
    open_system,
)


class Doing:
    """The protocol of everybody here."""


@attrs.frozen
class Do(Tell[Doing]):
    what: str = ""


@attrs.frozen
class Get(Ask[Doing, str]):
    what: str = ""


class Doer(Actor[Doing]):
    def __init__(self, key: object = None) -> None:
        self.done: list[str] = []

    def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
        match message:
            case Do():
                self.done.append(message.what)
            case Get():
                context.reply(message, ",".join(self.done))
        return None


def wrong(value: object) -> Any:
    """For what no type checker lets through."""
    return value


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Supervision(restarts=-1), "restarts"),
        (lambda: Supervision(within=0), "within"),
        (lambda: Supervision(backoff=-0.1), "backoff"),
        (lambda: Supervision(backoff_limit=-1), "backoff_limit"),
        (lambda: Supervision(jitter=1.5), "jitter"),
        (lambda: Supervision(stop_budget=-1), "stop_budget"),
        (lambda: Supervision(restart=wrong("temporary")), "restart"),
        (lambda: Bounds(capacity=0), "capacity"),
        (lambda: Bounds(overflow=wrong("reject")), "overflow"),
        (lambda: Supervisor([], wrong("one_for_all")), "Strategy"),
        (lambda: Supervisor([], auto_shutdown=wrong("never")), "AutoShutdown"),
        (lambda: Supervisor([], budget=wrong(3)), "Supervision"),
        (lambda: Supervisor([wrong(Doer)]), "Child"),
        (lambda: Child(wrong(Doer())), "the class and its arguments"),
        (lambda: Child(Doer, stop_budget=-1), "stop_budget"),
        (lambda: Child(Doer, bounds=wrong(10)), "Bounds"),
    ],
)
def test_what_is_made_wrongly_is_refused_where_it_is_made(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        make()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"supervision": "one_for_one"}, "Supervision"),
        ({"bounds": 10}, "Bounds"),
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": 7}, "name"),
    ],
)
async def test_a_spawn_that_is_asked_for_wrongly_starts_nothing(
    system: System, given: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        await system.spawn(Doer, **given)
    if "name" not in given or given["name"] != 7:
        with pytest.raises((TypeError, ValueError), match=complaint):
            system.family(Doer, **given)
    assert system.snapshot() == []


async def test_an_actor_instead_of_its_class_is_refused(system: System) -> None:
    with pytest.raises(TypeError, match=r"spawn\(Doer, \.\.\.\)"):
        await system.spawn(wrong(Doer()))
    with pytest.raises(TypeError, match="cannot be called"):
        await system.spawn(wrong("Doer"))
    with pytest.raises(ValueError, match="idle"):
        system.family(Doer, idle=-1)


async def test_a_block_that_is_opened_wrongly_is_refused() -> None:
    with pytest.raises(ValueError, match="drain"):
        async with open_system(drain=-1):
            pass  # pragma: no cover


async def test_a_coroutine_instead_of_its_function_is_refused(system: System) -> None:
    class Starting(Doer):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            coroutine = trio.sleep(0)
            try:
                context.start_soon(wrong(coroutine))
            finally:
                coroutine.close()
            return None

    ref = await system.spawn(Starting, supervision=Supervision(restarts=1, backoff=0))
    ref.tell(Do())
    await system.idle()
    (failed,) = system.failures
    assert "start_soon(sleep, ...)" in str(failed.error)
    system.failures.clear()


async def test_a_handler_that_returns_a_value_is_told_how_to_answer(system: System) -> None:
    class Returning(Doer):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            return wrong("the answer")  # type: ignore[no-any-return]

    ref = await system.spawn(Returning, supervision=Supervision(restarts=1, backoff=0))
    ref.tell(Do())
    await system.idle()
    (failed,) = system.failures
    assert "Returning returned 'the answer'" in str(failed.error)
    assert "context.reply" in str(failed.error)
    system.failures.clear()


async def test_an_actor_without_a_handler_is_refused_at_spawn(system: System) -> None:
    class Silent(Actor[Doing]):
        pass

    with pytest.raises(TypeError, match=r"Silent.*Do, Get"):
        await system.spawn(Silent)


@pytest.mark.keeps_failures
async def test_answering_another_message_fails_the_handler(system: System) -> None:
    class Confused(Doer):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            context.reply(Get(), "for somebody else")
            return None

    ref = await system.spawn(Confused)
    ref.tell(Do())
    await system.idle()
    assert "is not what is being handled" in str(system.failures[0].error)


@pytest.mark.keeps_failures
async def test_a_message_told_and_refused_has_one_fate_and_is_on_record(system: System) -> None:
    class Refusing(Doer):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            raise Refusal("not today")

    ref = await system.spawn(Refusing)
    ref.tell(Do("x"))
    await system.idle()
    assert (system.fates.handled, system.fates.undelivered) == (0, 1)
    (letter,) = system.dead_letters
    assert (letter.message, letter.reason) == (Do("x"), "refused: not today")
    system.dead_letters.clear()


async def test_who_is_watched_is_told_by_identity_and_not_by_text(system: System) -> None:
    """A key of a family may hold a slash, so another actor may go by the same text."""
    exits: list[Exit] = []

    class Watching(Doer):
        async def handle(self, message: Do | Get, context: Context[Doing]) -> None:  # type: ignore[override]
            match message:
                case Do("exit"):
                    pass
                case Do():
                    child = await context.spawn(Doer, name="child")
                    context.watch(child, self.noted)
                case Get():
                    context.reply(message, "")

        def noted(self, exit_: Exit) -> Do:
            exits.append(exit_)
            return Do("exit")

    members = system.family(Watching, name="members")
    members["a"].tell(Do("watch"))
    await members["a"].ask(Get())
    await members["a/child"].ask(Get())
    (info,) = [info for info in system.snapshot() if info.address == "members/a"]
    assert info.children[0].address == "members/a/child"
    await system.stop(members["a/child"])
    await system.idle()
    assert exits == []
    assert members["a/child"] == members["a/child"]
    assert len({members["a/child"], members["a/child"], members["a"]}) == 2


async def test_leaving_the_block_waits_for_what_is_piped(autojump_clock: MockClock) -> None:
    """Its outcome is a message to come."""
    got: list[str] = []

    class Fetching(Doer):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            match message:
                case Do("fetch"):
                    context.pipe(self.fetch, then=Do, failed=lambda error: Do(str(error)))
                case Do():
                    got.append(message.what)
            return None

        async def fetch(self) -> str:
            await trio.sleep(2)
            return "page"

    async with open_system() as system:
        ref = await system.spawn(Fetching)
        ref.tell(Do("fetch"))
    assert got == ["page"]
    assert trio.current_time() < 3
    async with open_system(drain=1) as system:
        ref = await system.spawn(Fetching)
        ref.tell(Do("fetch"))
    assert got == ["page"], "the drain's limit stands"
