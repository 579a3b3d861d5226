"""Who is there for the steps of a run that nobody has taken yet: if nobody is for long, they are held for a person.

An agent that was killed is started again under its name by its host, so it has `GRACE` to come back, as it has with a task that
it has taken. That is measured on the server's own clock, from when the run's actor was started, and anew when the server itself
was held up: nobody is missed because the server was away.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from relay import wire
from relay.actors import System
from relay.store import Store

from ._cards import find_agent
from ._contact import HELD_UP
from ._moment import Moment
from ._recipe_rules import cut, due, replaced, step_of, what_to_do
from ._recipe_start import spawn_id, tag_of
from ._task_rows import find_task
from ._task_rules import GRACE

__all__ = ["Attendance", "is_there"]

Run = wire.RecipeInstance
Step = wire.RunningStep
Kind = wire.StepKind
R = wire.RecipeStatus
S = wire.StepStatus

THERE = "select 1 from agents, json_each(agents.record, '$.tags') as tag where status <> 'offline' and tag.value = ?"


class Attendance:
    """Since when nobody has been there for a step of a run that is looked at every `every` seconds."""

    def __init__(self, system: System, store: Store, every: float) -> None:
        self._system = system
        self._store = store
        self._patience = every + HELD_UP
        self._looked = system.now()
        self._since: dict[tuple[str, int], float] = {}
        """By step and attempt."""

    def looked(self, run: Run, moment: Moment) -> Run:
        """The run with those steps held for which nobody has been there for long, and those of them asked again for which
        somebody is."""
        now = self._system.now()
        before = self._since if now - self._looked <= self._patience else {}
        self._looked, self._since = now, {}
        for step in _untaken(self._store, run):
            after = step
            if is_there(self._store, run, step):
                after = _asked(step)
            else:
                since = self._since[step.id, step.attempt] = before.get((step.id, step.attempt), now)
                if since + GRACE <= now and step.status is not S.HELD:
                    after = attrs.evolve(step, status=S.HELD, error=_why(self._store, run, step))
            if after is not step:
                run = replaced(run, attrs.evolve(after, updated_at=moment.at))
        return run


def is_there(store: Store, run: Run, step: Step) -> bool:
    """Whether an agent that is not offline answers to the role's address."""
    return store.row(THERE, tag_of(run.id, step.role)) is not None


def _untaken(store: Store, run: Run) -> Iterator[Step]:
    """What somebody is to take: tasks that are open, and messages to be sent."""
    if run.status not in (R.RUNNING, R.HELD):
        return
    ready = {step.id for step in due(run)}
    for step in run.steps:
        if step.kind is Kind.MESSAGE and (step.id in ready or step.status is S.HELD):
            yield step
        elif step.task_id is not None and step.status in (S.ASKED, S.HELD):
            task = find_task(store, step.task_id)
            if task is not None and task.status is wire.TaskStatus.OPEN:
                yield step


def _asked(step: Step) -> Step:
    if step.status is not S.HELD:
        return step
    return attrs.evolve(step, status=S.ASKED if step.task_id is not None else S.WAITING, error=None)


def _why(store: Store, run: Run, step: Step) -> str:
    start = step_of(run, spawn_id(step.role))
    agent = start.agent_id if start is not None else None
    who = f"the agent of {step.role}" if agent is None else f"agent {agent}"
    card = find_agent(store, agent) if agent is not None else None
    if card is not None and card.status is not wire.AgentStatus.OFFLINE:
        what = f"no longer bears the tag {tag_of(run.id, step.role)}"
    else:
        what = "was removed" if agent is not None and card is None else "is offline"
    return cut(f"{who} {what}, and has not begun with it; {what_to_do(run, step)}", 4_000)
