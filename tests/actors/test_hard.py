"""What ends an actor, or a block, the hard way: Ctrl-C, exits, overruns, stray cancellations, circles of hooks."""

from __future__ import annotations

import contextvars
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import attrs
import pytest
import trio
from trio.testing import MockClock

from relay.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    Ask,
    Bounds,
    Context,
    DeadlineExpired,
    DeadlockError,
    Exit,
    Fates,
    Gate,
    Overflow,
    Ref,
    Refusal,
    Restart,
    Step,
    StopOverran,
    Supervision,
    System,
    SystemEvent,
    Tell,
    open_system,
)


class Doing:
    """The protocol of everybody here."""


Deed = Callable[[Any, Context[Doing]], Any]


@attrs.frozen(eq=False)
class Do(Tell[Doing]):
    deed: Deed


@attrs.frozen(eq=False)
class Get(Ask[Doing, object]):
    deed: Deed


@attrs.frozen(eq=False)
class GetWanted(Ask[Doing, object]):
    """Not worth its while once the asker has left."""

    cancellable = True

    deed: Deed


@attrs.frozen(eq=False, repr=False)
class Hidden(Ask[Doing, object]):
    deed: Deed

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Doer(Actor[Doing]):
    """Does what a message says, with itself, or the message, and the context."""

    def __init__(self, log: list[str] | None = None, hooks: dict[str, Deed] | None = None) -> None:
        self.log = log if log is not None else []
        self.hooks = hooks or {}

    def started(self, context: Context[Doing]) -> Step:
        self.log.append("started")
        return self.hooks["started"](self, context) if "started" in self.hooks else None  # type: ignore[no-any-return]

    def handle(self, message: Do | Get | GetWanted | Hidden, context: Context[Doing]) -> Step:
        return message.deed(message, context)  # type: ignore[no-any-return]

    def stopped(self, context: Context[Doing]) -> Step:
        self.log.append("stopped")
        return self.hooks["stopped"](self, context) if "stopped" in self.hooks else None  # type: ignore[no-any-return]


async def forever(_: object, context: Context[Doing]) -> None:
    await trio.sleep_forever()


def answer(message: Any, context: Context[Doing]) -> None:
    context.reply(message, "answer")


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


# -- Ctrl-C and exits


def test_ctrl_c_while_the_block_is_left_ends_the_drain_and_stops_everybody() -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_system(drain=300) as system:
            ref = await system.spawn(Doer, log, supervision=Supervision(stop_budget=0.1))
            ref.tell(Do(forever))
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.spawn_system_task(press_soon)

    async def press_soon() -> None:
        await trio.testing.wait_all_tasks_blocked()
        press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert log == ["started", "stopped"]


def test_ctrl_c_twice_does_not_wait_for_anybody() -> None:
    async def main() -> None:
        async with open_system(drain=300) as system:
            ref = await system.spawn(Doer, supervision=Supervision(stop_budget=300))
            ref.tell(Do(forever))
            trio.lowlevel.spawn_system_task(press_twice)

    async def press_twice() -> None:
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked()
            press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


def in_plain_handler(message: Any, context: Context[Doing]) -> None:
    press_ctrl_c()
    time.sleep(0)


async def in_async_handler(message: Any, context: Context[Doing]) -> None:
    press_ctrl_c()
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("deed", [in_plain_handler, in_async_handler])
@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_ctrl_c_in_a_handler_comes_out_bare_after_the_actors_have_stopped(
    deed: Deed, inline: bool, asked: bool
) -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_system(inline=inline) as system:
            other = await system.spawn(Doer, log, name="other")
            ref = await system.spawn(Doer, log)
            if asked:
                with pytest.raises(ActorFailed):
                    await ref.ask(Get(deed))
            else:
                ref.tell(Do(deed))
            await other.ask(Get(answer))
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert log == ["started", "started", "stopped", "stopped"]


def leave(message: Any, context: Context[Doing]) -> NoReturn:
    raise SystemExit(3)


async def leave_later(message: Any, context: Context[Doing]) -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise SystemExit(3)


