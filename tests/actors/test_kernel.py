"""The runtime's promises about messages, answers, order, fates and lifetimes."""

from __future__ import annotations

import itertools
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from protocols import (
    Add,
    Arm,
    Counting,
    Crash,
    CrashAsked,
    Later,
    Leave,
    Refused,
    Slow,
    Total,
    Unanswered,
)

from relay.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    Bounds,
    Context,
    DeadlineExpired,
    Gate,
    MailboxFull,
    NoReply,
    Refusal,
    Reply,
    Restart,
    RestartsExhausted,
    Step,
    Supervision,
    System,
    open_system,
    virtual_wall,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


class Counter(Actor[Counting]):
    """Counts, and does on request whatever a handler may do."""

    def __init__(self, log: list[str] | None = None, gate: Gate | None = None) -> None:
        self.total = 0
        self.log = log if log is not None else []
        self.gate = gate
        self.owed: list[Reply[int]] = []

    def started(self, context: Context[Counting]) -> Step:
        self.log.append("started")
        return None

    def stopped(self, context: Context[Counting]) -> Step:
        self.log.append("stopped")
        return None

    def handle(self, message: object, context: Context[Counting]) -> Step:
        match message:
            case Add(amount=amount):
                self.total += amount
            case Total():
                context.reply(message, self.total)
            case Crash() | CrashAsked():
                raise ValueError("as told")
            case Refused():
                raise Refusal("not today")
            case Slow(seconds=seconds):
                return self._slowly(message, seconds, context)
            case Later():
                self.owed.append(context.defer(message))
            case Arm(key=key, seconds=seconds, message=ring):
                context.set_timer(key, seconds, ring)
            case Leave():
                context.stop()
            case Unanswered():
                pass
        return None

    async def _slowly(self, message: Slow, seconds: float, context: Context[Counting]) -> None:
        self.log.append("slow begins")
        await trio.sleep(seconds)
        self.log.append("slow ends")
        context.reply(message, self.total)


class Patient(Counter):
    """The same with an `async` handler for everything."""

    async def handle(self, message: object, context: Context[Counting]) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        step = super().handle(message, context)
        if step is not None:
            await step


@pytest.fixture(params=[True, False], ids=["inline", "queued"])
async def system(request: pytest.FixtureRequest) -> AsyncIterator[System]:
    async with open_system(wall=virtual_wall(), seed=1, inline=request.param) as system:
        yield system


@pytest.fixture(params=[Counter, Patient], ids=["plain", "async"])
def kind(request: pytest.FixtureRequest) -> type[Counter]:
    kind: type[Counter] = request.param
    return kind


async def test_messages_of_one_sender_arrive_in_order_and_before_the_answer(
    autojump_clock: MockClock, system: System, kind: type[Counter]
) -> None:
    ref = await system.spawn(kind)
    for amount in range(500):
        ref.tell(Add(amount))
    assert await ref.ask(Total()) == sum(range(500))


async def test_a_full_mailbox_refuses_and_send_waits_for_room(
    autojump_clock: MockClock, system: System
) -> None:
    gate = Gate()
    gate.close()
    ref = await system.spawn(Counter, None, gate, bounds=Bounds(capacity=3))
    for _ in range(3):
        ref.tell(Add())
    with pytest.raises(MailboxFull):
        ref.tell(Add())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.send, Add())
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert await ref.ask(Total()) == 4


async def test_a_closed_gate_holds_an_actor_back_and_a_stop_still_reaches_it(
    autojump_clock: MockClock, system: System
) -> None:
    gate = Gate()
    gate.close()
    ref = await system.spawn(Counter, None, gate)
    ref.tell(Add())
    await trio.testing.wait_all_tasks_blocked()
    await system.stop(ref)
    gate.open()
    assert [letter.message for letter in system.dead_letters] == [Add()]


async def test_a_crash_fails_the_asker_and_keeps_the_rest_of_the_mailbox(
    autojump_clock: MockClock, system: System, kind: type[Counter]
) -> None:
    """A crash loses the message being handled and the state; what was queued behind it is handled after it."""
    log: list[str] = []
    ref = await system.spawn(kind, log)
    ref.tell(Add(5))
    async with trio.open_nursery() as nursery:

        async def crash() -> None:
            with pytest.raises(ActorFailed) as failed:
                await ref.ask(CrashAsked())
            assert isinstance(failed.value.__cause__, ValueError)

        nursery.start_soon(crash)
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Add(7))
        assert await ref.ask(Total()) == 7
    assert log == ["started", "stopped", "started"]


async def test_a_refusal_is_an_answer_and_no_failure(autojump_clock: MockClock, system: System) -> None:
    ref = await system.spawn(Counter)
    ref.tell(Add())
    with pytest.raises(Refusal, match="not today"):
        await ref.ask(Refused())
    assert await ref.ask(Total()) == 1
    assert not system.failures


