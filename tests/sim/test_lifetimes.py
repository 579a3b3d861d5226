"""What begins, ends and sleeps, and who waits for whom, under every schedule: incarnations, family members, circles."""

from __future__ import annotations

import attrs
import trio
from test_runtime import PATIENT, Counting, Note, Tick, Work, Worker, World

from relay.actors import (
    Actor,
    Ask,
    Child,
    Context,
    DeadlockError,
    Ref,
    Reply,
    Step,
    Strategy,
    Supervisor,
    Tell,
    open_system,
)
from relay.testing import Faults, Sim, simulate

LONG = 70  # seconds: longer than an idle member is awake


class Tail(Actor[Counting]):
    """A child that takes time to end."""

    def __init__(self, world: World, key: str) -> None:
        self.world = world
        self.key = key

    def started(self, context: Context[Counting]) -> None:
        self.world.tails[self.key] += 1

    def handle(self, message: Note | Work | Tick, context: Context[Counting]) -> None: ...

    async def stopped(self, context: Context[Counting]) -> None:  # type: ignore[override]
        await trio.sleep(0.5)
        self.world.tails[self.key] -= 1


class Household(Worker):
    """A worker with a child and a task, of which neither ends at once."""

    async def started(self, context: Context[Counting]) -> None:
        await super().started(context)
        await context.spawn(Tail, self.world, self.key, name="child", supervision=PATIENT)
        context.start_soon(self._run)

    async def _run(self) -> None:
        self.world.tails[self.key] += 1
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.25)
            self.world.tails[self.key] -= 1


@simulate(runs=100, faults=Faults(crash=0.05))
async def test_an_incarnation_has_ended_as_a_whole_before_the_next_one_begins(sim: Sim) -> None:
    world = World()
    sim.always(lambda: not world.left_behind, "its children and tasks end first")
    strategy = list(Strategy)[sim.choose(3)]
    children = [Child(Household, world, name, name=name) for name in "ab"]
    async with open_system() as system:
        await system.spawn(Supervisor, children, strategy, PATIENT, name="group", supervision=PATIENT)
        for number in range(5):
            for child in children:
                child.ref.tell(Note(child.name, number))
            await trio.sleep(sim.choose(3))
        await trio.sleep(60)
        assert world.alive == {"a": 1, "b": 1}
        assert world.most_alive == 1
    assert not world.alive.total()
    assert not world.tails.total()


class Keeping:
    """What the members of a family understand that have something left to do."""


@attrs.frozen
class Begin(Tell[Keeping]):
    what: str


@attrs.frozen
class Owe(Ask[Keeping, None]):
    pass


@attrs.frozen
class Done(Tell[Keeping]):
    what: str


class Member(Actor[Keeping]):
    """Begins what it is told, and has it done when the time has come, if it has not slept meanwhile."""

    def __init__(self, other: Ref[Counting], done: list[str]) -> None:
        self.other = other
        self.done = done
        self.owed: Reply[None] | None = None
        self.put_aside = False

    def handle(self, message: Begin | Owe | Done, context: Context[Keeping]) -> Step:
        match message:
            case Begin("timer"):
                context.set_timer("timer", LONG, Done("timer"))
            case Begin("task"):
                context.start_soon(self._run)
            case Begin("watch"):
                context.watch(self.other, lambda exit_: Done("watch"))
            case Begin("child"):
                return self._spawn(context)
            case Begin("stash") if not self.put_aside:
                self.put_aside = True
                context.stash(message)
            case Owe():
                self.owed = context.defer(message)
            case Done("owe") if self.owed is not None:
                self.owed.set(None)
            case Done("stash"):
                context.unstash()
            case Begin() | Done():
                self.done.append(message.what)
        return None

    async def _run(self) -> None:
        await trio.sleep(LONG)
        self.done.append("task")

    async def _spawn(self, context: Context[Keeping]) -> None:
        await context.spawn(Brief, self.done)


class Brief(Actor[Keeping]):
    """A child that ends by itself after a while."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def started(self, context: Context[Keeping]) -> None:
        context.set_timer("end", LONG, Done("child"))

    def handle(self, message: Begin | Owe | Done, context: Context[Keeping]) -> None:
        self.done.append("child")
        context.stop()


class Watcher(Actor[Keeping]):
    def __init__(self, watched: list[Ref[Keeping]], done: list[str]) -> None:
        self.watched = watched
        self.done = done

    def started(self, context: Context[Keeping]) -> None:
        for ref in self.watched:
            context.watch(ref, lambda exit_: Done(exit_.address))

    def handle(self, message: Begin | Owe | Done, context: Context[Keeping]) -> None:
        assert isinstance(message, Done)
        self.done.append(message.what)


@simulate(runs=60, faults=Faults(delay=0.05))
async def test_a_member_stays_awake_while_it_has_something_to_do_and_to_sleep_is_not_to_stop(
    sim: Sim,
) -> None:
    begun: dict[str, str] = {}
    done: list[str] = []
    stopped: list[str] = []
    async with open_system() as system:
        other = await system.spawn(Worker, World(), name="other")
        family = system.family(lambda _: Member(other, done), name="f", idle=20)
        await system.spawn(Watcher, [family[key] for key in "ab"], stopped, name="watcher")

        async def client(key: str) -> None:
            await trio.sleep(sim.choose(3))
            what = begun[key] = ["timer", "task", "watch", "child", "stash", "owe"][sim.choose(6)]
            if what == "owe":
                await family[key].ask(Owe())
                done.append("owe")
            else:
                family[key].tell(Begin(what))

        async with trio.open_nursery() as nursery:
            for key in "ab":
                nursery.start_soon(client, key)
            await trio.sleep(LONG)
            assert len(family) == 2
            await system.stop(other)
            for key, what in begun.items():
                if what in ("stash", "owe"):
                    family[key].tell(Done(what))
        await trio.sleep(200)
        assert not len(family)
        assert sorted(done) == sorted(begun.values())
        assert not stopped
        await family.stop()
        await system.idle()
        assert sorted(stopped) == ["f/a", "f/b"]


class Asking:
    """What actors understand that ask each other."""


@attrs.frozen
class Along(Ask[Asking, str]):
    """Ask the next of `path` the same. The answer is how far it came."""

    path: str


class Asker(Actor[Asking]):
    def __init__(self, others: dict[str, Ref[Asking]]) -> None:
        self.others = others

    async def handle(self, message: Along, context: Context[Asking]) -> None:
        path = message.path
        try:
            answer = await self.others[path[0]].ask(Along(path[1:])) if path else "."
        except DeadlockError:
            answer = "circle"
        context.reply(message, path[:1] + answer)


@simulate(runs=60, faults=Faults(delay=0.05))
async def test_actors_that_ask_each_other_never_wait_for_ever(sim: Sim) -> None:
    others: dict[str, Ref[Asking]] = {}
    circles = 0
    sim.sometimes(lambda: circles > 0, "there was a circle")
    async with open_system() as system:
        for name in "abc":
            others[name] = await system.spawn(Asker, others, name=name)

        async def ask(first: str) -> None:
            nonlocal circles
            path = "".join("abc"[sim.choose(3)] for _ in range(3))
            with trio.move_on_after(500) as limit:
                answer = await others[first].ask(Along(path))
                assert answer == f"{path}." or answer.endswith("circle")
                circles += answer.endswith("circle")
            assert not limit.cancelled_caught, "somebody waits for ever"

        async with trio.open_nursery() as nursery:
            for first in "abc":
                nursery.start_soon(ask, first)
        for first in "abc":
            assert await others[first].ask(Along("")) == ".", "everybody goes on"