@pytest.mark.parametrize("deed", [leave, leave_later])
def test_an_exit_in_a_handler_ends_the_block_in_order(deed: Deed) -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_system() as system:
            ref = await system.spawn(Doer, log)
            with pytest.raises(ActorFailed):
                await ref.ask(Get(deed))
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert [type(error) for error in caught.value.exceptions] == [SystemExit]
    assert log == ["started", "stopped"]


async def test_a_stray_cancellation_fails_the_handler_alone(
    autojump_clock: MockClock, system: System
) -> None:
    """A `Cancelled` that was kept and is raised again belongs to no scope around the handler."""
    kept: list[BaseException] = []
    with trio.move_on_after(0) as scope:
        try:
            await trio.sleep(1)
        except trio.Cancelled as error:
            kept.append(error)
            raise
    assert scope.cancelled_caught

    async def later(message: Any, context: Context[Doing]) -> None:
        raise kept[0]

    def plain(message: Any, context: Context[Doing]) -> None:
        raise kept[0]

    ref = await system.spawn(Doer, supervision=Supervision(backoff=0.01))
    for deed in (later, plain):
        with pytest.raises(ActorFailed, match="out of the scope"):
            await ref.ask(Get(deed))
        assert await ref.ask(Get(answer)) == "answer"
    system.failures.clear()


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.keeps_failures
async def test_a_broken_repr_breaks_nothing(autojump_clock: MockClock, system: System) -> None:
    class Silent(Doer):
        def handle(self, message: Any, context: Context[Doing]) -> Step:
            if isinstance(message, Hidden):
                return None
            return super().handle(message, context)

    def crash(message: Any, context: Context[Doing]) -> None:
        raise ValueError(Unshowable())

    ref = await system.spawn(Silent)
    with pytest.raises(Exception, match="whose repr raises"):
        await ref.ask(Hidden(answer))
    with pytest.raises(ActorFailed, match="whose repr raises"):
        await ref.ask(Get(crash))
    assert await ref.ask(Get(answer)) == "answer"


async def exit_in_background() -> None:
    await trio.lowlevel.checkpoint()
    raise SystemExit(3)


def test_an_exit_in_the_background_or_in_a_callback_ends_the_block_in_order() -> None:
    def begin(message: Any, context: Context[Doing]) -> None:
        context.start_soon(exit_in_background)

    async def main(by_callback: bool) -> None:
        async with open_system() as system:
            ref = await system.spawn(Doer, log)
            other = await system.spawn(Doer, log)
            if by_callback:
                await ref.ask(Get(lambda message, context: watch_and_exit(message, context, other)))
                await system.stop(other)
            else:
                ref.tell(Do(begin))
            await trio.sleep_forever()

    for by_callback in (False, True):
        log: list[str] = []
        with pytest.raises(BaseExceptionGroup) as caught:
            trio.run(main, by_callback)
        assert [type(error) for error in caught.value.exceptions] == [SystemExit]
        assert log == ["started", "started", "stopped", "stopped"]


def watch_and_exit(message: Any, context: Context[Doing], other: Ref[Doing]) -> None:
    def then(exit_: Exit) -> NoReturn:
        raise SystemExit(3)

    context.watch(other, then)
    context.reply(message, "watching")


def test_ctrl_c_as_the_second_failure_is_not_lost() -> None:
    def crash(message: Any, context: Context[Doing]) -> None:
        raise ValueError("first")

    def pressed(_: object, context: Context[Doing]) -> None:
        press_ctrl_c()

    async def main() -> None:
        async with open_system() as system:
            ref = await system.spawn(Doer, [], {"stopped": pressed})
            ref.tell(Do(crash))
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


