"""Groups of children: who is started again with whom, in which order, and when enough is enough."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from relay.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    Ask,
    AutoShutdown,
    Child,
    Context,
    Quarantined,
    Restart,
    RestartsExhausted,
    Step,
    Strategy,
    Supervision,
    Supervisor,
    System,
    SystemEvent,
    Tell,
    open_system,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


class Working:
    """What the children understand."""


@attrs.frozen
class Crash(Tell[Working]):
    pass


@attrs.frozen
class Finish(Tell[Working]):
    pass


@attrs.frozen
class Born(Ask[Working, int]):
    """The number of the incarnation."""


class Log:
    """What happened to the children, in order; and whose next starts are to fail."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.born: dict[str, int] = {}
        self.failing: dict[str, int] = {}

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


class Worker(Actor[Working]):
    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self.log = log

    async def started(self, context: Context[Working]) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        self.log.born[self.name] = self.log.born.get(self.name, 0) + 1
        if self.log.failing.get(self.name, 0):
            self.log.failing[self.name] -= 1
            raise ValueError("cannot start")
        self.log.lines.append(f"+{self.name}")

    def handle(self, message: Crash | Finish | Born, context: Context[Working]) -> Step:
        match message:
            case Crash():
                raise ValueError("as told")
            case Finish():
                context.stop()
            case Born():
                context.reply(message, self.log.born[self.name])
        return None

    async def stopped(self, context: Context[Working]) -> None:  # type: ignore[override]
        await trio.sleep(0.01)
        self.log.lines.append(f"-{self.name}")


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system(seed=1) as system:
        yield system


@pytest.fixture
def log() -> Log:
    return Log()


def team(log: Log, **restarts: Restart) -> list[Child[Working]]:
    return [
        Child(Worker, name, log, name=name, restart=restarts.get(name, Restart.TRANSIENT)) for name in "abc"
    ]


@pytest.mark.parametrize(
    ("strategy", "then"),
    [
        (Strategy.ONE_FOR_ONE, ["-b", "+b"]),
        (Strategy.ONE_FOR_ALL, ["-b", "-c", "-a", "+a", "+b", "+c"]),
        (Strategy.REST_FOR_ONE, ["-b", "-c", "+b", "+c"]),
    ],
)
async def test_the_strategy_says_who_is_started_again(
    autojump_clock: MockClock, system: System, log: Log, strategy: Strategy, then: list[str]
) -> None:
    children = team(log)
    group = await system.spawn(Supervisor, children, strategy)
    assert log.take() == ["+a", "+b", "+c"]
    refs = [child.ref for child in children]
    children[1].ref.tell(Crash())
    with trio.fail_after(5):
        assert await children[1].ref.ask(Born()) == 2
    await trio.sleep(1)
    assert log.take() == then
    assert [child.ref for child in children] == refs
    await system.stop(group)
    assert log.take() == ["-c", "-b", "-a"]
    with pytest.raises(ActorStopped):
        await children[0].ref.ask(Born())


async def test_the_group_may_be_restarted_while_it_restarts(
    autojump_clock: MockClock, system: System, log: Log
) -> None:
    children = team(log)
    await system.spawn(Supervisor, children, Strategy.ONE_FOR_ALL)
    log.failing["b"] = 2
    log.take()
    children[2].ref.tell(Crash())
    assert await children[2].ref.ask(Born()) == 2
    assert await children[1].ref.ask(Born()) == 4
    assert [line for line in log.take() if line.startswith("+")] == ["+a", "+a", "+a", "+b", "+c"]


async def test_what_is_sent_during_a_restart_is_handled_afterwards(
    autojump_clock: MockClock, system: System, log: Log
) -> None:
    children = team(log)
    await system.spawn(Supervisor, children, Strategy.ONE_FOR_ALL)
    born: list[int] = []

    async def ask(child: Child[Working]) -> None:
        born.append(await child.ref.ask(Born()))

    children[0].ref.tell(Crash())
    async with trio.open_nursery() as nursery:
        for child in children:
            for _ in range(5):
                nursery.start_soon(ask, child)
                await trio.sleep(0.02)
    assert len(born) == 15
    assert set(born) <= {1, 2}