async def test_an_unanswered_ask_is_an_error_at_once(
    autojump_clock: MockClock, system: System, kind: type[Counter]
) -> None:
    ref = await system.spawn(kind)
    with pytest.raises(NoReply):
        await ref.ask(Unanswered())


async def test_an_ask_whose_asker_left_is_dropped_before_it_costs_work(
    autojump_clock: MockClock, system: System
) -> None:
    log: list[str] = []
    ref = await system.spawn(Counter, log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.ask, Slow(10))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await ref.ask(Slow(1))
        assert scope.cancelled_caught
    await system.idle()
    assert log.count("slow begins") == 1
    assert system.fates.abandoned == 1


async def test_a_handler_is_not_cancelled_because_its_asker_left(
    autojump_clock: MockClock, system: System
) -> None:
    log: list[str] = []
    ref = await system.spawn(Counter, log)
    with trio.move_on_after(1):
        await ref.ask(Slow(5))
    assert await ref.ask(Total()) == 0
    assert log == ["started", "slow begins", "slow ends"]


async def test_an_ask_past_its_deadline_is_not_handled(autojump_clock: MockClock, system: System) -> None:
    """The deadline travels in the envelope: it counts even where the asker cannot be cancelled."""
    ref = await system.spawn(Counter)
    reply: Reply[int] = Reply(Total())
    reply.deadline = trio.current_time() + 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.ask, Slow(2))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(reply)  # type: ignore[arg-type]
    with pytest.raises(DeadlineExpired):
        await reply.wait()
    assert system.fates.expired == 1


async def test_a_deferred_answer_fails_with_its_incarnation(
    autojump_clock: MockClock, system: System
) -> None:
    ref = await system.spawn(Counter)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(ActorFailed):
                await ref.ask(Later())

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Crash())


async def test_a_stopped_actor_answers_everybody(autojump_clock: MockClock, system: System) -> None:
    ref = await system.spawn(Counter)
    async with trio.open_nursery() as nursery:

        async def ask(message: Later | Total) -> None:
            with pytest.raises(ActorStopped):
                await ref.ask(message)

        nursery.start_soon(ref.ask, Slow(3))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, Total())
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Add())
        await system.stop(ref)
    with pytest.raises(ActorStopped):
        ref.tell(Add())
    assert [letter.message for letter in system.dead_letters] == [Add()]


async def test_a_handler_that_does_not_end_is_cancelled_and_named(
    autojump_clock: MockClock, system: System
) -> None:
    ref = await system.spawn(Counter, name="dawdler", supervision=Supervision(stop_budget=2))
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(ActorStopped):
                await ref.ask(Slow(1000))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        await system.stop(ref)
        assert trio.current_time() - started == pytest.approx(2)
    assert "dawdler did not stop within 2 s" in str(system.failures[-1])


async def test_a_handler_that_swallows_its_cancellation_is_named(
    autojump_clock: MockClock, system: System
) -> None:
    class Deaf(Counter):
        async def handle(self, message: object, context: Context[Counting]) -> None:  # type: ignore[override]
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                context.reply(message, 7)  # type: ignore[arg-type]

    deaf = await system.spawn(Deaf, name="deaf", supervision=Supervision(stop_budget=2))
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await deaf.ask(Total()) == 7

        nursery.start_soon(ask)
        await trio.sleep(1)
        with trio.fail_after(5):
            await system.stop(deaf)
    assert "deaf did not stop within 2 s" in str(system.failures[-1])


async def test_failures_beyond_the_budget_end_the_block(autojump_clock: MockClock) -> None:
    with pytest.raises(ExceptionGroup) as group:
        async with open_system(wall=virtual_wall()) as system:
            ref = await system.spawn(Counter, supervision=Supervision(restarts=2))
            for _ in range(3):
                ref.tell(Crash())
            await trio.sleep(100)
    (error,) = group.value.exceptions
    assert isinstance(error, RestartsExhausted)
    assert isinstance(error.__cause__, ValueError)


async def test_failures_spread_over_time_are_forgiven(autojump_clock: MockClock, system: System) -> None:
    ref = await system.spawn(Counter, supervision=Supervision(restarts=1, within=10))
    for _ in range(5):
        ref.tell(Crash())
        await trio.sleep(11)
    assert await ref.ask(Total()) == 0


async def test_restarts_back_off_exponentially(autojump_clock: MockClock, system: System) -> None:
    log: list[str] = []
    times: list[float] = []

    class Noting(Counter):
        def started(self, context: Context[Counting]) -> Step:
            times.append(trio.current_time())
            return None

    ref = await system.spawn(Noting, log, supervision=Supervision(backoff=1, jitter=0))
    for _ in range(3):
        ref.tell(Crash())
    await trio.sleep(30)
    assert [round(b - a, 6) for a, b in itertools.pairwise(times)] == [1, 2, 4]