STORM = """
import os, random, signal, sys, threading, time
import attrs, trio
from relay.actors import *
class P: pass
@attrs.frozen
class Go(Tell[P]): pass
@attrs.frozen
class Q(Ask[P, int]): pass
up = set()
class W(Actor[P]):
    def __init__(self, key=None): pass
    def started(self, context): up.add(self)
    def handle(self, message: Go | Q, context):
        if isinstance(message, Q): context.reply(message, 1)
        return trio.lowlevel.checkpoint() if random.random() < 0.2 else None
    def stopped(self, context): up.discard(self)
async def main(kind):
    async with open_system(drain=0.5) as system:
        single = await system.spawn(W, name="single")
        members = system.family(W, name="members", idle=0.01)
        threading.Timer(0.02 + 0.05 * random.random(), os.kill, (os.getpid(), signal.SIGINT)).start()
        for i in range(10**9):
            if kind == "spawn":
                await system.stop(await system.spawn(W))
            elif kind == "ask":
                await single.ask(Q())
            else:
                members[i % 50].tell(Go())
                await system.spawn(W) if i < 200 else await trio.lowlevel.checkpoint()
try:
    trio.run(main, sys.argv[1])
except KeyboardInterrupt:
    left = [actor for actor in up]
    print("interrupted", len(left))
"""


@pytest.mark.parametrize("kind", ["spawn", "ask", "family"])
def test_ctrl_c_at_any_moment_ends_the_block_after_every_hook(kind: str) -> None:
    """In a process of its own, again and again, at a moment of chance. A hook that is hit itself may not get through."""
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", STORM, kind], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.stdout.startswith("interrupted"), done.stderr
        assert int(done.stdout.split()[1]) <= 1, done.stderr


async def test_a_failure_among_cancellations_is_the_failure(
    autojump_clock: MockClock, system: System
) -> None:
    async def in_a_nursery(message: Any, context: Context[Doing]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raise_at_the_end)
            nursery.start_soon(trio.sleep_forever)

    ref = await system.spawn(Doer, supervision=Supervision(stop_budget=1))
    ref.tell(Do(in_a_nursery))
    await trio.testing.wait_all_tasks_blocked()
    await system.stop(ref)
    kinds = [type(failed.error).__name__ for failed in system.failures]
    assert kinds == ["StopOverran", "ExceptionGroup"]
    system.failures.clear()


@pytest.mark.keeps_failures
async def test_the_failure_that_cuts_a_handler_short_is_the_failure(
    autojump_clock: MockClock, system: System
) -> None:
    async def fail_soon() -> None:
        await trio.sleep(1)
        raise ValueError("the real cause")

    async def begin_and_wait(message: Any, context: Context[Doing]) -> None:
        context.start_soon(fail_soon)
        await raise_at_the_end()

    ref = await system.spawn(Doer)
    with pytest.raises(ActorFailed, match="the real cause"):
        await ref.ask(Get(begin_and_wait))
    assert await ref.ask(Get(answer)) == "answer"
    assert [str(failed.error) for failed in system.failures] == ["'cleanup'", "the real cause"]


@pytest.mark.keeps_failures
async def test_a_stray_cancellation_in_the_background_fails_the_actor(
    autojump_clock: MockClock, system: System
) -> None:
    with trio.move_on_after(0) as scope:
        try:
            await trio.sleep(1)
        except trio.Cancelled as error:
            kept = error
            raise
    assert scope.cancelled_caught

    async def stray() -> None:
        raise kept

    ref = await system.spawn(Doer)
    ref.tell(Do(lambda message, context: context.start_soon(stray)))
    await trio.sleep(1)
    assert "out of the scope" in str(system.failures[0].error)
    assert await ref.ask(Get(answer)) == "answer"


@pytest.mark.parametrize("where", ["handler", "task", "started", "stopped"])
@pytest.mark.keeps_failures
async def test_who_is_deaf_while_no_time_passes_is_given_up_too(
    autojump_clock: MockClock, system: System, where: str
) -> None:
    async def deaf(*_: object) -> None:
        while True:
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                pass

    hooks: dict[str, Deed] = {where: deaf} if where in ("started", "stopped") else {}
    members = system.family(
        lambda key: Doer([], hooks), name="deaf", supervision=Supervision(stop_budget=0.5)
    )
    match where:
        case "handler":
            members["a"].tell(Do(deaf))
        case "task":
            members["a"].tell(Do(lambda message, context: context.start_soon(deaf)))
        case _:
            members["a"].tell(Do(lambda message, context: None))
    await trio.testing.wait_all_tasks_blocked()
    await system.stop(members["a"])
    assert any(isinstance(failed.error, StopOverran) for failed in system.failures)
    system.dead_letters.clear()


