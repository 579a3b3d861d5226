"""The runtime's promises, under every schedule and with crashes: order, fates, answers, restarts, families, groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from functools import partial

import attrs
import trio

from relay.actors import (
    Actor,
    ActorError,
    ActorStopped,
    Ask,
    Bounds,
    Child,
    Context,
    MailboxFull,
    Refusal,
    Reply,
    Step,
    Strategy,
    Supervision,
    Supervisor,
    Tell,
    open_system,
)
from relay.testing import Faults, Sim, simulate

PATIENT = Supervision(restarts=1000, within=1, backoff=0.1)


class Counting:
    """What the counters understand."""


@attrs.frozen
class Note(Tell[Counting]):
    sender: str
    number: int
    kind: int = 0
    """1 takes time; from 2 on until the next tick whatever comes is put aside; 3 crashes."""


@attrs.frozen
class Work(Ask[Counting, int]):
    sender: str
    number: int
    kind: int
    """0 answers at once, 1 later, 2 defers, 3 refuses, 4 forgets to answer, 5 crashes, 6 stashes once, 7 forgets it later."""


@attrs.frozen
class Tick(Tell[Counting]):
    pass


class World:
    """What really happened."""

    def __init__(self) -> None:
        self.handled: list[tuple[str, int]] = []
        self.left: set[tuple[str, int]] = set()
        self.too_late: list[tuple[str, int]] = []
        self.alive: Counter[str] = Counter()
        self.most_alive = 0
        self.most_in_hand = 0
        self.ticks = 0
        self.tails: Counter[str] = Counter()
        self.left_behind: list[str] = []
        self.out_of_order: list[str] = []

    def begin(self, key: str) -> None:
        self.alive[key] += 1
        self.most_alive = max(self.most_alive, self.alive[key])
        self.nothing_left(key)
        self.out_of_order += [key for other, alive in self.alive.items() if alive and other > key]

    def end(self, key: str) -> None:
        self.alive[key] -= 1

    def handle(self, sender: str, number: int) -> None:
        self.handled.append((sender, number))
        if (sender, number) in self.left:
            self.too_late.append((sender, number))

    def nothing_left(self, key: str) -> None:
        """Of an incarnation whose `stopped` hook runs, or whose successor begins."""
        if self.tails[key]:
            self.left_behind.append(key)


class Worker(Actor[Counting]):
    def __init__(self, world: World, key: str = "one") -> None:
        self.world = world
        self.key = key
        self.stashed: set[tuple[str, int]] = set()
        self.stashing = False
        self.begun = False
        self.in_hand = 0

    async def started(self, context: Context[Counting]) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        self.world.begin(self.key)
        self.begun = True

    async def stopped(self, context: Context[Counting]) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        if self.begun:
            self.world.nothing_left(self.key)
            self.world.end(self.key)

    def handle(self, message: Note | Work | Tick, context: Context[Counting]) -> Step:
        self.in_hand += 1
        self.world.most_in_hand = max(self.world.most_in_hand, self.in_hand)
        step = None
        try:
            step = self._begin(message, context)
        finally:
            self.in_hand -= step is None
        return None if step is None else self._finish(step)

    async def _finish(self, step: Awaitable[None]) -> None:
        try:
            await step
        finally:
            self.in_hand -= 1

    def _begin(self, message: Note | Work | Tick, context: Context[Counting]) -> Step:
        match message:
            case Note(sender, number, kind):
                if kind == 2 and (sender, number) not in self.stashed:
                    self.stashing = True
                if self.stashing:
                    self._put_aside(message, context)
                    return None
                self.world.handle(sender, number)
                if kind == 3:
                    raise ValueError("as told")
                return self._take_time() if kind == 1 else None
            case Work(sender, number, kind):
                if kind == 6 and (sender, number) not in self.stashed:
                    self._put_aside(message, context)
                    return None
                self.world.handle(sender, number)
                return self._work(message, kind, context)
            case Tick():
                self.stashing = False
                self.world.ticks += 1
                context.unstash()
        return None

    def _put_aside(self, message: Note | Work, context: Context[Counting]) -> None:
        self.stashed.add((message.sender, message.number))
        context.stash(message)
        context.set_timer("unstash", 1, Tick())

    def _work(self, message: Work, kind: int, context: Context[Counting]) -> Step:
        match kind:
            case 1:
                return self._later(message, context)
            case 2:
                slot = context.defer(message)
                context.start_soon(self._answer, slot, message.number)
            case 3:
                raise Refusal("no")
            case 4:
                pass
            case 5:
                raise ValueError("as told")
            case 7:
                return self._take_time()
            case _:
                context.reply(message, message.number)
        return None

    async def _take_time(self) -> None:
        await trio.sleep(0.5)

    async def _later(self, message: Work, context: Context[Counting]) -> None:
        await trio.sleep(0.5)
        context.reply(message, message.number)

    async def _answer(self, slot: Reply[int], number: int) -> None:
        await trio.sleep(1)
        slot.set(number)


@simulate(runs=150, faults=Faults(crash=0.02, delay=0.02), keeps_failures=True)
async def test_every_message_meets_one_fate_and_every_asker_is_answered(sim: Sim) -> None:
    world = World()
    told = asked = full = answered = 0
    sim.always(lambda: world.most_in_hand <= 1, "one message at a time")
    async with open_system() as system:
        bounds = Bounds(capacity=6)
        brief = attrs.evolve(PATIENT, stop_budget=0.1)
        worker = await system.spawn(Worker, world, name="worker", supervision=brief, bounds=bounds)

        async def client(name: str) -> None:
            nonlocal told, asked, full, answered
            for number in range(8):
                if sim.choose(2):
                    try:
                        worker.tell(Note(name, number, sim.choose(4)))
                        told += 1
                    except MailboxFull:
                        full += 1
                    except ActorStopped:
                        pass
                    continue
                patience = sim.choose(4)
                stopped = worker._cell.closed
                try:
                    with trio.move_on_after(patience or 500) as limit:
                        asked += not stopped
                        answer = await worker.ask(Work(name, number, sim.choose(8)))
                        assert answer == number
                        answered += 1
                except MailboxFull:
                    asked -= 1
                except (ActorError, Refusal):
                    pass
                if limit.cancelled_caught:
                    world.left.add((name, number))
                assert patience or not limit.cancelled_caught, "an asker was left without an answer"

        async def stop() -> None:
            if sim.choose(3) == 2:
                await trio.sleep(sim.choose(8) / 4)
                await system.stop(worker)

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(client, name)
            nursery.start_soon(stop)
        await trio.sleep(60)
        await system.idle()
        assert world.most_alive <= 1
    lost_ticks = sum(isinstance(letter.message, Tick) for letter in system.dead_letters)
    accepted = told + asked + world.ticks + lost_ticks
    assert sum(attrs.astuple(system.fates)) == accepted
    assert len(set(world.handled)) == len(world.handled), "nothing is handled twice"
    assert not world.too_late, "what nobody waits for costs no work"
    assert not world.alive.total(), "nothing outlives the block"
    for name in ("a", "b", "c"):
        numbers = [number for sender, number in world.handled if sender == name]
        assert len(numbers) == len(set(numbers))


@simulate(runs=150, faults=Faults(crash=0.03, delay=0.03))
async def test_what_one_sender_tells_arrives_in_order(sim: Sim) -> None:
    world = World()
    sim.always(lambda: world.most_in_hand <= 1, "one message at a time")
    async with open_system() as system:
        worker = await system.spawn(Worker, world, name="worker", supervision=PATIENT)

        async def client(name: str) -> None:
            for number in range(10):
                await worker.send(Note(name, number, sim.choose(3)))
                await trio.sleep(sim.choose(3) / 2)

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(client, name)
        await trio.sleep(60)
        await system.idle()
    for name in ("a", "b", "c"):
        assert [number for sender, number in world.handled if sender == name] == list(range(10))


@simulate(runs=150, faults=Faults(crash=0.03, delay=0.05, longest=100))
async def test_a_key_has_one_activation_at_a_time_and_nothing_sent_to_it_is_lost(sim: Sim) -> None:
    world = World()
    sim.sometimes(lambda: passivated[0] > 0, "a member fell asleep")
    passivated = [0]
    async with open_system() as system:
        family = system.family(partial(Worker, world), name="f", idle=20, supervision=PATIENT)
        sent: Counter[str] = Counter()

        async def client(name: str) -> None:
            for number in range(6):
                key = f"k{sim.choose(2)}"
                family[key].tell(Note(f"{name}/{key}", number))
                sent[name] += 1
                await trio.sleep([0, 1, 19, 21, 45][sim.choose(5)])
                passivated[0] += not len(family)

        async with trio.open_nursery() as nursery:
            for name in ("a", "b"):
                nursery.start_soon(client, name)
        await trio.sleep(1000)
        assert world.most_alive <= 1
        assert not len(family)
    assert len(world.handled) == sum(sent.values())
    for stream in {sender for sender, _ in world.handled}:
        numbers = [number for sender, number in world.handled if sender == stream]
        assert numbers == sorted(numbers)


@simulate(runs=100, faults=Faults(crash=0.05, only=("*/?",)))
async def test_a_group_always_comes_back_whole(sim: Sim) -> None:
    world = World()
    strategy = [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE][sim.choose(2)]
    children = [Child(Worker, world, name, name=name) for name in "abc"]
    async with open_system() as system:
        await system.spawn(Supervisor, children, strategy, PATIENT, name="group")
        for number in range(10):
            for child in children:
                child.ref.tell(Note(child.name, number))
            await trio.sleep(sim.choose(3))
        await trio.sleep(60)
        assert world.alive == {"a": 1, "b": 1, "c": 1}
        assert world.most_alive == 1
        assert not world.out_of_order, "a child is started when those after it have ended"
        for name in "abc":
            assert [number for sender, number in world.handled if sender == name] == list(range(10))


@simulate(runs=100, faults=Faults(crash=0.05, only=("*/?",)))
async def test_a_child_that_is_stopped_for_good_leaves_the_others_whole(sim: Sim) -> None:
    world = World()
    strategy = list(Strategy)[sim.choose(3)]
    children = [Child(Worker, world, name, name=name) for name in "abc"]
    async with open_system() as system:
        await system.spawn(Supervisor, children, strategy, PATIENT, name="group")
        for number in range(5):
            for child in children[1:]:
                child.ref.tell(Note(child.name, number))
            if number == 2:
                await sim.pause(1)
                await system.stop(children[0].ref)
            await trio.sleep(sim.choose(3))
        await trio.sleep(60)
        assert world.alive == {"a": 0, "b": 1, "c": 1}
        for name in "bc":
            assert [number for sender, number in world.handled if sender == name] == list(range(5))
        assert not [failed for failed in system.failures if failed.address == "group"]


class Dependent(Actor[Counting]):
    """Cannot do without those before it."""

    def __init__(self, up: dict[str, bool], down: list[str], key: str) -> None:
        self.up = up
        self.down = down
        self.key = key

    def started(self, context: Context[Counting]) -> Step:
        if self.key in self.up:  # not the first time, when what fails meanwhile is restarted afterwards
            self.down += [other for other, up in self.up.items() if other < self.key and not up]
        return self._start()

    async def _start(self) -> None:
        await trio.sleep(0.3)
        self.up[self.key] = True

    def stopped(self, context: Context[Counting]) -> Step:
        self.up[self.key] = False
        return trio.sleep(0.5)

    def handle(self, message: Note | Work | Tick, context: Context[Counting]) -> None:
        pass


@simulate(runs=150, faults=Faults(crash=0.1, only=("*/?",)))
async def test_nobody_is_started_again_while_one_it_depends_on_is_down(sim: Sim) -> None:
    down: list[str] = []
    up: dict[str, bool] = {}
    strategy = [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE][sim.choose(2)]
    children = [Child(Dependent, up, down, name, name=name) for name in "abc"]
    async with open_system() as system:
        await system.spawn(Supervisor, children, strategy, PATIENT, name="group")
        for number in range(8):
            children[sim.choose(3)].ref.tell(Note("test", number))
            await trio.sleep([0, 0.2, 0.7, 3][sim.choose(4)])
        await trio.sleep(60)
        assert down == []
        assert up == {"a": True, "b": True, "c": True}


class Ordering(Actor[Counting]):
    """Arms, rearms and cancels a timer and a periodic one; every tick must be one that is still wanted."""

    def __init__(self, stale: list[str], ticks: list[int], born: list[int]) -> None:
        self.stale = stale
        self.ticks = ticks
        self.me = len(born)
        born.append(self.me)
        self.wanted: dict[str, int] = {}

    async def handle(self, message: Note | Work | Tick, context: Context[Counting]) -> None:  # type: ignore[override]
        match message:
            case Note("test", number):
                key = f"{self.me}/{number % 2}"
                await trio.sleep(0.5)
                match number // 2 % 3:
                    case 0 | 1:
                        self.wanted[key] = number
                        every = 0.3 if number % 2 else None
                        context.set_timer(key[-1], 0.2, Note(key, number), every=every)
                    case _:
                        self.wanted.pop(key, None)
                        context.cancel_timer(key[-1])
                await trio.sleep(0.5)
            case Note(key, number):
                self.ticks.append(number)
                if self.wanted.get(key) != number:
                    self.stale.append(f"{key}: {number}")
                if not number % 2:
                    del self.wanted[key]


@simulate(runs=150, faults=Faults(crash=0.05, delay=0.05))
async def test_what_a_timer_has_ordered_is_handled_only_while_it_is_wanted(sim: Sim) -> None:
    stale: list[str] = []
    ticks: list[int] = []
    born: list[int] = []
    sim.sometimes(lambda: len(ticks) > 3, "several ticks were handled")
    async with open_system() as system:
        ref = await system.spawn(Ordering, stale, ticks, born, supervision=PATIENT, name="ordering")
        for _ in range(12):
            ref.tell(Note("test", sim.choose(6)))
            await trio.sleep([0, 0.4, 1, 2][sim.choose(4)])
        await trio.sleep(60)
        assert stale == []
        await system.stop(ref)
    assert not system.dead_letters
