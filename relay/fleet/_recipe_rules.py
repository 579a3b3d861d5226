"""What becomes of a run of a recipe: from the run before to the run after. No actor, no clock, no store.

Steps move first, by what is known of their commands, messages and tasks; their statuses then say which event of `MOVES` it
is for the run, once everything is as it is (`judged`).

    | step                     | event                                           | new                               |
    |--------------------------|-------------------------------------------------|-----------------------------------|
    | asked                    | its command was accepted, its task claimed      | running                           |
    | asked, running           | its command succeeded, its task is done         | succeeded                         |
    | asked, running           | its command, or task, ended otherwise           | failed; canceled if being stopped |
    | running                  | its command timed out: nobody knows what it did | held; canceled if being stopped   |
    | running                  | whoever has the task is gone                    | held                              |
    | held                     | that one is back                                | running                           |
    | asked, waiting           | there has been nobody to take it for long       | held                              |
    | held                     | somebody is there                               | asked, waiting                    |
    | held                     | a person decides                                | asked or waiting, succeeded, failed |
    | waiting                  | the run is stopped                              | canceled                          |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from relay import wire

from ._moment import Moment

__all__ = [
    "MOVES",
    "OPEN",
    "by_command",
    "by_task",
    "cut",
    "due",
    "expects",
    "halted",
    "is_over",
    "judged",
    "living",
    "replaced",
    "step_of",
    "to_end",
    "what_to_do",
]

R = wire.RecipeStatus
S = wire.StepStatus
Command = wire.CommandStatus
Run = wire.RecipeInstance

MOVES: Mapping[R, Mapping[str, R]] = {
    R.STARTING: {"begin": R.STARTING, "run": R.RUNNING, "hold": R.HELD, "fail": R.FAILED, "stop": R.STOPPING},
    R.RUNNING: {"run": R.RUNNING, "hold": R.HELD, "fail": R.FAILED, "stop": R.STOPPING},
    R.HELD: {"begin": R.STARTING, "run": R.RUNNING, "hold": R.HELD, "fail": R.FAILED, "stop": R.STOPPING},
    R.FAILED: {"fail": R.FAILED, "stop": R.STOPPING},
    R.STOPPING: {"end": R.STOPPED},
    R.STOPPED: {},
}
"""Spec 22.8, with `held`. `begin`: not all agents run; `run`: they do; `hold`, `fail`: that is so of a step; `end`: all is over."""

OPEN = tuple(status for status, moves in MOVES.items() if moves)

NO_WORD = "its host did not say so in time"

OF_TASKS: Mapping[wire.TaskStatus, S] = {
    wire.TaskStatus.OPEN: S.ASKED,
    wire.TaskStatus.CLAIMED: S.RUNNING,
    wire.TaskStatus.IN_PROGRESS: S.RUNNING,
    wire.TaskStatus.BLOCKED: S.RUNNING,
    wire.TaskStatus.ORPHANED: S.HELD,
    wire.TaskStatus.DONE: S.SUCCEEDED,
    wire.TaskStatus.FAILED: S.FAILED,
    wire.TaskStatus.CANCELED: S.FAILED,
}


def judged(run: Run, moment: Moment) -> Run:
    """The run with the status that its steps give it."""
    status = MOVES[run.status].get(_event(run), run.status)
    error = run.error or next((f"{step.id}: {step.error}" for step in _in(run, S.FAILED)), None)
    if status not in (R.FAILED, R.STOPPING, R.STOPPED):
        error = next((f"{step.id}: {step.error}" for step in _in(run, S.HELD)), None)
    return attrs.evolve(run, status=status, error=error and cut(error, 4_000), updated_at=moment.at)


def _event(run: Run) -> str:
    if run.status in (R.STOPPING, R.STOPPED):
        return "end" if is_over(run) else "go on"
    if _in(run, S.FAILED):
        return "fail"
    if _in(run, S.HELD):
        return "hold"
    up = all(step.status is S.SUCCEEDED for step in run.steps if step.kind is wire.StepKind.SPAWN)
    return "run" if up else "begin"


def is_over(run: Run) -> bool:
    """Whether nothing more is expected of anybody."""
    ended = all(step.status.final for step in run.steps) and all(stop.ended for stop in run.stops)
    return ended and bool(run.withdrawn)


def _in(run: Run, status: S) -> list[wire.RunningStep]:
    return [step for step in run.steps if step.status is status]


def cut(text: str, most: int) -> str:
    """The text, or the beginning of it that has at most so many UTF-16 units."""
    return text if wire.length(text) <= most else text[: most // 2]


def step_of(run: Run, key: str) -> wire.RunningStep | None:
    return next((step for step in run.steps if step.id == key), None)


def replaced(run: Run, step: wire.RunningStep) -> Run:
    """The run with this step in place of the one of that id."""
    return attrs.evolve(run, steps=[step if each.id == step.id else each for each in run.steps])


def due(run: Run) -> list[wire.RunningStep]:
    """The steps to give out now."""
    if run.status is not R.RUNNING:
        return []
    done = {step.id for step in _in(run, S.SUCCEEDED)}
    return [step for step in _in(run, S.WAITING) if done.issuperset(step.after)]


def by_command(run: Run, command: wire.Command, moment: Moment) -> Run:
    """The run after a move of one of its commands; the same when it is no news, or not the run's."""
    for step in run.steps:
        if step.command_id == command.id:
            return _changed(run, step, _of_command(run, step, command), moment)
    stops = [_ended(stop, command) if stop.command_id == command.id else stop for stop in run.stops]
    return run if stops == run.stops else attrs.evolve(run, stops=stops)