async def test_a_listener_that_raises_ends_the_block() -> None:
    def listener(event: SystemEvent) -> None:
        raise ValueError("cannot listen")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            with system.on_event(listener):
                await system.spawn(Doer)
                await trio.sleep_forever()
    assert caught.group_contains(ValueError, match="cannot listen")


@pytest.mark.keeps_failures
async def test_a_key_that_cannot_be_made_again_loses_nothing(
    autojump_clock: MockClock, system: System
) -> None:
    broken = False

    def key(message: Do) -> object:
        if broken:
            raise ValueError("no key")
        return id(message)

    ref = await system.spawn(Doer, bounds=Bounds(coalesce=key))  # type: ignore[arg-type]
    handled: list[str] = []

    def aside(message: Any, context: Context[Doing]) -> None:
        handled.append("handled")
        if len(handled) <= 2:
            context.stash(message)

    def back(message: Any, context: Context[Doing]) -> None:
        nonlocal broken
        broken = True
        context.unstash()

    for deed in (aside, aside, back):
        ref.tell(Do(deed))
    await system.idle()
    assert len(handled) == 4


# -- stopping


@pytest.mark.keeps_failures
async def test_children_and_members_that_fail_while_they_stop_are_heard(system: System) -> None:
    def fail(_: object, context: Context[Doing]) -> None:
        raise ValueError("the disk is full")

    async def with_child(message: Any, context: Context[Doing]) -> None:
        await context.spawn(Doer, [], {"stopped": fail})

    parent = await system.spawn(Doer)
    parent.tell(Do(with_child))
    await system.idle()
    with pytest.raises(ActorFailed, match="while it stopped: the disk is full"):
        await system.stop(parent)
    members = system.family(lambda key: Doer([], {"stopped": fail}), name="members")
    await members["a"].ask(Get(answer))
    with pytest.raises(ActorFailed, match="a member of members failed while it stopped"):
        await members.stop()


async def test_a_member_that_stops_its_family_and_waits_for_it_is_told(
    autojump_clock: MockClock, system: System
) -> None:
    async def stop_all(message: Any, context: Context[Doing]) -> None:
        with pytest.raises(DeadlockError):
            await members.stop()
        context.reply(message, "told")

    members = system.family(lambda key: Doer(), name="members")
    assert await members["a"].ask(Get(stop_all)) == "told"


async def test_what_has_ended_in_time_leaves_no_timer_behind(
    autojump_clock: MockClock, system: System
) -> None:
    async def pause(message: Any, context: Context[Doing]) -> None:
        await trio.sleep(1)

    for _ in range(200):
        ref = await system.spawn(Doer, supervision=Supervision(stop_budget=3600))
        ref.tell(Do(pause))
        await trio.testing.wait_all_tasks_blocked()
        await system.stop(ref)
    assert len(system.timers._heap) < 150


async def test_a_plain_start_that_fails_itself_fails_the_spawn(system: System) -> None:
    def fail(_: object, context: Context[Doing]) -> None:
        context.fail(ValueError("no good"))

    with pytest.raises(ValueError, match="no good"):
        await system.spawn(Doer, [], {"started": fail})
    assert system.snapshot() == []


@pytest.mark.parametrize("checkpoints", [0, 1, 2, 3])
@pytest.mark.keeps_failures
async def test_a_stop_has_its_budget_whenever_it_comes(
    autojump_clock: MockClock, system: System, checkpoints: int
) -> None:
    """Also between the call of a handler and the first step of its task."""
    ref = await system.spawn(Doer, supervision=Supervision(stop_budget=2))
    ref.tell(Do(forever))
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    await system.stop(ref)
    assert trio.current_time() < 3
    system.dead_letters.clear()  # there is one if it came before the handler


@pytest.mark.keeps_failures
async def test_a_member_has_its_budget_before_its_first_turn(
    autojump_clock: MockClock, system: System
) -> None:
    def make(key: str) -> Doer:
        return Doer(hooks={"started": forever})

    members = system.family(make, name="members", supervision=Supervision(stop_budget=2))
    members["a"].tell(Do(answer))
    await system.stop(members["a"])
    assert trio.current_time() < 3
    system.dead_letters.clear()


