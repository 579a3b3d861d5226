"""Timers, families, watches and gates where they are easily wrong: no delay, no name, no actor, too late."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from relay.actors import (
    Actor,
    ActorStopped,
    Ask,
    Bounds,
    Context,
    DeadLetter,
    Exit,
    Gate,
    Overflow,
    Quarantined,
    Ref,
    Restart,
    Step,
    Stopped,
    Supervision,
    System,
    SystemEvent,
    Tell,
    Unavailable,
    open_system,
)


class Doing:
    """The protocol of everybody here."""


@attrs.frozen(eq=False)
class Run(Tell[Doing]):
    """Calls `what`, which may return a coroutine."""

    what: Callable[[Context[Doing]], Any]


@attrs.frozen
class Note(Tell[Doing]):
    what: str


@attrs.frozen
class Get(Ask[Doing, list[str]]):
    pass


class Doer(Actor[Doing]):
    def __init__(self, key: object = None) -> None:
        self.notes: list[str] = []

    def handle(self, message: Run | Note | Get, context: Context[Doing]) -> Step:
        match message:
            case Run(what):
                step: Step = what(context)
                return step
            case Note(what):
                self.notes.append(what)
            case Get():
                context.reply(message, self.notes)
        return None


class Recorder(Doer):
    """Its notes outlive it."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes


def fail(_: Context[Doing]) -> None:
    raise ValueError("as told")


# -- timers


async def test_a_timer_without_delay_that_arms_itself_again_lets_others_run(system: System) -> None:
    rung: list[str] = []

    class Again(Doer):
        def handle(self, message: Run | Note | Get, context: Context[Doing]) -> Step:
            rung.append("again")
            if len(rung) < 1000:
                context.set_timer("again", 0, Note("again"))
            return None

    def again() -> None:
        ticks.append(len(ticks))
        if len(ticks) < 1000:
            system.timers.at(trio.current_time(), again)

    ticks: list[int] = []
    ref = await system.spawn(Again)
    ref.tell(Note("again"))
    again()
    turns = 0
    while len(rung) < 1000 or len(ticks) < 1000:
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns >= 500, "the timers gave way between two rounds"


@pytest.mark.parametrize("seconds", [-1, 0, math.nan])
async def test_a_family_that_never_rests_is_refused(system: System, seconds: float) -> None:
    with pytest.raises(ValueError, match="idle"):
        system.family(Doer, idle=seconds)
    assert system.snapshot() == []


async def test_a_timer_needs_a_delay_that_is_a_number(system: System) -> None:
    refused: list[str] = []

    def arm(context: Context[Doing]) -> None:
        for given in ({"delay": math.nan}, {"delay": 1, "every": 0}, {"delay": 1, "every": math.nan}):
            with pytest.raises(ValueError, match="seconds") as raised:
                context.set_timer("t", message=Note("never"), **given)
            refused.append(str(raised.value))
        context.set_timer("u", 1, Note("rung"))

    ref = await system.spawn(Doer)
    ref.tell(Run(arm))
    await trio.sleep(5)
    assert await ref.ask(Get()) == ["rung"]
    assert len(refused) == 3


async def test_a_periodic_timer_rings_at_its_times_until_it_is_cancelled(system: System) -> None:
    times: list[float] = []

    class Ringing(Doer):
        def handle(self, message: Run | Note | Get, context: Context[Doing]) -> Step:
            if isinstance(message, Note):
                times.append(round(system.now() - start, 3))
                if len(times) == 3:
                    context.cancel_timer("tick")
            return super().handle(message, context)

    ref = await system.spawn(Ringing)
    start = system.now()
    ref.tell(Run(lambda context: context.set_timer("tick", 0.5, Note("tick"), every=2)))
    await trio.sleep(20)
    assert times == [0.5, 2.5, 4.5]


