"""Being told when somebody has stopped, and what became of work in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

from relay.actors import Actor, Context, Exit, Ref, Restart, Step, Supervision, System, Tell, open_system

if TYPE_CHECKING:
    from trio.testing import MockClock


class Watching:
    """Whoever watches."""


@attrs.frozen
class Watch(Tell[Watching]):
    target: Ref[Any]
    note: str = ""


@attrs.frozen
class Unwatch(Tell[Watching]):
    target: Ref[Any]


@attrs.frozen
class Gone(Tell[Watching]):
    exit: Exit
    note: str


@attrs.frozen
class Fetch(Tell[Watching]):
    function: Callable[[], Any]
    guarded: bool = True


@attrs.frozen
class Fetched(Tell[Watching]):
    outcome: object


@attrs.frozen
class Crash(Tell[Watching]):
    pass


class Watcher(Actor[Watching]):
    def __init__(self, log: list[object]) -> None:
        self.log = log

    def handle(self, message: object, context: Context[Watching]) -> Step:
        match message:
            case Watch(target=target, note=note):
                context.watch(target, lambda exit_: Gone(exit_, note))
            case Unwatch(target=target):
                context.unwatch(target)
            case Fetch(function=function, guarded=guarded):
                context.pipe(function, then=Fetched, failed=Fetched if guarded else None)
            case Crash():
                raise ValueError("as told")
            case _:
                self.log.append(message)
        return None


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


@pytest.fixture
def log() -> list[object]:
    return []


@pytest.fixture
async def watcher(system: System, log: list[object]) -> Ref[Watching]:
    return await system.spawn(Watcher, log, name="watcher")


@pytest.fixture
async def target(system: System, watcher: Ref[Watching]) -> Ref[Watching]:
    return await system.spawn(Watcher, [], name="target")


async def test_a_stop_is_told_once(
    autojump_clock: MockClock,
    system: System,
    watcher: Ref[Watching],
    target: Ref[Watching],
    log: list[object],
) -> None:
    watcher.tell(Watch(target, "first"))
    watcher.tell(Watch(target, "second"))
    await system.idle()
    await system.stop(target)
    await system.idle()
    assert log == [Gone(Exit("target"), "second")], "watching again replaces"


async def test_watching_who_has_stopped_is_told_at_once(
    autojump_clock: MockClock,
    system: System,
    watcher: Ref[Watching],
    target: Ref[Watching],
    log: list[object],
) -> None:
    await system.stop(target)
    watcher.tell(Watch(target))
    await system.idle()
    assert log == [Gone(Exit("target"), "")]


async def test_a_restart_is_no_stop_and_giving_up_is(
    autojump_clock: MockClock, system: System, watcher: Ref[Watching], log: list[object]
) -> None:
    frail = await system.spawn(Watcher, [], name="frail", supervision=Supervision(restart=Restart.TEMPORARY))
    hardy = await system.spawn(Watcher, [], name="hardy")
    for ref in (frail, hardy):
        watcher.tell(Watch(ref))
    await system.idle()
    for ref in (frail, hardy):
        ref.tell(Crash())
    await trio.sleep(10)
    [gone] = log
    assert isinstance(gone, Gone)
    assert gone.exit.address == "frail"
    assert isinstance(gone.exit.error, ValueError)
    assert len(system.failures) == 2, "also a failure that is not followed by a restart is on record"


async def test_a_watch_can_be_ended_and_ends_with_its_incarnation(
    autojump_clock: MockClock,
    system: System,
    watcher: Ref[Watching],
    target: Ref[Watching],
    log: list[object],
) -> None:
    other = await system.spawn(Watcher, [], name="other")
    watcher.tell(Watch(target))
    watcher.tell(Unwatch(target))
    watcher.tell(Unwatch(target))
    await system.idle()
    await system.stop(target)
    watcher.tell(Watch(other))
    watcher.tell(Crash())
    await trio.sleep(10)
    await system.stop(other)
    await system.idle()
    assert log == []


async def test_falling_asleep_is_no_stop(
    autojump_clock: MockClock, system: System, watcher: Ref[Watching], log: list[object]
) -> None:
    family = system.family(
        lambda _: Watcher([]), name="f", idle=10, supervision=Supervision(restarts=0, within=60)
    )
    watcher.tell(Watch(family["a"]))
    await trio.sleep(100)
    assert not len(family)
    assert log == []
    family["a"].tell(Crash())
    await trio.sleep(1)
    [gone] = log
    assert isinstance(gone, Gone)
    assert gone.exit.address == "f/a"


async def test_an_outcome_comes_as_a_message(
    autojump_clock: MockClock, system: System, watcher: Ref[Watching], log: list[object]
) -> None:
    async def fetch() -> int:
        await trio.sleep(5)
        return 7

    async def fail() -> int:
        raise KeyError("nothing there")

    watcher.tell(Fetch(fetch))
    watcher.tell(Fetch(fail))
    await trio.sleep(10)
    [failed, fetched] = log
    assert isinstance(failed, Fetched)
    assert isinstance(failed.outcome, KeyError)
    assert fetched == Fetched(7)


async def test_without_a_word_on_failures_they_fail_the_actor(
    autojump_clock: MockClock, system: System, watcher: Ref[Watching], log: list[object]
) -> None:
    async def fail() -> int:
        raise KeyError("nothing there")

    watcher.tell(Fetch(fail, guarded=False))
    await trio.sleep(10)
    assert log == []
    assert [type(failed.error) for failed in system.failures] == [KeyError]