async def test_a_temporary_child_ends_with_the_others_and_stays_away(
    autojump_clock: MockClock, system: System, log: Log
) -> None:
    children = team(log, c=Restart.TEMPORARY)
    await system.spawn(Supervisor, children, Strategy.ONE_FOR_ALL)
    children[0].ref.tell(Crash())
    await trio.sleep(2)
    assert log.take() == ["+a", "+b", "+c", "-a", "-c", "-b", "+a", "+b"]
    children[0].ref.tell(Crash())
    await trio.sleep(2)
    assert log.take() == ["-a", "-b", "+a", "+b"]


async def test_an_end_without_failure_is_followed_by_a_restart_only_if_permanent(
    autojump_clock: MockClock, system: System, log: Log
) -> None:
    children = team(log, a=Restart.PERMANENT)
    await system.spawn(Supervisor, children, Strategy.REST_FOR_ONE)
    children[1].ref.tell(Finish())
    await trio.sleep(1)
    assert log.take() == ["+a", "+b", "+c", "-b"]
    children[0].ref.tell(Finish())
    await trio.sleep(1)
    assert log.take() == ["-a", "-c", "+a", "+c"]


async def test_failures_of_all_children_count_toward_one_budget(autojump_clock: MockClock, log: Log) -> None:
    children = team(log)
    with pytest.raises(ExceptionGroup) as raised:
        async with open_system() as system:
            await system.spawn(
                Supervisor,
                children,
                Strategy.ONE_FOR_ONE,
                Supervision(restarts=3, within=30),
                name="group",
                supervision=Supervision(restarts=0),
            )
            for child in [*children, children[0]]:
                child.ref.tell(Crash())
                await trio.sleep(1)
            await trio.sleep_forever()
    [exhausted] = raised.value.exceptions
    assert isinstance(exhausted, RestartsExhausted)
    assert isinstance(exhausted.__cause__, RestartsExhausted)
    assert "the children of group, group/a last, failed more than 3 times within 30 s" in str(
        exhausted.__cause__
    )


async def test_a_supervisor_that_gave_up_is_itself_restarted(
    autojump_clock: MockClock, system: System, log: Log
) -> None:
    children = team(log)
    outer = Child(Supervisor, children, Strategy.ONE_FOR_ONE, Supervision(restarts=0), name="inner")
    await system.spawn(Supervisor, [outer], name="outer")
    before = children[0].ref
    children[1].ref.tell(Crash())
    await trio.sleep(5)
    assert log.take() == ["+a", "+b", "+c", "-b", "-c", "-a", "+a", "+b", "+c"]
    assert await children[0].ref.ask(Born()) == 2
    with pytest.raises(ActorStopped):
        await before.ask(Born())


@pytest.mark.parametrize(
    ("auto_shutdown", "ends_at"),
    [(AutoShutdown.NEVER, None), (AutoShutdown.ANY_SIGNIFICANT, 1), (AutoShutdown.ALL_SIGNIFICANT, 2)],
)
async def test_a_group_ends_with_its_significant_children(
    autojump_clock: MockClock, system: System, log: Log, auto_shutdown: AutoShutdown, ends_at: int | None
) -> None:
    children = [Child(Worker, name, log, name=name, significant=name != "c") for name in "abc"]
    await system.spawn(Supervisor, children, Strategy.ONE_FOR_ONE, None, auto_shutdown)
    children[2].ref.tell(Finish())
    children[0].ref.tell(Crash())
    await trio.sleep(1)
    ended: int | None = None
    for number, child in enumerate(children[:2], start=1):
        child.ref.tell(Finish())
        await trio.sleep(1)
        if not system.snapshot():
            ended = number
            break
    assert ended == ends_at
    assert len(system.failures) == 1


async def test_a_child_that_cannot_start_fails_the_start_of_its_group(
    autojump_clock: MockClock, system: System, log: Log
) -> None:
    log.failing["b"] = 1
    with pytest.raises(ValueError, match="cannot start"):
        await system.spawn(Supervisor, team(log))
    await trio.sleep(1)
    assert log.take() == ["+a", "-b", "-a"]
    assert system.snapshot() == []