def _of_command(run: Run, step: wire.RunningStep, command: wire.Command) -> wire.RunningStep:
    if not command.status.final:
        begun = command.status is not Command.PENDING or step.status is S.RUNNING
        return attrs.evolve(step, status=S.RUNNING if begun else S.ASKED)
    if command.status is Command.SUCCEEDED:
        return attrs.evolve(
            step, status=S.SUCCEEDED, error=None, outcome_unknown=None, agent_id=_agent(step, command)
        )
    told = command.status in (Command.FAILED, Command.REJECTED)
    begun = command.outcome_unknown or step.status in (S.RUNNING, S.HELD)
    unknown = True if begun and not told else None
    why = command.error or f"its command ended as {command.status}"
    status = S.FAILED
    if run.status in (R.STOPPING, R.STOPPED):
        status = S.CANCELED
    elif unknown and command.status is Command.TIMED_OUT:
        status, why = S.HELD, cut(f"nobody knows whether it was done: {command.error or NO_WORD}", 4_000)
    return attrs.evolve(step, status=status, error=why, outcome_unknown=unknown)


def _agent(step: wire.RunningStep, command: wire.Command) -> str | None:
    """The agent that came of a start, as the host says."""
    known = (command.result or {}).get("managedAgents")
    for entry in known if isinstance(known, list) else ():
        if isinstance(entry, dict) and entry.get("spawnRequestId") == step.spawn_request_id:
            agent = entry.get("agentId")
            return cut(agent, 240) if isinstance(agent, str) and agent else None
    return None


def _ended(stop: wire.RecipeStop, command: wire.Command) -> wire.RecipeStop:
    failed = command.status is not Command.SUCCEEDED
    error = (command.error or f"ended as {command.status}") if failed and command.status.final else None
    return attrs.evolve(stop, ended=command.status.final, error=error)


def by_task(run: Run, task: wire.Task, said: str | None, moment: Moment) -> Run:
    """The run as one of its tasks is now; `said` is what was said of it last."""
    for step in run.steps:
        if step.task_id == task.id:
            return _changed(run, step, _of_task(run, step, task, said), moment)
    return run


def _of_task(run: Run, step: wire.RunningStep, task: wire.Task, said: str | None) -> wire.RunningStep:
    status, error = OF_TASKS[task.status], None
    if status is S.HELD:
        lost = f"{task.claimed_by} has the task and is gone: nobody knows how far it got"
        error = cut(f"{lost}; {what_to_do(run, step)}", 4_000)
    elif status is S.FAILED:
        stopping = run.status in (R.STOPPING, R.STOPPED)
        status = S.CANCELED if stopping and task.status is wire.TaskStatus.CANCELED else status
        error = cut(said or f"its task is {task.status}", 4_000)
    return attrs.evolve(step, status=status, error=error, agent_id=task.claimed_by or step.agent_id)


def what_to_do(run: Run, step: wire.RunningStep) -> str:
    """For a person, about a step that is held for the lack of its agent."""
    return f"the run goes on if it comes back, or say: relay recipes decide {run.id} {step.id} retry|succeeded|failed"


def _changed(run: Run, before: wire.RunningStep, after: wire.RunningStep, moment: Moment) -> Run:
    if after == before:
        return run
    return replaced(run, attrs.evolve(after, updated_at=moment.at))


def to_end(before: Run, after: Run, command: wire.Command) -> wire.RunningStep | None:
    """The start of the agent that is to be shut down, too, if this is about one: it has come to a run that is being stopped, or
    may have; or nobody knows what came of the order to shut it down, which does no harm twice."""
    if after.status not in (R.STOPPING, R.STOPPED):
        return None
    for was, step in zip(before.steps, after.steps, strict=True):
        if step.kind is wire.StepKind.SPAWN and step.status.final and step != was and not _is_dead(step):
            return step
    lost = command.status is Command.TIMED_OUT
    for was_stop, stop in zip(before.stops, after.stops, strict=True):
        if lost and stop.ended and not was_stop.ended:
            return next((step for step in living(after) if step.role == stop.role), None)
    return None


def expects(run: Run) -> bool:
    """Whether somebody may yet do something for the run that it has to look at, or it has something left to do itself."""
    if run.status is R.STOPPING or due(run):
        return True
    return any(step.status in (S.ASKED, S.RUNNING, S.HELD) for step in run.steps)


def living(run: Run) -> Iterator[wire.RunningStep]:
    """The starts of which an agent may have come, or may yet come."""
    for step in run.steps:
        if step.kind is wire.StepKind.SPAWN and not _is_dead(step):
            yield step


def _is_dead(step: wire.RunningStep) -> bool:
    return step.status in (S.FAILED, S.CANCELED) and not step.outcome_unknown


def halted(run: Run, moment: Moment) -> Run:
    """The run as it is to be stopped: what nobody has been asked for is canceled, and so is what a person was to decide."""

    def over(step: wire.RunningStep) -> bool:
        held = step.status is S.HELD and step.task_id is None
        return held or step.status is S.WAITING

    steps = [
        attrs.evolve(step, status=S.CANCELED, updated_at=moment.at) if over(step) else step
        for step in run.steps
    ]
    return attrs.evolve(run, steps=steps)