async def test_leaving_by_oneself_ends_a_transient_actor_and_restarts_a_permanent_one(
    autojump_clock: MockClock, system: System
) -> None:
    transient = await system.spawn(Counter)
    permanent = await system.spawn(Counter, supervision=Supervision(restart=Restart.PERMANENT))
    for ref in (transient, permanent):
        ref.tell(Leave())
    await trio.sleep(1)
    with pytest.raises(ActorStopped):
        transient.tell(Add())
    assert await permanent.ask(Total()) == 0


async def test_a_failing_start_is_reported_to_the_spawner(autojump_clock: MockClock, system: System) -> None:
    class Broken(Counter):
        def started(self, context: Context[Counting]) -> Step:
            raise ValueError("no start")

    with pytest.raises(ValueError, match="no start"):
        await system.spawn(Broken)


async def test_keyed_timers_replace_each_other_and_die_with_their_incarnation(
    autojump_clock: MockClock, system: System
) -> None:
    ref = await system.spawn(Counter)
    ref.tell(Arm("a", 5, Add(1)))
    ref.tell(Arm("a", 10, Add(10)))
    ref.tell(Arm("b", 20, Add(100)))
    await trio.sleep(11)
    assert await ref.ask(Total()) == 10
    ref.tell(Crash())
    await trio.sleep(30)
    assert await ref.ask(Total()) == 0


async def test_background_tasks_end_with_their_incarnation_and_fail_it(
    autojump_clock: MockClock, system: System
) -> None:
    log: list[str] = []

    class Busy(Counter):
        def started(self, context: Context[Counting]) -> Step:
            super().started(context)
            context.start_soon(self._watch)
            return None

        async def _watch(self) -> None:
            try:
                await trio.sleep(60)
            finally:
                self.log.append("watch ends")
            raise OSError("the watched thing broke")

    ref = await system.spawn(Busy, log)
    ref.tell(Crash())
    await trio.sleep(70)
    assert log == ["started", "watch ends", "stopped", "started", "watch ends", "stopped", "started"]
    assert isinstance(system.failures[-1].error, OSError)


async def test_children_end_before_their_parent(autojump_clock: MockClock, system: System) -> None:
    log: list[str] = []

    class Parent(Counter):
        async def started(self, context: Context[Counting]) -> None:  # type: ignore[override]
            await context.spawn(Child, name="first")
            await context.spawn(Child, name="second")

        def stopped(self, context: Context[Counting]) -> Step:
            log.append("parent")
            return None

    class Child(Counter):
        def stopped(self, context: Context[Counting]) -> Step:
            log.append(context.self_ref.address)
            return None

    ref = await system.spawn(Parent, name="parent")
    await system.stop(ref)
    assert log == ["parent/second", "parent/first", "parent"]


async def test_family_members_start_on_demand_and_are_passivated_when_idle(
    autojump_clock: MockClock, system: System
) -> None:
    started: list[str] = []

    class Member(Counter):
        def __init__(self, key: str) -> None:
            super().__init__()
            started.append(key)

    family = system.family(Member, name="members", idle=60)
    ref = family["a"]
    ref.tell(Add(3))
    family["b"].tell(Arm("alarm", 1000, Add()))
    assert await ref.ask(Total()) == 3
    assert started == ["a", "b"]
    await trio.sleep(130)
    assert list(family) == ["b"], "a member with an armed timer is not idle"
    assert await ref.ask(Total()) == 0, "an old ref finds the new activation"
    assert started == ["a", "b", "a"]


async def test_a_member_is_awake_as_long_as_its_tasks_run_and_no_longer(
    autojump_clock: MockClock, system: System
) -> None:
    class Member(Counter):
        def __init__(self, key: str) -> None:
            super().__init__()

        def started(self, context: Context[Counting]) -> None:  # type: ignore[override]
            context.start_soon(trio.sleep, 200)

    family = system.family(Member, idle=60)
    family["a"].tell(Add(3))
    await trio.sleep(190)
    assert list(family) == ["a"]
    await trio.sleep(130)
    assert list(family) == []


async def test_what_waits_behind_a_slow_message_is_handled_however_much_it_is(
    autojump_clock: MockClock, system: System
) -> None:
    counter = await system.spawn(Counter)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counter.ask, Slow(1))
        await trio.sleep(0.5)
        for _ in range(100):
            counter.tell(Add())
    with trio.fail_after(5):
        await system.idle()
        assert await counter.ask(Total()) == 100