async def test_a_child_that_does_not_end_is_cut_short_and_named(autojump_clock: MockClock, log: Log) -> None:
    class Stubborn(Worker):
        async def handle(self, message: Crash | Finish | Born, context: Context[Working]) -> None:  # type: ignore[override]
            await trio.sleep_forever()

    async with open_system() as system:
        slow = Child(Stubborn, "s", log, name="slow", stop_budget=3)
        other = Child(Worker, "o", log, name="other")
        await system.spawn(Supervisor, [slow, other], Strategy.ONE_FOR_ALL, name="group")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises((ActorStopped, ActorFailed)):
                    await slow.ref.ask(Born())

            nursery.start_soon(ask)
            await trio.sleep(1)
            other.ref.tell(Crash())
            await trio.sleep(10)
        assert [line for line in log.take() if line.startswith("+")] == ["+s", "+o", "+s", "+o"]
        assert "group/slow did not stop within 3" in str(system.failures[-1])


class Slow(Worker):
    """Takes a second to start, and notes who runs when it does."""

    async def started(self, context: Context[Working]) -> None:  # type: ignore[override]
        await trio.sleep(1)
        await super().started(context)


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_what_fails_while_the_others_are_first_started_is_restarted_with_them(
    autojump_clock: MockClock, system: System, log: Log, strategy: Strategy
) -> None:
    children = [*team(log)[:2], Child(Slow, "c", log, name="c")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(system.spawn, Supervisor, children, strategy)
        await trio.sleep(0.5)
        children[0].ref.tell(Crash())
        await trio.sleep(0.4)
        assert log.lines == ["+a", "+b", "-a"], "nobody is ended or started but by the supervisor's start"
    await trio.sleep(5)
    assert log.take() == ["+a", "+b", "-a", "+c", "-c", "-b", "+a", "+b", "+c"]


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_nobody_is_started_while_one_it_depends_on_is_down(
    autojump_clock: MockClock, system: System, log: Log, strategy: Strategy
) -> None:
    children = team(log)
    await system.spawn(Supervisor, children, strategy, Supervision(backoff=1, jitter=0))
    children[1].ref.tell(Crash())
    await trio.sleep(0.5)
    assert log.take()[3:] == ["-b", "-c"] + ["-a"] * (strategy is Strategy.ONE_FOR_ALL)
    if strategy is Strategy.REST_FOR_ONE:
        children[0].ref.tell(Crash())
        await trio.sleep(0.4)
        assert log.take() == ["-a"]
    await trio.sleep(5)
    assert log.take() == ["+a", "+b", "+c"]


@pytest.mark.parametrize("last", [Crash(), Finish()])
@pytest.mark.parametrize("auto_shutdown", [AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT])
async def test_a_temporary_significant_child_counts_however_it_ends(
    autojump_clock: MockClock, system: System, log: Log, auto_shutdown: AutoShutdown, last: Tell[Working]
) -> None:
    children = [
        Child(Worker, name, log, name=name, significant=name == "b", restart=Restart.TEMPORARY)
        for name in "ab"
    ]
    await system.spawn(partial(Supervisor, auto_shutdown=auto_shutdown), children)
    children[0].ref.tell(Crash())
    await trio.sleep(1)
    assert len(system.snapshot()) == 1
    children[1].ref.tell(last)
    await trio.sleep(1)
    assert system.snapshot() == []


@pytest.mark.parametrize("auto_shutdown", [AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT])
async def test_a_significant_child_that_is_stopped_from_outside_ends_no_group(
    autojump_clock: MockClock, system: System, log: Log, auto_shutdown: AutoShutdown
) -> None:
    children = [Child(Worker, name, log, name=name, significant=name != "c") for name in "abc"]
    await system.spawn(partial(Supervisor, auto_shutdown=auto_shutdown), children)
    await system.stop(children[0].ref)
    await trio.sleep(1)
    assert len(system.snapshot()) == 1
    children[1].ref.tell(Finish())
    await trio.sleep(1)
    assert system.snapshot() == [], "there is no other significant one left"


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_child_with_a_budget_of_its_own_is_quarantined_alone(
    autojump_clock: MockClock, system: System, log: Log, strategy: Strategy
) -> None:
    pool = [
        Child(Worker, name, log, name=name, supervision=Supervision(restarts=2, within=60)) for name in "abc"
    ]
    happened: list[SystemEvent] = []
    group = await system.spawn(Supervisor, pool, strategy, Supervision(restarts=0), name="pool")
    with system.on_event(happened.append):
        for child in (pool[0], pool[1], pool[1], pool[2]):
            child.ref.tell(Crash())
            await trio.sleep(5)
        assert not [event for event in happened if isinstance(event, Quarantined)]
        before = {name: log.born[name] for name in "ac"}
        pool[1].ref.tell(Crash())
        await trio.sleep(5)
    assert {name: log.born[name] for name in "ac"} == before, "its siblings are left alone"
    (event,) = [event for event in happened if isinstance(event, Quarantined)]
    assert event.address == "pool/b"
    assert "pool/b failed more than 2 times within 60 s" in str(event.error)
    assert isinstance(event.error.__cause__, ValueError)
    with pytest.raises(ActorStopped):
        await pool[1].ref.ask(Born())
    for child in (pool[0], pool[2]):
        child.ref.tell(Crash())
        with trio.fail_after(10):
            await trio.sleep(5)
            assert await child.ref.ask(Born()) > before[child.name]
    await system.stop(group)


async def test_a_significant_child_in_quarantine_has_ended_for_good(
    autojump_clock: MockClock, system: System, log: Log
) -> None:
    frail = Child(Worker, "a", log, name="a", significant=True, supervision=Supervision(restarts=0))
    ending = partial(Supervisor, auto_shutdown=AutoShutdown.ALL_SIGNIFICANT)
    await system.spawn(ending, [frail, *team(log)[1:]])
    frail.ref.tell(Crash())
    await trio.sleep(1)
    assert system.snapshot() == []


def test_what_a_budget_would_ignore_is_refused(log: Log) -> None:
    for budget in (Supervision(restart=Restart.TEMPORARY), Supervision(stop_budget=1)):
        with pytest.raises(ValueError, match=r"give them to Child"):
            Supervisor([], budget=budget)
    with pytest.raises(ValueError, match="to the Supervision of this child"):
        Child(Worker, "a", log, supervision=Supervision(), restart=Restart.TEMPORARY)
    with pytest.raises(ValueError, match="to the Supervision of this child"):
        Child(Worker, "a", log, supervision=Supervision(), stop_budget=1)


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_fails_whenever_the_group_comes_back_whole(
    autojump_clock: MockClock, log: Log, seed: int
) -> None:
    """After any crashes and failing starts: everybody runs once, in order, and nothing sent was lost."""
    chance = random.Random(seed)
    strategy = chance.choice([Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
    children = team(log)
    answered = 0
    async with open_system(seed=seed) as system:
        await system.spawn(Supervisor, children, strategy, Supervision(restarts=100, within=10))

        async def ask(child: Child[Working]) -> None:
            nonlocal answered
            await child.ref.ask(Born())
            answered += 1

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                child = chance.choice(children)
                match chance.randrange(4):
                    case 0:
                        child.ref.tell(Crash())
                    case 1:
                        log.failing[child.name] = 1
                    case _:
                        nursery.start_soon(ask, child)
                await trio.sleep(chance.choice([0, 0.005, 0.05, 1]))
        await trio.sleep(60)
        [info] = system.snapshot()
        assert [child.state for child in info.children] == ["running"] * 3
        assert answered > 0
    running: list[str] = []
    for line in log.take():
        if line.startswith("+"):
            assert line[1:] not in running
            assert all(name < line[1:] for name in running), "a child was started before one it depends on"
            running.append(line[1:])
        elif line[1:] in running:
            running.remove(line[1:])
    assert running == []