async def test_a_periodic_timer_never_has_two_ticks_in_the_mailbox(system: System) -> None:
    deepest = 0

    async def dawdle(context: Context[Doing]) -> None:
        nonlocal deepest
        context.set_timer("tick", 1, Note("tick"), every=1)
        for _ in range(21):
            await trio.sleep(0.5)
            deepest = max(deepest, system.snapshot()[0].queued)

    ref = await system.spawn(Doer)
    ref.tell(Run(dawdle))
    await trio.sleep(10.7)
    assert deepest == 1
    assert await ref.ask(Get()) == ["tick"]
    await trio.sleep(2)
    assert await ref.ask(Get()) == ["tick"] * 3


@pytest.mark.parametrize(
    "bounds", [Bounds(coalesce=lambda message: "all"), Bounds(capacity=1, overflow=Overflow.DROP_OLDEST)]
)
async def test_a_periodic_timer_goes_on_when_a_tick_had_to_make_way(system: System, bounds: Bounds) -> None:
    async def dawdle(context: Context[Doing]) -> None:
        context.set_timer("tick", 1, Note("tick"), every=1)
        await trio.sleep(1.5)
        context.self_ref.tell(Note("told"))

    ref = await system.spawn(Doer, bounds=bounds)
    ref.tell(Run(dawdle))
    await trio.sleep(3.2)
    assert await ref.ask(Get()) == ["told", "tick", "tick"]
    system.dead_letters.clear()


def cancel(context: Context[Doing]) -> None:
    context.cancel_timer("t")


def arm_again(context: Context[Doing]) -> None:
    context.set_timer("t", 5, Note("new"))


@pytest.mark.keeps_failures
@pytest.mark.parametrize(("then", "notes"), [(cancel, []), (arm_again, ["new"]), (fail, [])])
async def test_a_tick_that_waits_in_the_mailbox_is_withdrawn(
    system: System, then: Callable[[Context[Doing]], None], notes: list[str]
) -> None:
    """By cancelling its timer, by arming it again, and by the end of the incarnation that ordered it."""
    got: list[str] = []

    async def change_one_s_mind(context: Context[Doing]) -> None:
        context.set_timer("t", 1, Note("stale"))
        await trio.sleep(2)
        assert system.snapshot()[0].queued == 1
        then(context)

    ref = await system.spawn(Recorder, got, supervision=Supervision(backoff=0))
    ref.tell(Run(change_one_s_mind))
    await trio.sleep(10)
    assert got == notes
    assert (system.fates.handled, system.fates.undelivered) == (1 + len(notes), 0), "it was never a message"
    assert not system.dead_letters


async def test_a_tick_that_was_withdrawn_takes_no_message_with_it(system: System) -> None:
    """Neither its place in a bounded mailbox, nor the same object that was told."""
    tick = Note("same")

    async def change_one_s_mind(context: Context[Doing]) -> None:
        context.set_timer("t", 1, tick)
        await trio.sleep(2)
        context.self_ref.tell(tick)
        context.cancel_timer("t")
        context.self_ref.tell(Note("more"))

    ref = await system.spawn(Doer, bounds=Bounds(capacity=2, overflow=Overflow.DROP_OLDEST))
    ref.tell(Run(change_one_s_mind))
    await trio.sleep(5)
    assert await ref.ask(Get()) == ["same", "more"]
    assert not system.dead_letters


async def test_ticks_of_a_stopped_actor_are_no_dead_letters_and_what_it_was_told_is(system: System) -> None:
    async def last(context: Context[Doing]) -> None:
        context.set_timer("t", 1, Note("tick"))
        context.self_ref.tell(Note("told"))
        await trio.sleep(2)
        context.stop()

    ref = await system.spawn(Doer)
    ref.tell(Run(last))
    await trio.sleep(5)
    assert [letter.message for letter in system.dead_letters] == [Note("told")]
    system.dead_letters.clear()


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.PERMANENT])
@pytest.mark.keeps_failures
async def test_a_restart_that_costs_nothing_takes_its_time(system: System, restart: Restart) -> None:
    """However small the backoff: what no budget limits must not use up the processor."""
    starts: list[float] = []

    class Away(Doer):
        def started(self, context: Context[Doing]) -> Step:
            starts.append(system.now())
            if restart is Restart.PERMANENT:
                context.stop()
            elif len(starts) > 1:
                raise Unavailable("the disk is full")
            return None

    ref = await system.spawn(Away, supervision=Supervision(restart=restart, backoff=0))
    if restart is Restart.TRANSIENT:
        ref.tell(Run(fail))
    await trio.sleep(1)
    assert 10 < len(starts) <= 110
    await system.stop(ref)