async def test_failing_from_a_plain_part_cuts_the_rest_short(
    autojump_clock: MockClock, system: System
) -> None:
    def fail_and_go_on(message: Any, context: Context[Doing]) -> Any:
        context.fail(ValueError("no good"))
        return forever(message, context)

    ref = await system.spawn(Doer, supervision=Supervision(backoff=0.1, jitter=0))
    with pytest.raises(ActorFailed):
        await ref.ask(Get(fail_and_go_on))
    assert await ref.ask(Get(answer)) == "answer"
    assert trio.current_time() < 1
    system.failures.clear()


@pytest.mark.keeps_failures
async def test_children_that_take_their_time_are_all_waited_for(
    autojump_clock: MockClock, system: System
) -> None:
    """Each has a budget of its own, and the hook of the parent one more."""
    log: list[str] = []

    async def slowly(_: object, context: Context[Doing]) -> None:
        await trio.sleep(4)
        log.append("child stopped")

    async def with_children(message: Any, context: Context[Doing]) -> None:
        for name in ("a", "b", "c"):
            await context.spawn(Doer, [], {"stopped": slowly}, name=name)

    def stopped(_: object, context: Context[Doing]) -> None:
        log.append("parent stopped")

    def started(_: object, context: Context[Doing]) -> None:
        log.append("parent started")

    hooks = {"started": started, "stopped": stopped}
    ref = await system.spawn(Doer, [], hooks, supervision=Supervision(backoff=0.1, restart=Restart.PERMANENT))
    await ref.ask(Get(answer))
    ref.tell(Do(with_children))
    ref.tell(Do(lambda message, context: context.stop()))
    ref.tell(Do(with_children))
    assert await ref.ask(Get(answer)) == "answer"
    assert log == ["parent started", *["child stopped"] * 3, "parent stopped", "parent started"]
    await system.stop(ref)
    assert log[-1] == "parent stopped"
    assert [info.address for info in system.snapshot()] == []


@pytest.mark.keeps_failures
async def test_a_background_task_that_overruns_is_named_and_waited_for(
    autojump_clock: MockClock, system: System
) -> None:
    log: list[str] = []

    async def cleanup() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(8)
                log.append("cleaned up")

    def begin(message: Any, context: Context[Doing]) -> None:
        context.start_soon(cleanup)

    ref = await system.spawn(Doer, log, supervision=Supervision(backoff=0.1, restart=Restart.PERMANENT))
    ref.tell(Do(begin))
    await system.idle()
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Do(lambda message, context: context.stop()))
    await ref.ask(Get(answer))
    assert log == ["started", "cleaned up", "stopped", "started"]
    assert any(isinstance(failed.error, StopOverran) for failed in system.failures)


async def test_a_spawn_that_is_cancelled_leaves_nobody_behind(
    autojump_clock: MockClock, system: System
) -> None:
    with trio.move_on_after(0):
        await system.spawn(Doer, name="ghost")
    await trio.sleep(0.1)
    assert system.snapshot() == []


async def test_names_that_are_made_up_are_free(system: System) -> None:
    taken = await system.spawn(Doer, name="Doer-1")
    refs = [await system.spawn(Doer) for _ in range(3)]
    assert len({taken.address, *(ref.address for ref in refs)}) == 4
    assert len(system.snapshot()) == 4


@pytest.mark.keeps_failures
async def test_whoever_stops_an_actor_hears_that_it_failed_on_the_way(system: System) -> None:
    def fail(_: object, context: Context[Doing]) -> None:
        raise ValueError("the disk is full")

    ref = await system.spawn(Doer, [], {"stopped": fail})
    with pytest.raises(ActorFailed, match="while it stopped: the disk is full"):
        await system.stop(ref)


async def test_a_hook_that_fails_while_the_block_is_left_comes_out_of_it() -> None:
    def fail(_: object, context: Context[Doing]) -> None:
        raise ValueError("the disk is full")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            await system.spawn(Doer, [], {"stopped": fail})
    assert caught.group_contains(ValueError, match="the disk is full")


