"""What a step is as a message, or as a task. The key of either is the step's own, so that there is one however often it is
given out; a person who has it done again gives it a new one."""

from __future__ import annotations

from relay import wire

from ._recipe_start import address_of

__all__ = ["event_of", "letter_of"]

Run = wire.RecipeInstance


def letter_of(run: Run, step: wire.RunningStep) -> wire.SendMessage:
    """In the name of the user, who gets the answers."""
    return wire.SendMessage(
        from_="user",
        to=address_of(run.id, step.role),
        subject=step.subject,
        body=step.body or step.id,
        payload={"recipeInstanceId": run.id, "recipeStep": step.id},
        idempotency_key=_key(run, step),
    )


def event_of(run: Run, step: wire.RunningStep) -> wire.IntegrationEvent:
    return wire.IntegrationEvent(
        title=step.subject or f"{run.recipe_name}: {step.id}",
        body=step.body,
        target=address_of(run.id, step.role),
        key=_key(run, step),
        metadata={"recipeInstanceId": run.id, "recipeName": run.recipe_name, "recipeStep": step.id},
    )


def _key(run: Run, step: wire.RunningStep) -> str:
    return f"{run.id}:{step.id}:{step.attempt}"
