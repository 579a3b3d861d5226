"""Runs of recipes under every schedule: hosts that report twice, late or never, agents that go in the middle of a task and others
who would take it, people who decide and stop, crashes of every actor, commits that fail, servers that end.

What is counted is what was done in the world: by hosts that began to start an agent, and by agents that began with a task.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Refusal, Unavailable, open_system
from relay.fleet import Fleet, agents, commands, open_fleet, orchestrators, recipes, tasks
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

C = wire.CommandStatus
R = wire.RecipeStatus
S = wire.StepStatus
T = wire.TaskStatus
Kind = wire.StepKind
Word = wire.StepDecision

TROUBLE = (ActorError, Unavailable, trio.TooSlowError)
BEAT = 100.0  # seconds between two looks of an agent, a host, a person
ROUNDS = 22
QUIET = 2_800.0  # seconds: longer than any command may be open

RECIPE = wire.decode(
    wire.Recipe,
    {
        "name": "pair",
        "description": "One writes, the other reads.",
        "roles": [{"role": "writer", "provider": "claude"}, {"role": "reader", "provider": "codex"}],
        "steps": [
            {"id": "write", "to": "writer", "body": "write"},
            *(
                {"id": f"say{n}", "to": "reader", "kind": "message", "body": "soon", "after": ["write"]}
                for n in range(5)
            ),
            {"id": "read", "to": "reader", "body": "read", "after": ["say0", "say4"]},
        ],
    },
)

Step = tuple[str, str]
"""A run, and the id of a step of it."""


class World:
    """What goes on outside of relay. It outlives the server."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.fleet: Fleet
        self.runs: list[str] = []
        self.begun: dict[Step, set[str]] = defaultdict(set)
        """The commands by which hosts began to start an agent."""
        self.worked: dict[Step, set[tuple[int, str]]] = defaultdict(set)
        """The tasks that agents began with."""
        self.wanted: Counter[Step] = Counter()
        """How often a person wanted it once more, or may have."""
        self.sessions: dict[str, str] = {}
        """The agents that live, by their spawn requests."""
        self.forgotten: set[str] = set()
        """The commands that a host has begun, and will not come back to."""
        self.faulty = True
        self.seen: Counter[str] = Counter()

    def often(self, one_in: int) -> bool:
        return self.faulty and self.sim.choose(one_in) == one_in - 1

    async def ask(self, ref: Any, message: Any) -> Any:
        """What comes of it; None if nobody knows, False if it was refused."""
        try:
            return await ref.ask(message)
        except Refusal:
            return False
        except TROUBLE:
            return None

    async def insist(self, ref: Any, message: Any) -> Any:
        while (answer := await self.ask(ref, message)) is None:
            await trio.sleep(1)
        return answer

    # -- whoever starts and decides

    async def start(self, key: str) -> None:
        message = recipes.Start(RECIPE, wire.StartRecipe(name="pair"), "h1")
        assert await self.insist(self.fleet.recipes[key], message)
        self.runs.append(key)

    async def decide(self) -> None:
        for _ in range(ROUNDS):
            await self.sim.pause(BEAT)
            for run in list(self.runs):
                await self._decide(recipes.get_instance(self.fleet.store, run))

    async def _decide(self, run: wire.RecipeInstance) -> None:
        held = [step for step in run.steps if step.status is S.HELD]
        if run.status is R.HELD and held and self.sim.choose(3) == 0:
            step = held[self.sim.choose(len(held))]
            word = (Word.RETRY, Word.RETRY, Word.SUCCEEDED, Word.FAILED)[self.sim.choose(4)]
            asked = recipes.Decide(step.id, wire.DecideStep(decision=word))
            self.wanted[run.id, step.id] += word is Word.RETRY
            if await self.ask(self.fleet.recipes[run.id], asked) is False:
                self.wanted[run.id, step.id] -= word is Word.RETRY
            self.seen[f"decided {step.kind}"] += 1
        elif self.often(30):
            await self.ask(self.fleet.recipes[run.id], recipes.Stop("me"))

    # -- the host

    async def host(self, rounds: int = ROUNDS) -> None:
        for _ in range(rounds):
            for status in (C.PENDING, C.ACCEPTED, C.RUNNING):
                found = commands.list_commands(self.fleet.store, target="orchestrator-h1", status=status)
                for command in found:
                    if command.id not in self.forgotten and (status is C.PENDING or not self.often(2)):
                        await self._carry_out(command)
            await self.sim.pause(BEAT)

    async def _carry_out(self, command: wire.Command) -> None:
        ref = self.fleet.commands[command.id]
        token = await self.ask(ref, commands.Claim("h1"))
        if not token:
            return
        if self.often(8):
            self.forgotten.add(command.id)
            return
        await self.ask(ref, commands.Patch(wire.PatchCommand(status=C.RUNNING, token=token)))
        if recipes.find_instance(self.fleet.store, command.params["recipeInstanceId"]) is None:
            return
        outcome = await self._done(command)
        for _ in range(1 + self.sim.choose(2)):
            await self.sim.pause(BEAT / 4)
            if self.often(6):
                return
            await self.ask(ref, commands.Patch(wire.PatchCommand(status=outcome, token=token)))

    async def _done(self, command: wire.Command) -> wire.CommandStatus:
        request = command.params["spawnRequestId"]
        if command.type == "agent.shutdown":
            agent = self.sessions.pop(request, None)
            if agent is not None:
                await self.insist(self.fleet.agents[agent], agents.Remove())
            return C.SUCCEEDED if agent is not None else C.FAILED
        run, role = command.params["recipeInstanceId"], command.params["recipeRole"]
        self.begun[run, f"spawn:{role}"].add(command.id)
        if request not in self.sessions:
            if self.often(20):
                return C.FAILED
            self.sessions[request] = f"{run}-{role}"
            await self.register(f"{run}-{role}", f"{run}/{role}")
        return C.SUCCEEDED

    async def register(self, name: str, tag: str) -> None:
        card = wire.RegisterAgent(id=name, tags=[tag], status=wire.AgentStatus.IDLE)
        await self.insist(self.fleet.agents[name], agents.Register(card))

    # -- the agents

    async def work(self, rounds: int = ROUNDS) -> None:
        """Each looks for a task now and then; a rival bears the same tag as each of them."""
        away: dict[str, int] = {}
        for number in range(rounds):
            for name in [*self.sessions.values(), *(f"{name}*" for name in self.sessions.values())]:
                tag = "/".join(name.removesuffix("*").rsplit("-", 1))
                if away.get(name, -1) > number:
                    continue
                if name in away or name.endswith("*"):
                    away.pop(name, None)
                    await self.register(name, tag)
                await self.ask(self.fleet.agents[name], agents.Heartbeat())
                await self._look_for_work(name, f"tag:{tag}")
                if self.often(8):
                    await self.ask(self.fleet.agents[name], agents.SetStatus(wire.AgentStatus.OFFLINE))
                    away[name] = number + 1 + self.sim.choose(12)
            await self.sim.pause(BEAT)

    async def _look_for_work(self, name: str, address: str) -> None:
        for task in tasks.list_tasks(self.fleet.store, target=address):
            step = (task.source.removeprefix("recipe:"), (task.metadata or {})["recipeStep"])
            if task.status.final or self.often(3):
                continue
            if not await self.ask(self.fleet.post_office, tasks.ClaimTask(task.id, name)):
                continue
            self.worked[step].add((task.id, name))
            if not self.often(2):
                status = T.FAILED if self.often(12) else T.DONE
                said = wire.SetTaskStatus(status=status, agent_id=name)
                for _ in range(1 + self.sim.choose(2)):
                    await self.ask(self.fleet.post_office, tasks.SetTaskStatus(task.id, said))

    async def hurry(self) -> None:
        """Some are done with a task before whoever has given it out knows that it is there."""
        seen = self.fleet.events.last_id
        while True:
            for event in await self.fleet.events.read_after(seen, 100):
                seen = event.id
                if event.type == "task.created" and self.sim.choose(4) == 0:
                    await self._finish_at_once(tasks.get_task(self.fleet.store, int(event.subject or 0)))

    async def _finish_at_once(self, task: wire.Task) -> None:
        name = "-".join(task.target.removeprefix("tag:").rsplit("/", 1))
        if not await self.ask(self.fleet.post_office, tasks.ClaimTask(task.id, name)):
            return
        self.worked[task.source.removeprefix("recipe:"), (task.metadata or {})["recipeStep"]].add(
            (task.id, name)
        )
        done = wire.SetTaskStatus(status=T.DONE, agent_id=name)
        await self.ask(self.fleet.post_office, tasks.SetTaskStatus(task.id, done))
        self.seen["hurried"] += 1

    # -- what must hold

    def check(self, store: Store) -> None:
        for step, done in (*self.begun.items(), *self.worked.items()):
            assert len(done) <= 1 + self.wanted[step], (step, done)
        given = Counter(
            (task.source.removeprefix("recipe:"), (task.metadata or {})["recipeStep"], task.status is T.DONE)
            for task in tasks.list_tasks(store, limit=500)
        )
        for (run, key, is_done), times in given.items():
            assert times <= 1 + self.wanted[run, key], (run, key)
            assert not is_done or times == 1, "what was done after all is not done again"
        sql = (
            "select record ->> '$.payload.recipeStep', record ->> '$.payload.recipeInstanceId' from messages"
        )
        said = Counter(
            row for row in store.rows(f"{sql} where record ->> '$.payload.recipeStep' is not null")
        )
        assert all(times == 1 for times in said.values()), "a message is sent once"
        self._follows_the_table(store)

    def _follows_the_table(self, store: Store) -> None:
        """Runs move by their table, and steps are given out in their order."""
        paths: dict[str, list[wire.RecipeInstance]] = defaultdict(list)
        for event in Log(store).events("recipe.instance.changed"):
            paths[event["subject"]].append(wire.decode(wire.RecipeInstance, event["data"]["instance"]))
        for key, path in paths.items():
            assert path[-1] == recipes.get_instance(store, key), "every change is told"
            for before, after in pairwise(path):
                moves = recipes.MOVES[before.status].values()
                assert after.status is before.status or after.status in moves, (before, after)
            for run in path:
                self.seen[run.status] += 1
                done = {step.id for step in run.steps if step.status is S.SUCCEEDED}
                for step in run.steps:
                    if step.message_id is not None or step.task_id is not None:
                        assert done.issuperset(step.after), run

    def check_nobody_waits(self, store: Store) -> None:
        """When every agent has been gone for long: a person is told of each step that nobody will take."""
        for key in self.runs:
            run = recipes.get_instance(store, key)
            if run.status not in (R.RUNNING, R.HELD):
                continue
            for step in run.steps:
                task = tasks.get_task(store, step.task_id) if step.task_id else None
                is_open = task is not None and task.status is T.OPEN
                assert not is_open or step.status is S.HELD, (run, step)
                self.seen["missed"] += is_open

    def check_rest(self, store: Store) -> None:
        """When nobody has had trouble for long."""
        for key in self.runs:
            run = recipes.get_instance(store, key)
            requests = {step.spawn_request_id for step in run.steps if step.kind is Kind.SPAWN}
            assert run.status is not R.STOPPING, "whoever is stopped has an end"
            if run.status is R.STOPPED:
                assert not requests & self.sessions.keys(), "a run that is stopped leaves no agent behind"
                assert all(each.status.final for each in tasks.list_tasks(store, source=f"recipe:{key}"))
            if run.status is R.RUNNING:
                done = {step.id for step in run.steps if step.status is S.SUCCEEDED}
                waiting = [step for step in run.steps if step.status is S.WAITING]
                assert not any(done.issuperset(step.after) for step in waiting), "what is due is given out"