async def test_what_the_block_raises_and_what_actors_fail_with_come_out_together() -> None:
    def crash(message: Any, context: Context[Doing]) -> None:
        raise ValueError("crash")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            ref = await system.spawn(Doer, supervision=Supervision(restarts=0))
            ref.tell(Do(crash))
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("cleanup")
    assert caught.group_contains(KeyError)
    assert any("failed more than 0 times" in str(error) for error in caught.value.exceptions)

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system, trio.open_nursery() as nursery:
            ref = await system.spawn(Doer, supervision=Supervision(restarts=0))
            nursery.start_soon(raise_at_the_end)
            ref.tell(Do(crash))
            await trio.sleep_forever()
    assert "failed more than 0 times" in repr(caught.value.exceptions)
    assert caught.group_contains(KeyError)


async def raise_at_the_end() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise KeyError("cleanup")


@pytest.mark.keeps_failures
async def test_a_background_task_that_fails_while_it_is_cancelled_is_on_record(system: System) -> None:
    def begin(message: Any, context: Context[Doing]) -> None:
        context.start_soon(raise_at_the_end)

    ref = await system.spawn(Doer)
    ref.tell(Do(begin))
    await system.idle()
    await trio.testing.wait_all_tasks_blocked()
    await system.stop(ref)
    assert any(isinstance(failed.error, KeyError) for failed in system.failures)


# -- what a drain waits for


@pytest.mark.keeps_failures
async def test_a_drain_that_is_too_short_names_who_was_not_done(autojump_clock: MockClock) -> None:
    async def second(message: Any, context: Context[Doing]) -> None:
        await trio.sleep(1)

    async with open_system(drain=1.5) as system:
        ref = await system.spawn(Doer, name="slow")
        for _ in range(5):
            ref.tell(Do(second))
    named = [failed for failed in system.failures if isinstance(failed.error, StopOverran)]
    assert [failed.address for failed in named] == ["slow"]
    assert "drain's 1.5 s" in str(named[0].error)
    assert "mailbox 3/1000" in str(named[0].error)


async def test_a_drain_waits_for_what_a_gate_holds_back(autojump_clock: MockClock) -> None:
    gate = Gate()
    log: list[str] = []

    class Gated(Doer):
        gate = None

    def note(message: Any, context: Context[Doing]) -> None:
        log.append("handled")

    async def open_later() -> None:
        await trio.sleep(1)
        gate.open()

    Gated.gate = gate
    async with trio.open_nursery() as nursery, open_system() as system:
        ref = await system.spawn(Gated)
        gate.close()
        ref.tell(Do(note))
        nursery.start_soon(open_later)
    assert log == ["handled"]


# -- circles that go by way of a hook, a start or an end


@pytest.mark.keeps_failures
async def test_whoever_asks_itself_while_it_starts_is_told(autojump_clock: MockClock, system: System) -> None:
    async def ask_oneself(_: object, context: Context[Doing]) -> None:
        await context.self_ref.ask(Get(answer))

    with trio.fail_after(1), pytest.raises(DeadlockError, match="<started>"):
        await system.spawn(Doer, [], {"started": ask_oneself})


async def test_a_child_that_asks_its_parent_while_that_starts_it_is_told(
    autojump_clock: MockClock, system: System
) -> None:
    async def with_child(message: Any, context: Context[Doing]) -> None:
        async def ask_parent(_: object, child: Context[Doing]) -> None:
            await context.self_ref.ask(Get(answer))

        with pytest.raises(DeadlockError):
            await context.spawn(Doer, [], {"started": ask_parent})
        context.reply(message, "told")

    ref = await system.spawn(Doer)
    with trio.fail_after(1):
        assert await ref.ask(Get(with_child)) == "told"
    system.failures.clear()


@pytest.mark.keeps_failures
async def test_a_child_that_asks_its_parent_while_both_end_is_told(
    autojump_clock: MockClock, system: System
) -> None:
    told: list[str] = []

    async def with_child(message: Any, context: Context[Doing]) -> None:
        async def ask_parent(_: object, child: Context[Doing]) -> None:
            try:
                await context.self_ref.ask(Get(answer))
            except (DeadlockError, ActorStopped) as error:
                told.append(type(error).__name__)

        await context.spawn(Doer, [], {"stopped": ask_parent})

    ref = await system.spawn(Doer)
    ref.tell(Do(with_child))
    await system.idle()
    with trio.fail_after(1):
        await system.stop(ref)
    assert told == ["DeadlockError"]