# -- watches


@pytest.fixture
def exits() -> list[Exit]:
    return []


def watch(exits: list[Exit], target: Ref[Any]) -> Run:
    def gone(exit_: Exit) -> Run:
        return Run(lambda _: exits.append(exit_))

    return Run(lambda context: context.watch(target, gone))


async def test_the_word_of_a_watch_that_was_ended_is_withdrawn(system: System, exits: list[Exit]) -> None:
    target = await system.spawn(Doer, name="target")
    watcher = await system.spawn(Doer)

    async def change_one_s_mind(context: Context[Doing]) -> None:
        context.watch(target, lambda exit_: Note("gone"))
        await system.stop(target)
        assert system.snapshot()[0].queued == 1
        context.unwatch(target)

    watcher.tell(Run(change_one_s_mind))
    await system.idle()
    assert await watcher.ask(Get()) == []


@pytest.mark.keeps_failures
async def test_an_incarnation_is_not_told_whom_the_last_one_watched(system: System) -> None:
    notes: list[str] = []
    target = await system.spawn(Doer, name="target")
    watcher = await system.spawn(Recorder, notes)

    async def watch_and_fail(context: Context[Doing]) -> None:
        context.watch(target, lambda exit_: Note("gone"))
        await system.stop(target)
        raise ValueError("as told")

    watcher.tell(Run(watch_and_fail))
    await trio.sleep(5)
    assert notes == []
    watcher.tell(Run(lambda context: context.watch(target, lambda exit_: Note("gone"))))
    await system.idle()
    assert notes == ["gone"]


@pytest.mark.parametrize("awake", [True, False])
@pytest.mark.parametrize("first", ["watch", "stop"])
async def test_a_member_has_stopped_for_good_when_its_family_has(
    system: System, exits: list[Exit], awake: bool, first: str
) -> None:
    family = system.family(Doer, name="f", idle=5)
    ref = family["k"]
    if awake:
        await ref.ask(Get())
    watcher = await system.spawn(Doer)
    if first == "watch":
        watcher.tell(watch(exits, ref))
        await system.idle()
        await trio.sleep(20)
        assert len(family) == 0
        assert exits == []
    await family.stop()
    watcher.tell(watch(exits, ref) if first == "stop" else Note("nothing more"))
    await system.idle()
    assert exits == [Exit("f/k")]