@pytest.mark.spec("O-39", "M-I17", "REC-12")
@simulate(
    runs=30,
    faults=Faults(
        crash=0.01,
        delay=0.01,
        named={"store.commit": 0.04},
        most=10,
        only=("recipes/*", "commands/*", "post-office", "agents/*"),
    ),
)
async def test_recipes_never_run_a_step_twice(sim: Sim) -> None:
    world = World(sim)
    sim.sometimes(lambda: world.seen[R.STOPPED] > 0, "a run was stopped")
    sim.sometimes(lambda: world.seen["decided spawn"] > 0, "a person decided on a start")
    sim.sometimes(lambda: world.seen["decided task"] > 0, "a person decided on a task")
    sim.sometimes(lambda: world.seen["missed"] > 0, "nobody was there for a step")
    sim.sometimes(lambda: world.seen["hurried"] > 0, "a task was done at once")
    async with open_system() as system, open_store(None, system) as store:
        for life in range(2):
            async with open_fleet(system, store) as fleet:
                world.fleet = fleet
                card = wire.RegisterOrchestrator(id="h1", hostname="h1", base_dir="/srv")
                await world.insist(fleet.orchestrators["h1"], orchestrators.Register(card))
                async with trio.open_nursery() as hasty:
                    hasty.start_soon(world.hurry)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(world.start, f"rcp_{life}")
                        nursery.start_soon(world.host)
                        nursery.start_soon(world.work)
                        nursery.start_soon(world.decide)
                    hasty.cancel_scope.cancel()
                if life:
                    await rest(world)
            world.check(store)
        world.check_rest(store)