async def test_whoever_stops_itself_and_waits_for_it_is_told(
    autojump_clock: MockClock, system: System
) -> None:
    async def stop_oneself(message: Any, context: Context[Doing]) -> None:
        with pytest.raises(DeadlockError):
            await context.system.stop(context.self_ref)
        context.reply(message, "told")

    ref = await system.spawn(Doer)
    with trio.fail_after(1):
        assert await ref.ask(Get(stop_oneself)) == "told"


async def test_a_long_chain_of_handlers_is_no_trouble(autojump_clock: MockClock, system: System) -> None:
    chain: list[Ref[Doing]] = []

    async def ask_next(message: Any, context: Context[Doing]) -> None:
        place = chain.index(context.self_ref)
        if place + 1 < len(chain):
            context.reply(message, await chain[place + 1].ask(Get(ask_next)))
        else:
            with pytest.raises(DeadlockError):
                await chain[0].ask(Get(answer))
            context.reply(message, "end")

    chain.extend([await system.spawn(Doer) for _ in range(1500)])
    assert await chain[0].ask(Get(ask_next)) == "end"


# -- asks


async def test_a_nested_ask_ends_when_nobody_waits_for_its_outcome(
    autojump_clock: MockClock, system: System
) -> None:
    ended: list[float] = []
    busy = await system.spawn(Doer)
    middle = await system.spawn(Doer)

    async def pause(message: Any, context: Context[Doing]) -> None:
        await trio.sleep(100)

    async def ask_busy(message: Any, context: Context[Doing]) -> None:
        try:
            await busy.ask(Get(answer))
        except DeadlineExpired:
            ended.append(trio.current_time())
            raise

    busy.tell(Do(pause))
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(2):
        await middle.ask(Get(ask_busy))
    await trio.sleep(1)
    assert ended == [2.0]
    assert not system.failures


async def test_a_handler_sees_that_its_asker_has_left(autojump_clock: MockClock, system: System) -> None:
    wanted: list[bool] = []

    async def look(message: Any, context: Context[Doing]) -> None:
        wanted.append(context.wanted)
        await trio.sleep(2)
        wanted.append(context.wanted)
        wanted.append(context.reply(message, "late"))

    ref = await system.spawn(Doer)
    with trio.move_on_after(1):
        await ref.ask(Get(look))
    await system.idle()
    assert wanted == [True, False, False]


async def test_a_cancellable_ask_that_is_left_at_once_costs_nothing(
    autojump_clock: MockClock, system: System
) -> None:
    async def work(message: Any, context: Context[Doing]) -> None:
        await trio.sleep(100)

    ref = await system.spawn(Doer)
    for _ in range(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.ask, GetWanted(work))
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    await system.idle()
    assert trio.current_time() < 1


async def test_a_cancellable_ask_is_cancelled_with_its_asker(
    autojump_clock: MockClock, system: System
) -> None:
    log: list[str] = []

    async def work(message: Any, context: Context[Doing]) -> None:
        try:
            await trio.sleep(100)
        finally:
            log.append(f"ended at {trio.current_time():.0f}")

    ref = await system.spawn(Doer)
    with trio.move_on_after(1):
        await ref.ask(GetWanted(work))
    await system.idle()
    assert log == ["ended at 1"]
    assert await ref.ask(Get(answer)) == "answer", "that was no failure"
    assert system.fates.handled == 2
    assert not system.failures


# -- one fate


async def put_aside_and(message: Any, context: Context[Doing], then: Callable[[], Awaitable[None]]) -> None:
    context.stash(message)
    await then()


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.keeps_failures
async def test_what_is_put_aside_and_then_refused_has_one_fate(
    autojump_clock: MockClock, system: System, asked: bool
) -> None:
    def refuse(message: Any, context: Context[Doing]) -> None:
        context.stash(message)
        raise Refusal("after all")

    ref = await system.spawn(Doer)
    if asked:
        with pytest.raises(Refusal, match="after all"):
            await ref.ask(Get(refuse))
    else:
        ref.tell(Do(refuse))
    ref.tell(Do(lambda message, context: context.unstash()))
    await system.idle()
    assert system.fates == (Fates(handled=2) if asked else Fates(handled=1, undelivered=1))
    system.dead_letters.clear()


