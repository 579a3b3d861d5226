"""What comes in, and what goes wrong, while an actor starts, ends, sleeps, or waits to be started again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from random import Random
from typing import Any

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
    Child,
    Context,
    Ref,
    Restart,
    Step,
    StopOverran,
    Strategy,
    Supervision,
    Supervisor,
    System,
    Tell,
    open_system,
)
from relay.actors._supervision import delay


class Doing:
    """The protocol of everybody here."""


@attrs.frozen
class Do(Tell[Doing]):
    what: str = ""


@attrs.frozen
class Get(Ask[Doing, str]):
    what: str = ""


class Base(Actor[Doing]):
    """Remembers what it was told, and answers with what it was asked."""

    def __init__(self, key: object = None) -> None:
        self.key = key
        self.got: list[str] = []

    def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
        self.got.append(message.what)
        if isinstance(message, Get):
            context.reply(message, message.what)
        return None


# -- rest, and draining


async def test_idle_waits_for_what_is_queued_at_an_actor_that_starts(autojump_clock: MockClock) -> None:
    got: list[str] = []

    class Loading(Base):
        async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await trio.sleep(3)
            self.got = got

    async with open_system() as system:
        system.family(Loading, name="f")["k"].tell(Do("1"))
        await system.idle()
        assert got == ["1"]


@pytest.mark.parametrize("what", ["starts", "waits"])
async def test_leaving_the_block_drains_what_waits_for_an_incarnation(
    autojump_clock: MockClock, what: str
) -> None:
    got: list[str] = []

    class Failing(Base):
        async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await trio.sleep(1 if what == "starts" else 0)

        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            if message.what == "bad":
                raise ValueError("bad")
            got.append(message.what)
            return None

    async with open_system() as system:
        ref = system.family(Failing, name="f")["k"]
        for word in ("good", "bad", "better"):
            ref.tell(Do(word))
    assert got == ["good", "better"]
    assert not system.dead_letters


async def test_idle_does_not_wait_for_a_restart_that_nobody_waits_for(autojump_clock: MockClock) -> None:
    class Failing(Base):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            raise ValueError("bad")

    slow = Supervision(backoff=1000, backoff_limit=1000)
    async with open_system(drain=0) as system:
        (await system.spawn(Failing, supervision=slow)).tell(Do())
        began = trio.current_time()
        await system.idle()
        assert trio.current_time() == began


async def test_idle_ends_when_who_was_to_be_started_again_is_stopped(autojump_clock: MockClock) -> None:
    class Failing(Base):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            raise ValueError("bad")

    async with open_system() as system, trio.open_nursery() as nursery:
        ref = await system.spawn(Failing, supervision=Supervision(backoff=1000, backoff_limit=1000))
        ref.tell(Do("1"))
        ref.tell(Do("2"))
        nursery.start_soon(system.idle)
        await trio.sleep(1)
        await system.stop(ref)


# -- callbacks that raise


async def test_a_watch_that_raises_fails_its_watcher_alone(autojump_clock: MockClock) -> None:
    class Watching(Base):
        def __init__(self, other: Ref[Doing]) -> None:
            super().__init__()
            self.other = other

        def started(self, context: Context[Doing]) -> Step:
            context.watch(self.other, lambda exit_: Do(str(1 // 0)))
            return None

    async with open_system() as system:
        watched = await system.spawn(Base, name="watched")
        other = await system.spawn(Base, name="other")
        await system.spawn(
            Watching, watched, name="watcher", supervision=Supervision(restart=Restart.TEMPORARY)
        )
        await system.stop(watched)
        await system.idle()
        assert [(failed.address, type(failed.error)) for failed in system.failures] == [
            ("watcher", ZeroDivisionError)
        ]
        assert await other.ask(Get("alive")) == "alive"


async def test_a_coalescing_key_that_raises_fails_the_sender_or_the_owner(autojump_clock: MockClock) -> None:
    class Ringing(Base):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            context.set_timer("t", 1, Do("no number"))
            return None

    bounds = Bounds(coalesce=lambda message: int(message.what))
    async with open_system() as system:
        ref = await system.spawn(Ringing, name="ringing", bounds=bounds)
        with pytest.raises(ValueError, match="no number"):
            ref.tell(Do("no number"))
        ref.tell(Do("1"))
        await trio.sleep(1.05)
        assert [failed.address for failed in system.failures] == ["ringing"]
        await trio.sleep(1)
        ref.tell(Do("2"))
        await system.idle()


# -- starting


def test_the_delay_of_a_restart_stays_within_its_limit_however_many_failures_are_forgiven() -> None:
    policy = Supervision(backoff=0.1, backoff_limit=10, jitter=0)
    assert [delay(policy, failure, Random(0)) for failure in (1, 2, 5, 9, 100_000)] == [0.1, 0.2, 1.6, 10, 10]


@pytest.mark.parametrize("restart", list(Restart))
async def test_what_fails_during_the_first_start_fails_the_spawn(
    autojump_clock: MockClock, restart: Restart
) -> None:
    class Failing(Base):
        async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
            context.start_soon(self._fail)
            await trio.sleep(60)

        async def _fail(self) -> None:
            await trio.sleep(1)
            raise ValueError("in the background")

    async with open_system() as system:
        with trio.fail_after(5), pytest.raises(ValueError, match="in the background"):
            await system.spawn(Failing, supervision=Supervision(restart=restart))
        assert system.snapshot() == []


async def test_a_start_that_is_stopped_ends_the_spawn(autojump_clock: MockClock) -> None:
    refs: list[Ref[Doing]] = []

    class Slow(Base):
        async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
            refs.append(context.self_ref)
            await trio.sleep(60)

    async with open_system() as system:

        async def spawn() -> None:
            with pytest.raises(ActorStopped):
                await system.spawn(Slow, supervision=Supervision(stop_budget=0.2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(spawn)
            await trio.sleep(1)
            with trio.fail_after(5):
                await system.stop(refs[0])


# -- ending


async def test_an_incarnation_that_ends_starts_nothing_any_more(autojump_clock: MockClock) -> None:
    refused: list[str] = []

    class Slow(Base):
        async def stopped(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await trio.sleep(1)

    class Late(Base):
        async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await context.spawn(Slow, name="first")
            context.start_soon(self._spawn_late, context)

        async def _spawn_late(self, context: Context[Doing]) -> None:
            await trio.sleep(1.5)
            try:
                await context.spawn(Base, name="late")
            except ActorStopped:
                refused.append("spawn")

        def stopped(self, context: Context[Doing]) -> Step:
            starts: dict[str, Callable[[], object]] = {
                "start_soon": lambda: context.start_soon(trio.sleep, 1),
                "pipe": lambda: context.pipe(trio.sleep, 1, then=lambda _: Do()),
                "set_timer": lambda: context.set_timer("t", 1, Do()),
                "watch": lambda: context.watch(context.self_ref, lambda _: Do()),
            }
            for name, start in starts.items():
                try:
                    start()
                except ActorStopped:
                    refused.append(name)
            return None

    async with open_system() as system:
        ref = await system.spawn(Late)
        await trio.sleep(1)
        await system.stop(ref)
        assert system.snapshot() == []
        assert refused == ["spawn", "start_soon", "pipe", "set_timer", "watch"]


async def test_the_context_of_an_ended_incarnation_does_nothing_to_the_next(
    autojump_clock: MockClock,
) -> None:
    contexts: list[Context[Doing]] = []

    class Kept(Base):
        def started(self, context: Context[Doing]) -> Step:
            contexts.append(context)
            return None

        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            if message.what == "bad":
                raise ValueError("bad")
            return super().handle(message, context)

    async with open_system() as system:
        ref = await system.spawn(Kept)
        ref.tell(Do("bad"))
        assert await ref.ask(Get("next")) == "next"
        with pytest.raises(ActorStopped):
            await contexts[0].spawn(Base)
        with pytest.raises(ActorStopped):
            contexts[0].start_soon(trio.sleep, 1)
        contexts[0].fail(ValueError("late"))
        contexts[0].stop()
        contexts[0].unstash()
        assert await ref.ask(Get("still")) == "still"
        assert len(contexts) == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_a_message_to_one_that_falls_asleep_is_handled(autojump_clock: MockClock, fails: bool) -> None:
    class Sleepy(Base):
        async def stopped(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await trio.sleep(1)
            if fails and not asked:
                raise ValueError("cannot sleep")

    asked = False
    async with open_system() as system:
        family = system.family(Sleepy, name="f", idle=10)
        family["a"].tell(Do())
        while not any(info.state == "ending" for info in system.snapshot()):
            await trio.sleep(0.5)
        with trio.fail_after(5):
            assert await family["a"].ask(Get("3")) == "3"
        asked = True
        assert not system.dead_letters


# -- messages put aside


async def test_what_is_taken_up_again_by_a_task_is_handled(autojump_clock: MockClock) -> None:
    class Waiting(Base):
        ready = False

        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            if self.ready:
                return super().handle(message, context)
            context.stash(message)
            context.start_soon(self._load, context)
            return None

        async def _load(self, context: Context[Doing]) -> None:
            await trio.sleep(1)
            self.ready = True
            context.unstash()

    async with open_system() as system:
        ref = await system.spawn(Waiting)
        with trio.fail_after(5):
            assert await ref.ask(Get("later")) == "later"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_message_that_is_put_aside_by_a_handler_that_fails_is_not_handled_again(
    autojump_clock: MockClock, asynchronous: bool
) -> None:
    seen: list[str] = []

    class Failing(Base):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            seen.append(message.what)
            context.stash(message)
            if asynchronous and message.what == "bad":
                return self._fail()
            if message.what == "bad":
                raise ValueError("bad")
            return None

        async def _fail(self) -> None:
            await trio.lowlevel.checkpoint()
            raise ValueError("bad")

    async with open_system() as system:
        ref = await system.spawn(Failing)
        ref.tell(Do("kept"))
        with trio.fail_after(5), pytest.raises(ActorFailed):
            await ref.ask(Get("bad"))
        await trio.sleep(1)
        await system.idle()
        assert seen == ["kept", "bad", "kept"]
    assert (system.fates.handled, system.fates.undelivered) == (1, 1)


# -- deaf ones


async def never_mind(closed: list[str], *, scoped: bool = False) -> None:
    """Swallow every cancellation."""
    try:
        with trio.CancelScope() if scoped else nullcontext():
            while True:
                try:
                    await trio.sleep(1)
                except trio.Cancelled:
                    pass
    finally:
        closed.append("closed")


@pytest.mark.parametrize("scoped", [False, True])
@pytest.mark.parametrize("where", ["handler", "task", "started", "stopped"])
async def test_who_swallows_cancellation_for_ever_is_given_up_and_named(where: str, scoped: bool) -> None:
    closed: list[str] = []

    class Deaf(Base):
        async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
            if where == "started":
                await never_mind(closed, scoped=scoped)

        async def stopped(self, context: Context[Doing]) -> None:  # type: ignore[override]
            if where == "stopped":
                await never_mind(closed, scoped=scoped)

        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            if where == "task":
                context.start_soon(partial(never_mind, closed, scoped=scoped))
            return never_mind(closed, scoped=scoped) if where == "handler" else None

    with trio.fail_after(5):
        async with open_system(drain=0) as system:
            family = system.family(
                lambda _: Deaf(), name="deaf", supervision=Supervision(stop_budget=0.05, restarts=0)
            )
            family["a"].tell(Do())
            await trio.sleep(0.02)
    assert closed == ["closed"]
    late = [failed for failed in system.failures if isinstance(failed.error, StopOverran)]
    assert [failed.address for failed in late][:1] == ["deaf/a"]


async def test_a_deaf_handler_is_given_up_when_its_actor_fails_elsewhere() -> None:
    closed: list[str] = []

    class Deaf(Base):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            if isinstance(message, Get):
                return super().handle(message, context)
            context.start_soon(self._fail)
            return never_mind(closed)

        async def _fail(self) -> None:
            raise ValueError("elsewhere")

    async with open_system() as system:
        ref = await system.spawn(Deaf, supervision=Supervision(stop_budget=0.05))
        ref.tell(Do())
        with trio.fail_after(5):
            assert await ref.ask(Get("next")) == "next"
    assert closed == ["closed"]


# -- families and groups


async def test_a_member_is_stopped_by_a_ref_of_an_earlier_life(autojump_clock: MockClock) -> None:
    async with open_system() as system:
        family = system.family(Base, name="f", idle=1)
        old = family["a"]
        await old.ask(Get())
        await trio.sleep(5)
        assert not len(family)
        await family["a"].ask(Get())
        await system.stop(old)
        assert not len(family)
        await system.stop(old)
        assert not len(family)


async def test_keys_that_look_alike_are_refused(autojump_clock: MockClock) -> None:
    async with open_system() as system:
        family: Any = system.family(Base, name="f", idle=1)
        assert await family[1].ask(Get("one")) == "one"
        with pytest.raises(ValueError, match="'1' and 1"):
            family["1"].tell(Do())
        await trio.sleep(5)
        assert await family["1"].ask(Get("one")) == "one"


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_child_that_has_failed_may_be_stopped_for_good(
    autojump_clock: MockClock, strategy: Strategy
) -> None:
    class Failing(Base):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            raise ValueError("bad")

    a, b = Child(Failing, name="a"), Child(Base, name="b")
    async with open_system() as system:
        await system.spawn(Supervisor, [a, b], strategy, name="group")
        with pytest.raises(ActorFailed):
            await a.ref.ask(Get())
        await system.stop(a.ref)
        await trio.sleep(5)
        assert [failed.address for failed in system.failures] == ["group/a"]
        [group] = system.snapshot()
        assert [child.address for child in group.children] == ["group/b"]
        assert await b.ref.ask(Get("alive")) == "alive"


async def test_a_child_that_fails_while_its_group_ends_harms_nobody(autojump_clock: MockClock) -> None:
    class Slow(Base):
        async def stopped(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await trio.sleep(1)

    class Failing(Base):
        def started(self, context: Context[Doing]) -> Step:
            context.set_timer("t", 1.5, Do("bad"))
            return None

        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            raise ValueError("bad")

    async with open_system() as system:
        group = await system.spawn(
            Supervisor, [Child(Failing, name="a"), Child(Slow, name="b")], Strategy.ONE_FOR_ALL, name="group"
        )
        await trio.sleep(1)
        await system.stop(group)
        assert system.snapshot() == []


# -- the loop, and the limits of asks


async def test_a_flooded_async_actor_does_not_hold_the_loop() -> None:
    left = 200_000

    class Flooded(Base):
        async def handle(self, message: Do | Get, context: Context[Doing]) -> None:
            nonlocal left
            left -= 1
            if left:
                context.self_ref.tell(Do())

    async with open_system(drain=0) as system:
        flooded = await system.spawn(Flooded)
        flooded.tell(Do())
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert left, "others had their turns before all was done"
        await system.stop(flooded)


async def test_a_deferred_answer_closes_no_circle(autojump_clock: MockClock, system: System) -> None:
    answers: list[str] = []

    class A(Base):
        def __init__(self, b: Ref[Doing]) -> None:
            super().__init__()
            self.b = b

        async def handle(self, message: Do | Get, context: Context[Doing]) -> None:
            if isinstance(message, Get):
                context.reply(message, "from a")
            else:
                answers.append(await self.b.ask(Get("slow")))

    class B(Base):
        a: Ref[Doing]

        async def handle(self, message: Do | Get, context: Context[Doing]) -> None:
            if isinstance(message, Do):
                answers.append(await self.a.ask(Get()))
                return
            slot = context.defer(message)

            async def later() -> None:
                await trio.sleep(3)
                slot.set("from b")

            context.start_soon(later)

    made = B()
    b = await system.spawn(lambda: made, name="b")
    made.a = a = await system.spawn(A, b, name="a")
    a.tell(Do())
    await trio.sleep(1)
    b.tell(Do())
    with trio.fail_after(5):
        await system.idle()
    assert answers == ["from b", "from a"]
    assert not system.failures


async def test_the_scope_of_the_asker_ends_an_ask_that_is_too_late() -> None:
    class Holding(Base):
        def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
            if isinstance(message, Do):
                time.sleep(0.2)
            return super().handle(message, context)

    async with open_system() as system:
        holding = await system.spawn(Holding)
        holding.tell(Do())
        with trio.move_on_after(0.05) as limit:
            await holding.ask(Get())
        assert limit.cancelled_caught
        assert system.fates.expired + system.fates.abandoned == 1
