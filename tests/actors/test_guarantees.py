"""What `docs/guarantees.md` promises and no other test would miss: each test names the numbers it stands behind."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from relay.actors import (
    Actor,
    ActorStopped,
    Ask,
    Child,
    Context,
    Failed,
    Ref,
    Restart,
    Started,
    Step,
    StopOverran,
    Stopped,
    Strategy,
    Supervision,
    Supervisor,
    System,
    SystemEvent,
    Tell,
    open_system,
)

Work = Callable[["Doer", Any], Step]


class Doing:
    """What a doer understands."""


@attrs.frozen
class Do(Tell[Doing]):
    work: Work


@attrs.frozen
class Get(Ask[Doing, str]):
    work: Work


class Doer(Actor[Doing]):
    """Does what the message says."""

    def __init__(self, key: object = None) -> None:
        self.message: Do | Get
        self.closed = False

    def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
        self.message = message
        return message.work(self, context)


def noting(log: list[str], word: str) -> Work:
    return lambda doer, context: log.append(word)


def taking(seconds: float) -> Work:
    async def work(doer: Doer, context: Context[Doing]) -> None:
        await trio.sleep(seconds)

    return work


# -- messages


async def test_what_is_taken_up_again_comes_before_what_has_come_since(system: System) -> None:
    """G1."""
    log: list[str] = []

    def put_aside(doer: Doer, context: Context[Doing]) -> None:
        if doer.closed:
            log.append("put aside")
        else:
            context.stash(doer.message)

    def take_up(doer: Doer, context: Context[Doing]) -> None:
        doer.closed = True
        context.unstash()

    ref = await system.spawn(Doer)
    for work in (put_aside, take_up, noting(log, "since")):
        ref.tell(Do(work))
    await system.idle()
    assert log == ["put aside", "since"]


async def test_nothing_else_runs_inside_a_plain_handler(system: System) -> None:
    """G4."""
    log: list[str] = []
    other = await system.spawn(Doer, name="other")
    member = system.family(Doer, name="members")["one"]
    woken = trio.Event()

    async def wait() -> None:
        await woken.wait()
        log.append("a task")

    def work(doer: Doer, context: Context[Doing]) -> None:
        log.append("begins")
        for ref in (other, member, context.self_ref):
            ref.tell(Do(noting(log, ref.address)))
        woken.set()
        log.append("ends")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        (await system.spawn(Doer, name="first")).tell(Do(work))
    await system.idle()
    assert log[:2] == ["begins", "ends"]
    assert sorted(log[2:]) == ["a task", "first", "members/one", "other"]


async def test_what_comes_while_an_async_handler_runs_waits_for_it(system: System) -> None:
    """G4."""
    log: list[str] = []

    async def work(doer: Doer, context: Context[Doing]) -> None:
        log.append("begins")
        await trio.sleep(2)
        log.append("ends")

    def answer(doer: Doer, context: Context[Doing]) -> None:
        log.append("asked")
        context.reply(doer.message, "answer")  # type: ignore[arg-type]

    ref = await system.spawn(Doer)
    ref.tell(Do(work))
    await trio.sleep(1)
    ref.tell(Do(noting(log, "told")))
    with trio.fail_after(5):
        assert await ref.ask(Get(answer)) == "answer"
    assert log == ["begins", "ends", "told", "asked"]


# -- answers


def put_aside(doer: Doer, context: Context[Doing]) -> None:
    context.stash(doer.message)


def defer(doer: Doer, context: Context[Doing]) -> None:
    context.defer(doer.message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "work"),
    [(None, put_aside), (None, defer), (None, taking(100)), (taking(1), taking(1))],
    ids=["put aside", "deferred", "in hand", "in the mailbox"],
)
async def test_who_asked_one_that_stops_is_told(system: System, before: Work | None, work: Work) -> None:
    """G6."""
    ref = await system.spawn(Doer, supervision=Supervision(stop_budget=2))
    told: list[str] = []

    async def ask() -> None:
        with trio.fail_after(10), pytest.raises(ActorStopped):
            await ref.ask(Get(work))
        told.append("stopped")

    async with trio.open_nursery() as nursery:
        if before is not None:
            ref.tell(Do(before))
        nursery.start_soon(ask)
        await trio.sleep(0.5)
        await system.stop(ref)
    assert told == ["stopped"]
    system.failures.clear()  # the one in hand overran


# -- the end of an incarnation


class Household(Actor[Doing]):
    """With a child, a task and a hook that take so many seconds to end, though they be cancelled if `shield`."""

    def __init__(self, log: list[str], *, shield: bool = True, **seconds: float) -> None:
        self.log = log
        self.shield = shield
        self.seconds = seconds

    async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
        await context.spawn(Ending, self.log, self.seconds.get("child", 0), self.shield, name="child")
        context.start_soon(self._run)
        self.log.append("started")

    async def _run(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.seconds.get("task", 0))
            self.log.append("task")

    def handle(self, message: Do | Get, context: Context[Doing]) -> Step:
        raise ValueError("as told")

    async def stopped(self, context: Context[Doing]) -> None:  # type: ignore[override]
        with trio.CancelScope(shield=self.shield):
            await trio.sleep(self.seconds.get("hook", 0))
        self.log.append("hook")


class Ending(Actor[Doing]):
    def __init__(self, log: list[str], seconds: float, shield: bool) -> None:
        self.log = log
        self.seconds = seconds
        self.shield = shield

    def handle(self, message: Do | Get, context: Context[Doing]) -> None: ...

    async def stopped(self, context: Context[Doing]) -> None:  # type: ignore[override]
        with trio.CancelScope(shield=self.shield):
            await trio.sleep(self.seconds)
        self.log.append("child")


def household(log: list[str], *, shield: bool = True, **seconds: float) -> Callable[[], Household]:
    return lambda: Household(log, shield=shield, **seconds)


async def test_the_next_incarnation_waits_for_all_that_the_last_one_had(system: System) -> None:
    """G12."""
    log: list[str] = []
    ref = await system.spawn(household(log, child=1, task=1, hook=1))
    log.clear()
    ref.tell(Do(taking(0)))
    await trio.sleep(20)
    assert log == ["child", "task", "hook", "started"]
    system.failures.clear()


@pytest.mark.keeps_failures
@pytest.mark.parametrize("shield", [False, True])
@pytest.mark.parametrize(("slow", "named"), [("child", "house/child"), ("task", "house"), ("hook", "house")])
async def test_whatever_overruns_its_budget_at_the_end_is_named(
    system: System, slow: str, named: str, shield: bool
) -> None:
    """G18: also when it ends at the very moment at which it is cancelled."""
    ref = await system.spawn(household([], shield=shield, **{slow: 7}), name="house")
    began = trio.current_time()
    with trio.fail_after(100):
        await system.stop(ref)
    assert trio.current_time() - began == pytest.approx(7 if shield or slow == "task" else 5)
    assert [(failed.address, type(failed.error)) for failed in system.failures] == [(named, StopOverran)]


@pytest.mark.keeps_failures
@pytest.mark.keeps_dead_letters
@pytest.mark.parametrize("where", ["start", "handler"])
async def test_to_overrun_a_stop_is_no_failure_of_the_actor(system: System, where: str) -> None:
    """G15: it is on record as a `StopOverran`, and as nothing else."""
    events: list[SystemEvent] = []

    class Starting(Doer):
        async def started(self, context: Context[Doing]) -> None:  # type: ignore[override]
            await trio.sleep(100)

    kind = Starting if where == "start" else Doer
    ref = system.family(kind, name="slow", supervision=Supervision(stop_budget=1))["one"]
    ref.tell(Do(taking(100)))
    await trio.sleep(1)
    with system.on_event(events.append):
        await system.stop(ref)
    assert [type(failed.error) for failed in system.failures] == [StopOverran]
    assert events[-1] == Stopped("slow/one", None)


@pytest.mark.keeps_failures
async def test_to_be_ended_for_the_sake_of_a_group_costs_no_restart(system: System) -> None:
    """G15: also when it takes too long."""

    def crash(doer: Doer, context: Context[Doing]) -> None:
        raise ValueError("as told")

    bad, slow = Child(Doer, name="bad"), Child(Doer, name="slow", stop_budget=1)
    await system.spawn(Supervisor, [bad, slow], Strategy.ONE_FOR_ALL, Supervision(restarts=1), name="group")
    slow.ref.tell(Do(taking(100)))
    bad.ref.tell(Do(crash))
    await trio.sleep(20)
    assert [(failed.address, type(failed.error)) for failed in system.failures] == [
        ("group/bad", ValueError),
        ("group/slow", StopOverran),
    ]
    [group] = system.snapshot()
    assert [child.incarnation for child in group.children] == [2, 2]


@pytest.mark.parametrize("restart", list(Restart))
async def test_to_cancel_the_block_starts_nobody_again(autojump_clock: MockClock, restart: Restart) -> None:
    """G15."""
    events: list[SystemEvent] = []

    class Once(Doer):
        def started(self, context: Context[Doing]) -> None:
            assert Started not in map(type, events)

    with trio.move_on_after(1), ExitStack() as listening:
        async with open_system() as system:
            listening.enter_context(system.on_event(events.append))
            ref = await system.spawn(Once, supervision=Supervision(restart=restart, stop_budget=2))
            ref.tell(Do(taking(100)))
            await trio.sleep_forever()
    assert [type(event) for event in events] == [Started, Failed, Stopped]
    assert [type(failed.error) for failed in system.failures] == [StopOverran]


# -- the end of the block


async def test_draining_has_an_end(autojump_clock: MockClock) -> None:
    """G17."""
    async with open_system(drain=3) as system:
        ref = await system.spawn(Doer, supervision=Supervision(stop_budget=2))
        ref.tell(Do(taking(1000)))
        await trio.sleep(1)
        left = trio.current_time()
    assert trio.current_time() - left == pytest.approx(5)


# -- families


def arm(doer: Doer, context: Context[Doing]) -> None:
    context.set_timer("t", 1000, Do(noting([], "")))


def run(doer: Doer, context: Context[Doing]) -> None:
    context.start_soon(trio.sleep, 1000)


def spawn(doer: Doer, context: Context[Doing]) -> Coroutine[Any, Any, None]:
    async def spawn() -> None:
        await context.spawn(Doer, name="child")

    return spawn()


def watch(other: Ref[Doing]) -> Work:
    return lambda doer, context: context.watch(other, lambda exit_: Do(noting([], "")))


@pytest.mark.parametrize("what", ["timer", "task", "watch", "child", "stashed message", "answer", "nothing"])
async def test_a_member_sleeps_only_when_nothing_is_left_to_do(system: System, what: str) -> None:
    """G19."""
    other = await system.spawn(Doer, name="other")
    family = system.family(Doer, name="f", idle=10)
    works: dict[str, Work] = {
        "timer": arm,
        "task": run,
        "watch": watch(other),
        "child": spawn,
        "stashed message": put_aside,
        "answer": defer,
        "nothing": noting([], ""),
    }

    async def ask() -> None:
        with pytest.raises(ActorStopped):
            await family["a"].ask(Get(defer))

    async with trio.open_nursery() as nursery:
        if what == "answer":
            nursery.start_soon(ask)
        else:
            family["a"].tell(Do(works[what]))
        await trio.sleep(100)
        assert len(family) == (what != "nothing")
        await system.stop(family["a"])
    system.dead_letters.clear()  # what was put aside