@pytest.mark.keeps_failures
async def test_what_is_put_aside_and_back_and_then_crashes_is_not_handled_again(
    autojump_clock: MockClock, system: System
) -> None:
    times = 0

    def crash(message: Any, context: Context[Doing]) -> None:
        nonlocal times
        times += 1
        context.stash(message)
        context.unstash()
        raise ValueError("crash")

    ref = await system.spawn(Doer)
    ref.tell(Do(crash))
    await trio.sleep(60)
    assert (times, system.fates) == (1, Fates(handled=1))


@pytest.mark.keeps_failures
async def test_the_same_object_told_twice_is_two_messages(autojump_clock: MockClock, system: System) -> None:
    handled: list[str] = []

    def first_aside_then_crash(message: Any, context: Context[Doing]) -> None:
        handled.append("handled")
        match len(handled):
            case 1:
                context.stash(message)
            case 2:
                raise ValueError("crash")

    tick = Do(first_aside_then_crash)
    ref = await system.spawn(Doer)
    ref.tell(tick)
    ref.tell(tick)
    await trio.sleep(60)
    assert handled == ["handled"] * 3, "put aside, crashed, and the one put aside once more"


async def test_a_message_is_put_aside_or_deferred_once(system: System) -> None:
    def twice(message: Any, context: Context[Doing]) -> None:
        context.stash(message)
        with pytest.raises(ValueError, match="put aside already"):
            context.stash(message)
        with pytest.raises(ValueError, match="put aside"):
            context.defer(message)

    def deferred(message: Any, context: Context[Doing]) -> None:
        slot = context.defer(message)
        with pytest.raises(ValueError, match="deferred already"):
            context.stash(message)
        slot.set("answer")

    ref = await system.spawn(Doer)
    ref.tell(Do(twice))
    assert await ref.ask(Get(deferred)) == "answer"
    await system.stop(ref)
    system.dead_letters.clear()


async def test_a_refusal_after_a_deferral_is_the_answer(system: System) -> None:
    def refuse(message: Any, context: Context[Doing]) -> None:
        context.defer(message)
        raise Refusal("after all")

    ref = await system.spawn(Doer)
    with trio.fail_after(5), pytest.raises(Refusal, match="after all"):
        await ref.ask(Get(refuse))


async def test_an_ask_that_nobody_waits_for_is_abandoned_and_not_dropped(
    autojump_clock: MockClock, system: System
) -> None:
    async def pause(message: Any, context: Context[Doing]) -> None:
        await trio.sleep(10)

    ref = await system.spawn(Doer, bounds=Bounds(capacity=1, overflow=Overflow.DROP_OLDEST))
    ref.tell(Do(pause))
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(1):
        await ref.ask(Get(answer))
    ref.tell(Do(answer))
    await system.idle()
    assert system.fates == Fates(handled=2, abandoned=1)


# -- context


async def test_plain_handlers_and_hooks_see_nothing_of_whoever_caused_them(system: System) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    def look(_: object, context: Context[Doing]) -> None:
        seen.append(variable.get())
        variable.set("the actor's")

    variable.set("the asker's")
    ref = await system.spawn(Doer, [], {"started": look})
    with pytest.raises(Exception, match="did not answer"):
        await ref.ask(Get(look))
    assert variable.get() == "the asker's"
    assert "the asker's" not in seen


# -- members


async def test_a_member_that_ends_by_itself_leaves_its_queue_to_the_next_activation(system: System) -> None:
    log: list[str] = []

    def make(key: str) -> Doer:
        return Doer(log)

    members = system.family(make, name="members")
    members["a"].tell(Do(lambda message, context: context.stop()))
    assert await members["a"].ask(Get(answer)) == "answer"
    assert log == ["started", "stopped", "started"]