async def test_a_message_to_a_member_that_is_falling_asleep_is_handled(
    autojump_clock: MockClock, system: System
) -> None:
    class Drowsy(Counter):
        def __init__(self, key: str) -> None:
            super().__init__()

        async def stopped(self, context: Context[Counting]) -> None:  # type: ignore[override]
            await trio.sleep(3)

    family = system.family(Drowsy, idle=10)
    family["a"].tell(Add())
    await trio.sleep(21)
    family["a"].tell(Add(5))
    assert await family["a"].ask(Total()) == 5
    assert len(family) == 1


async def test_a_member_that_fails_too_often_is_quarantined_alone(
    autojump_clock: MockClock, system: System
) -> None:
    class Member(Counter):
        def __init__(self, key: str) -> None:
            super().__init__()

    family = system.family(Member, supervision=Supervision(restarts=1, within=30))
    for _ in range(2):
        family["bad"].tell(Crash())
    await trio.sleep(1)
    with pytest.raises(ActorStopped, match="quarantine"):
        await family["bad"].ask(Total())
    assert await family["good"].ask(Total()) == 0
    await trio.sleep(31)
    assert await family["bad"].ask(Total()) == 0


async def test_leaving_the_block_drains_what_is_queued(autojump_clock: MockClock) -> None:
    log: list[str] = []
    async with open_system() as system:
        ref = await system.spawn(Counter, log)
        ref.tell(Reply(Slow(2)))  # type: ignore[arg-type]
    assert log == ["started", "slow begins", "slow ends", "stopped"]


async def test_actors_are_stopped_in_reverse_order_of_their_start() -> None:
    order: list[str] = []

    class Noting(Counter):
        def stopped(self, context: Context[Counting]) -> Step:
            order.append(context.self_ref.address)
            return None

    async with open_system() as system:
        for name in ("a", "b", "c"):
            await system.spawn(Noting, name=name)
    assert order == ["c", "b", "a"]


async def test_the_block_raises_what_its_body_raises() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_system() as system:
            await system.spawn(Counter)
            raise KeyError("mine")


async def test_cancelling_the_block_still_stops_actors_in_order() -> None:
    log: list[str] = []
    with trio.CancelScope() as scope:
        async with open_system() as system:
            await system.spawn(Counter, log)
            scope.cancel()
            await trio.sleep_forever()
    assert log == ["started", "stopped"]


@pytest.mark.parametrize("how", ["cancelled", "by an exception"])
async def test_a_block_that_is_left_in_a_hurry_does_not_drain(autojump_clock: MockClock, how: str) -> None:
    handled: list[object] = []

    class Slow(Actor[Counting]):
        async def handle(self, message: object, context: Context[Counting]) -> None:
            await trio.sleep(1)
            handled.append(message)

    with trio.move_on_after(0.5), suppress(KeyError):
        async with open_system() as system:
            slow = await system.spawn(Slow)
            for amount in range(4):
                slow.tell(Add(amount))
            await trio.sleep(0.2)
            if how == "by an exception":
                raise KeyError
            await trio.sleep_forever()
    assert handled == [Add(0)]
    assert [letter.message for letter in system.dead_letters] == [Add(1), Add(2), Add(3)]


async def test_every_accepted_message_has_one_fate(
    autojump_clock: MockClock, system: System, kind: type[Counter]
) -> None:
    ref = await system.spawn(kind)
    for number in range(100):
        ref.tell(Add() if number % 10 else Crash())
        if number % 10 == 9:
            await trio.sleep(40)
    accepted = 100
    await system.stop(ref)
    fates = system.fates
    assert fates.handled + fates.undelivered == accepted


async def test_a_flooded_actor_does_not_delay_an_idle_one(autojump_clock: MockClock, system: System) -> None:
    flooded = await system.spawn(Counter, bounds=Bounds(capacity=100_000))
    idle = await system.spawn(Counter)
    for _ in range(50_000):
        flooded.tell(Add())
    await idle.ask(Total())
    assert flooded._cell.queue, "the idle actor was served while the other still had work"


def test_control_c_in_a_handler_comes_out_of_trio_run() -> None:
    async def main() -> None:
        async with open_system() as system:

            class Interrupted(Counter):
                def handle(self, message: object, context: Context[Counting]) -> Step:
                    signal.raise_signal(signal.SIGINT)
                    return None

            ref = await system.spawn(Interrupted)
            ref.tell(Add())
            await trio.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


async def test_a_seed_fixes_ids_and_wall_time_orders_them(autojump_clock: MockClock) -> None:
    drawn = []
    for _ in range(2):
        async with open_system(wall=virtual_wall(), seed=7) as system:
            drawn.append(system.new_id("cmd")[10:])
            first = system.new_id("cmd")
            await trio.sleep(1)
            assert first < system.new_id("cmd")
    assert len(first) == len("cmd_") + 26
