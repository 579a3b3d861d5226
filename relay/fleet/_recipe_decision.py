"""What a person's word makes of a step that is held."""

from __future__ import annotations

import attrs

from relay import wire
from relay.store import Decision, Store

from ._audit import audit
from ._command_rows import find_command
from ._errors import Conflict
from ._moment import Moment
from ._new_command import new_command
from ._recipe_protocol import Decide
from ._recipe_rules import judged, replaced
from ._recipe_start import asked_again

__all__ = ["Made", "decided", "note_of"]

Run = wire.RecipeInstance
S = wire.StepStatus
Word = wire.StepDecision


@attrs.frozen
class Made:
    """What a decision makes besides: commands, and all that they cause."""

    decision: Decision[None] = attrs.field(factory=lambda: Decision(reply=None))
    commands: tuple[wire.Command, ...] = ()


def decided(
    store: Store, run: Run, step: wire.RunningStep, asked: wire.DecideStep, moment: Moment
) -> tuple[Run, Made]:
    """The run from then on."""
    after, made = attrs.evolve(step, decided_by=asked.decided_by, updated_at=moment.at), Made()
    if asked.decision is Word.SUCCEEDED:
        after = attrs.evolve(after, status=S.SUCCEEDED, error=None, outcome_unknown=None)
    elif asked.decision is Word.FAILED:
        why = (
            f"{asked.decided_by} decided so: {step.error}" if step.error else f"{asked.decided_by} decided so"
        )
        after = attrs.evolve(after, status=S.FAILED, error=why[:2_000])
    elif step.kind is wire.StepKind.SPAWN:
        after, made = _spawned_again(store, after, moment)
    else:
        after = attrs.evolve(
            after,
            status=S.WAITING,
            attempt=step.attempt + 1,
            earlier_task_id=step.task_id,
            task_id=None,
            error=None,
        )
    return judged(replaced(run, after), moment), made


def _spawned_again(store: Store, step: wire.RunningStep, moment: Moment) -> tuple[wire.RunningStep, Made]:
    before = find_command(store, step.command_id or "")
    if before is None:
        raise Conflict(f"the command of step {step.id} is gone; stop the run and start the recipe again")
    command, writes, events = new_command(moment, asked_again(before, moment))
    after = attrs.evolve(
        step,
        status=S.ASKED,
        attempt=step.attempt + 1,
        command_id=command.id,
        error=None,
        outcome_unknown=None,
    )
    return after, Made(Decision(reply=None, writes=writes, events=events), (command,))


def note_of(run: Run, step: wire.RunningStep, message: Decide, moment: Moment) -> Decision[None]:
    """The audit of it."""
    write, event = audit(
        moment,
        f"server-recipe-decide-{run.id}-{moment.ms}",
        f"{message.asked.decided_by} decided on step {step.id} of the recipe {run.recipe_name}: {message.asked.decision}",
        body=message.asked.decision.value,
        meta=run.id,
        icon="ti-user-check",
        view="activity",
        metadata={"recipeInstanceId": run.id, "step": step.id, "decision": message.asked.decision.value},
        by=message.by,
    )
    return Decision(reply=None, writes=(write,), events=(event,))