async def test_a_member_that_is_stopped_while_it_falls_asleep_has_stopped(
    system: System, exits: list[Exit]
) -> None:
    class Drowsy(Doer):
        async def stopped(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await trio.sleep(3)

    family = system.family(Drowsy, name="f", idle=5)
    watcher = await system.spawn(Doer)
    await family["k"].ask(Get())
    watcher.tell(watch(exits, family["k"]))
    while system.snapshot()[1].state != "ending":
        await trio.sleep(1)
    await system.stop(family["k"])
    await system.idle()
    assert exits == [Exit("f/k")]


@pytest.mark.parametrize("before", [True, False])
async def test_a_member_that_is_stopped_while_it_is_asleep_has_stopped(
    system: System, exits: list[Exit], before: bool
) -> None:
    family = system.family(Doer, name="f", idle=5)
    ref = family["k"]
    if before:
        await ref.ask(Get())
        await trio.sleep(20)
    watcher = await system.spawn(Doer)
    watcher.tell(watch(exits, ref))
    await system.idle()
    await system.stop(ref)
    await system.stop(ref)
    await system.idle()
    assert exits == [Exit("f/k")]
    assert len(family) == 0


async def test_who_lives_in_another_system_cannot_be_watched(system: System) -> None:
    async with open_system() as other:
        foreign = await other.spawn(Doer, name="foreign")
        refused: list[str] = []

        def try_it(context: Context[Doing]) -> None:
            with pytest.raises(ValueError, match="another system") as raised:
                context.watch(foreign, lambda exit_: Note("gone"))
            refused.append(str(raised.value))

        ref = await system.spawn(Doer)
        ref.tell(Run(try_it))
        await system.idle()
        assert refused


# -- families


async def test_looking_a_member_up_starts_nothing(system: System) -> None:
    family = system.family(Doer, name="f", idle=60)
    ref = family["k"]
    assert (ref.address, len(family), system.snapshot()) == ("f/k", 0, [])
    assert "f/k" in repr(ref)
    assert ref == family["k"]
    assert hash(ref) == hash(family["k"])
    await system.stop(ref)
    assert len(family) == 0
    ref.tell(Note("first"))
    assert list(family) == ["k"]
    assert await family["k"].ask(Get()) == ["first"]
    assert ref == family["k"] != family["l"]
    assert len(family) == 1


async def test_a_member_may_be_woken_without_a_message(system: System) -> None:
    started: list[str] = []

    class Waking(Doer):
        def __init__(self, key: str) -> None:
            super().__init__()
            started.append(key)

    family = system.family(Waking, name="f", idle=60)
    assert family.wake("k") == family["k"]
    family.wake("k")
    await system.idle()
    assert started == ["k"]


async def test_a_waiting_send_and_an_ask_wake_a_member_too(system: System) -> None:
    family = system.family(Doer, name="f", idle=60)
    await family["a"].send(Note("sent"))
    assert await family["a"].ask(Get()) == ["sent"]
    assert await family["b"].ask(Get()) == []


async def test_members_of_two_families_of_one_name_are_two(system: System) -> None:
    first = system.family(Doer, name="f")
    ref = first["k"]
    await first.stop()
    second = system.family(Doer, name="f")
    assert ref != second["k"]
    assert ref.address == second["k"].address
    with pytest.raises(ActorStopped, match="f has stopped"):
        ref.tell(Note("too late"))


class Deaf(Actor[Doing]):
    def __init__(self, key: object = None) -> None: ...

    def handle(self, message: Run | Note, context: Context[Doing]) -> None: ...


class Dumb(Actor[Doing]):
    def __init__(self, key: object = None) -> None: ...


@pytest.mark.parametrize("factory", [Deaf, partial(Deaf), partial(partial(Deaf)), Dumb])
async def test_a_family_whose_members_miss_a_message_is_refused(
    system: System, factory: Callable[[object], Actor[Doing]]
) -> None:
    with pytest.raises(TypeError, match=r"(Deaf|Dumb).*Get"):
        system.family(factory, name="f")
    assert system.family(Doer, name="f").name == "f"


@pytest.mark.keeps_failures
async def test_what_no_restart_can_mend_is_tried_once(system: System) -> None:
    made: list[object] = []

    def make(key: object) -> Actor[Doing]:
        made.append(key)
        return Deaf()

    family = system.family(make, name="f")
    with pytest.raises(ActorStopped) as raised:
        await family["k"].ask(Get())
    assert "f/k cannot be started: Deaf.handle does not take Get" in str(raised.value.__cause__)
    await trio.sleep(5)
    assert made == ["k"]
    with pytest.raises(ActorStopped, match="quarantine"):
        family["k"].tell(Note("again"))


@pytest.mark.keeps_failures
async def test_a_quarantine_is_told(system: System) -> None:
    happened: list[SystemEvent] = []
    with system.on_event(happened.append):
        family = system.family(Doer, name="f", supervision=Supervision(restarts=0))
        family["k"].tell(Run(fail))
        await trio.sleep(1)
    (event,) = [event for event in happened if isinstance(event, Quarantined)]
    assert event.address == "f/k"
    assert isinstance(event.error.__cause__, ValueError)
    assert [type(event) for event in happened][-2:] == [Stopped, Quarantined]
    assert not [event for event in happened if isinstance(event, DeadLetter)]


# -- gates


async def test_a_gate_that_is_given_in_started_counts(system: System) -> None:
    gate = Gate()

    class Gated(Doer):
        async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await trio.lowlevel.checkpoint()
            self.gate = gate

    gate.close()
    ref = await system.spawn(Gated)
    ref.tell(Note("held"))
    await system.idle()
    assert system.snapshot()[0].held
    gate.open()
    assert await ref.ask(Get()) == ["held"]
