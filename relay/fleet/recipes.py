"""Runs of recipes: several agents that are started together, and given work in an order (messaging-control 12, 22.8).

One actor per run owns its row, which holds the steps as they were when the run was started: files may change meanwhile. What a
recipe is, and where it comes from, is `relay.recipes`.

1. The run and the commands that start its agents are one decision. A command's move is applied here before others see it
   (M-I17); which may be told again, or turn out not to have happened, so the last word counts.
2. A step is given out when all agents run and those before it are done: a message is done when it is stored, a task when its
   agent says so. It goes out under a key of its own, so that it is there once however often that is tried.
3. No step is done twice unless a person wants it. If nobody knows what came of one, the run is held: its agent did not
   report, or whoever has the task is gone. Such a task stays with whoever had it, and is given to nobody else.
4. So it is if nobody is there any more for what a step asks, before anybody has taken it: the run waits for nobody in silence.
5. A run that is stopped takes back what nobody has begun, and shuts down every agent that it may have; one that comes late,
   too. It is over when all of that has ended.
6. What a crash loses on the way is made up for by looking: at the start, and every minute while something is expected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio

from relay import wire
from relay.actors import Context, Step
from relay.recipes import NoRecipe
from relay.store import Decision

from ._actor import FleetActor
from ._audit import Caller
from ._command_protocol import Adopt, Withdraw
from ._command_rows import find_command
from ._errors import Conflict, Invalid, NotFound
from ._letters import joined
from ._recipe_attendance import Attendance, is_there
from ._recipe_decision import decided, note_of
from ._recipe_protocol import (
    CommandMoved,
    Decide,
    Look,
    RecipeProtocol,
    Start,
    Stop,
    TaskMoved,
)
from ._recipe_rows import find_instance, get_instance, kept, list_instances, unfinished
from ._recipe_rules import (
    MOVES,
    OPEN,
    by_command,
    by_task,
    due,
    expects,
    judged,
    replaced,
    step_of,
    to_end,
)
from ._recipe_start import fitting_host, started
from ._recipe_stop import late, stopped
from ._recipe_work import Later, end_task, given_out, last_word, withdraw_tasks
from ._task_rows import find_task
from .orchestrators import find_orchestrator, list_orchestrators

if TYPE_CHECKING:
    from ._fleet import Fleet

log = logging.getLogger(__name__)

__all__ = [
    "MOVES",
    "OPEN",
    "CommandMoved",
    "Decide",
    "Look",
    "RecipeProtocol",
    "RecipeRun",
    "Start",
    "Stop",
    "TaskMoved",
    "find_instance",
    "get_instance",
    "list_instances",
    "start_recipe",
    "unfinished",
]

T = TypeVar("T")

S = wire.StepStatus
R = wire.RecipeStatus
Kind = wire.StepKind
Run = wire.RecipeInstance

AGAIN = 5.0  # seconds until what could not be given out is tried again
LOOK_EVERY = 60.0


class RecipeRun(FleetActor[RecipeProtocol]):
    """The actor of one run."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.run = find_instance(self.store, key)
        self.attendance = Attendance(fleet.system, self.store, LOOK_EVERY)

    def started(self, context: Context[RecipeProtocol]) -> None:
        if self.run is not None and MOVES[self.run.status]:
            context.self_ref.tell(Look())

    def handle(self, message: Any, context: Context[RecipeProtocol]) -> Step:
        match message:
            case Start():
                self._start(message, context)
            case Stop():
                self._stop(message, context)
            case Decide():
                return self._decide(message, context)
            case CommandMoved(command):
                self._command_moved(message, command, context)
            case TaskMoved(number):
                self._task_moved(message, number, context)
            case Look():
                return self._look(context)
        return None

    def _known(self) -> Run:
        if self.run is None:
            raise NotFound("no such run of a recipe")
        return self.run

    def _start(self, message: Start, context: Context[RecipeProtocol]) -> None:
        if self.run is not None:
            self.settle(message, Decision(reply=wire.RecipeStarted(instance=self.run)), context)
            return
        host = find_orchestrator(self.store, message.orchestrator_id)
        if host is None:
            raise Invalid(f"orchestratorId: there is no host {message.orchestrator_id}")
        self.run, decision = started(self.store, self.id, message, host, self.moment())
        self.settle(message, self._adopting(decision, *decision.reply.commands), context)
        context.set_timer("look", LOOK_EVERY, Look())

    def _adopting(self, decision: Decision[T], *made: wire.Command) -> Decision[T]:
        tells = tuple((self.fleet.commands[command.id], Adopt()) for command in made)
        return attrs.evolve(decision, tells=(*decision.tells, *tells))

    def _stop(self, message: Stop, context: Context[RecipeProtocol]) -> None:
        self.run, decision = stopped(self._known(), message, self.moment())
        self.settle(message, self._looking(decision, context), context)

    def _looking(self, decision: Decision[T], context: Context[RecipeProtocol]) -> Decision[T]:
        return attrs.evolve(decision, tells=(*decision.tells, (context.self_ref, Look())))

    # -- what is told

    def _command_moved(
        self, message: CommandMoved, command: wire.Command, context: Context[RecipeProtocol]
    ) -> None:
        decision: Decision[None] = Decision(reply=None)
        if self.run is not None:
            self.run, decision = self._after_command(self.run, command)
            if due(self.run):
                decision = self._looking(decision, context)
        self.settle(message, decision, context)

    def _after_command(self, run: Run, command: wire.Command) -> tuple[Run, Decision[None]]:
        moment = self.moment()
        after, decision = by_command(run, command, moment), Decision(reply=None)
        if after == run:
            return run, decision
        arrived = to_end(run, after, command)
        if arrived is not None:
            after, decision = late(after, arrived, moment)
        after = judged(after, moment)
        return after, joined(None, decision, kept(run, after, None))

    def _task_moved(self, message: TaskMoved | Look, number: int, context: Context[RecipeProtocol]) -> None:
        """Its row is looked at: what is told may be older."""
        run, task = self.run, find_task(self.store, number)
        if run is None or task is None:
            return
        moment = self.moment()
        after = by_task(run, task, last_word(self.store, task), moment)
        if after == run:
            return
        self.run = judged(after, moment)
        self.settle(message, self._looking(kept(run, self.run, None), context), context)

    # -- what a person says

    async def _decide(self, message: Decide, context: Context[RecipeProtocol]) -> None:
        run, asked = self._known(), message.asked
        step = step_of(run, message.step)
        if step is None:
            raise NotFound(f"the run has no step {message.step}")
        if run.status is not R.HELD or step.status is not S.HELD:
            raise Conflict(
                f"step {step.id} is {step.status} and the run is {run.status}; only what is held is decided"
            )
        if step.task_id is not None and asked.decision is not wire.StepDecision.RETRY:
            try:
                await end_task(self.fleet, step.task_id, asked)
            except Later as later:
                context.defer(message).fail(later.trouble)
                return
        moment = self.moment()
        after, made = decided(self.store, run, step, asked, moment)
        decision = joined(after, made.decision, kept(run, after, None), note_of(run, step, message, moment))
        decision = self._adopting(decision, *made.commands)
        await self.commit(self._looking(decision, context), context)
        self.run = after
        context.reply(message, after)

    # -- what is due

    async def _look(self, context: Context[RecipeProtocol]) -> None:
        if self.run is None or not MOVES[self.run.status]:
            return
        context.set_timer("look", LOOK_EVERY, Look())
        try:
            await self._catch_up(context)
            if self.run.status is R.STOPPING:
                await self._withdraw(context)
            after = self.attendance.looked(self.run, self.moment())
            if after != self.run:
                await self._become(after, context)
            while steps := self._to_give_out():
                for step in steps:
                    await self._give_out(step, context)
            if due(self.run):
                context.set_timer("look", AGAIN, Look())
        except Later as later:
            log.warning("run %s: %s; it is tried again", self.id, str(later.trouble) or "no answer in time")
            context.set_timer("look", AGAIN, Look())
        if not expects(self.run):
            context.cancel_timer("look")

    def _to_give_out(self) -> list[wire.RunningStep]:
        """A task can be seen to wait for somebody, and be taken back; a message that is sent cannot."""
        run = self._known()
        return [step for step in due(run) if step.kind is not Kind.MESSAGE or is_there(self.store, run, step)]

    async def _become(self, after: Run, context: Context[RecipeProtocol], *more: Decision[None]) -> None:
        before = self._known()
        after = judged(after, self.moment())
        await self.commit(joined(None, *more, kept(before, after, None)), context)
        self.run = after

    async def _catch_up(self, context: Context[RecipeProtocol]) -> None:
        """Whatever ended, and was not told of."""
        run = self._known()
        waited = [step.command_id for step in run.steps if not step.status.final]
        waited += [stop.command_id for stop in run.stops if not stop.ended]
        for key in waited:
            command = find_command(self.store, key) if key is not None else None
            if command is not None and command.status.final:
                after, decision = self._after_command(self._known(), command)
                await self.commit(decision, context)
                self.run = after
        for step in run.steps:
            task = find_task(self.store, step.task_id) if step.task_id and not step.status.final else None
            if task is not None and not (step.status is S.HELD and task.status is wire.TaskStatus.OPEN):
                await self._follow(task, self._known(), context)

    async def _follow(self, task: wire.Task, run: Run, context: Context[RecipeProtocol]) -> None:
        after = by_task(run, task, last_word(self.store, task), self.moment())
        if after != self.run:
            await self._become(after, context)

    async def _withdraw(self, context: Context[RecipeProtocol]) -> None:
        """Nobody is to begin with what is left to do."""
        run = self._known()
        for step in run.steps:
            if step.kind is Kind.SPAWN and step.status is S.ASKED and step.command_id is not None:
                self.fleet.commands[step.command_id].tell(Withdraw())
        if run.withdrawn:
            return
        await withdraw_tasks(self.fleet, run)
        await self._catch_up(context)
        await self._become(attrs.evolve(self._known(), withdrawn=True), context)

    async def _give_out(self, step: wire.RunningStep, context: Context[RecipeProtocol]) -> None:
        run = self._known()
        given = await given_out(self.fleet, run, step)
        moment = self.moment()
        after = replaced(run, attrs.evolve(given, updated_at=moment.at))
        task = find_task(self.store, given.task_id) if given.task_id is not None else None
        if task is not None:
            after = by_task(after, task, last_word(self.store, task), moment)
        await self._become(after, context)


def anywhere(host: wire.Orchestrator, cwd: str) -> bool:
    """Whoever asks may use every host, and every directory of it."""
    return True


async def start_recipe(
    fleet: Fleet,
    asked: wire.StartRecipe,
    *,
    by: Caller | None = None,
    may: Callable[[wire.Orchestrator, str], bool] = anywhere,
    key: str | None = None,
) -> wire.RecipeStarted:
    """Begin a run. Whatever is wrong is `Invalid` (REC-5). `may`: whether the caller may use this host with that directory;
    `key`: the id of the run, for whoever may have to say so again."""
    if asked.called is None:
        raise Invalid("name: is required")
    try:
        loaded = await trio.to_thread.run_sync(fleet.cookbook.find, asked.called)
    except NoRecipe as no:
        raise Invalid(str(no)) from None
    host = fitting_host(loaded.recipe, asked, list_orchestrators(fleet.store), may)
    run = fleet.recipes[key or fleet.system.new_id("rcp")]
    return await run.ask(Start(loaded.recipe, asked, host.id, by))