async def rest(world: World) -> None:
    """From now on nothing goes wrong outside."""
    world.faulty = False
    await trio.sleep(QUIET)
    world.check_nobody_waits(world.fleet.store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.host, 8)
        nursery.start_soon(world.work, 8)
    await trio.sleep(BEAT)


@pytest.mark.spec("M-I17", "REC-12")
@simulate(runs=10, faults=Faults(named={"store.commit": 0.04}, most=4, only=("recipes/*", "post-office")))
async def test_a_step_that_somebody_began_is_for_nobody_else(sim: Sim) -> None:
    """Whoever has taken its task is gone for good, and a rival asks for it again and again."""
    world = World(sim)
    world.faulty = False
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        world.fleet = fleet
        card = wire.RegisterOrchestrator(id="h1", hostname="h1", base_dir="/srv")
        await world.insist(fleet.orchestrators["h1"], orchestrators.Register(card))
        await world.start("rcp")
        await world.host(1)
        while not (given := tasks.list_tasks(store, target="tag:rcp/writer")):
            await sim.pause(BEAT)
        assert await world.insist(fleet.post_office, tasks.ClaimTask(given[0].id, "rcp-writer"))
        await world.insist(fleet.agents["rcp-writer"], agents.SetStatus(wire.AgentStatus.OFFLINE))
        for _ in range(8):
            await sim.pause(BEAT)
            await world.register("rival", "rcp/writer")
            assert not await world.ask(fleet.post_office, tasks.ClaimTask(given[0].id, "rival"))
        (task,) = tasks.list_tasks(store, target="tag:rcp/writer")
        assert task.status is T.ORPHANED
