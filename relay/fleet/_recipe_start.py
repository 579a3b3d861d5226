"""The start of a run: on which host, with which commands. One decision, so all of it is there or nothing (M-211)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping

import attrs

from relay import wire
from relay.recipes import fill
from relay.store import Decision, Event, Store, Write

from ._audit import audit
from ._dispatch import spawn_order
from ._errors import Invalid
from ._moment import Moment
from ._new_command import new_command
from ._outfits import outfitted
from ._owners import online
from ._paths import normalised, within
from ._recipe_protocol import Start
from ._recipe_rules import cut, judged
from ._records import text_of

__all__ = ["address_of", "announced", "asked_again", "fitting_host", "spawn_id", "started", "tag_of"]

PENDING_MS = 900_000
"""How long the start of an agent waits for its host to begin with it."""
EXECUTION_MS = 1_800_000
"""How long the host may take; beyond that nobody knows what came of it."""
LONGEST = 4_000  # characters of a first prompt (1.5)
LONGEST_BODY = 100_000  # of a message

Run = wire.RecipeInstance
Kind = wire.StepKind


def spawn_id(role: str) -> str:
    """The id of the step that starts the role's agent."""
    return f"spawn:{role}"


def tag_of(run_id: str, role: str) -> str:
    return f"{run_id}/{role}"


def address_of(run_id: str, role: str) -> str:
    """Where messages reach the agent of a role, whatever its host calls it."""
    return f"tag:{tag_of(run_id, role)}"


def fitting_host(
    recipe: wire.Recipe,
    asked: wire.StartRecipe,
    hosts: list[wire.Orchestrator],
    may: Callable[[wire.Orchestrator, str], bool],
) -> wire.Orchestrator:
    """The host that is asked for, or else the first by id that fits and that the caller `may` use with that directory. Raises
    `Invalid` (REC-5)."""
    named = [host for host in hosts if host.id == asked.orchestrator_id]
    if asked.orchestrator_id is not None and not named:
        raise Invalid(f"orchestratorId: there is no host {asked.orchestrator_id}")
    reasons: list[str] = []
    for host in named or hosts:
        why = _unfit(recipe, asked, host)
        if why is None and not all(may(host, place) for place in _places(recipe, asked, host)):
            why = f"host {host.id} is not for this token"
        if why is None:
            return host
        reasons.append(why)
    if not reasons:
        raise Invalid("there is no host; start an orchestrator")
    raise Invalid(f"no host can do it: {'; '.join(reasons[:5])}" if not named else reasons[0])


def _unfit(recipe: wire.Recipe, asked: wire.StartRecipe, host: wire.Orchestrator) -> str | None:
    if not online(host):
        return f"host {host.id} is offline"
    missing = sorted({role.provider.value for role in recipe.roles if role.provider not in host.providers})
    if missing:
        return f"host {host.id} does not have the provider {', '.join(missing)}"
    for place in _places(recipe, asked, host):
        if not within(host.base_dir, place):
            return f"cwd {place} is outside the base directory {host.base_dir} of host {host.id}"
    return None


def _cwd(asked: wire.StartRecipe, host: wire.Orchestrator) -> str:
    cwd = asked.cwd or host.base_dir
    return normalised(cwd) if cwd.startswith("/") else cwd


def _places(recipe: wire.Recipe, asked: wire.StartRecipe, host: wire.Orchestrator) -> list[str]:
    cwd = _cwd(asked, host)
    return [cwd, *(_place(cwd, role) for role in recipe.roles)]


def _place(cwd: str, role: wire.RecipeRole) -> str:
    place = posixpath.join(cwd, role.cwd) if role.cwd else cwd
    return normalised(place) if place.startswith("/") else place


def started(
    store: Store, key: str, message: Start, host: wire.Orchestrator, moment: Moment
) -> tuple[Run, Decision[wire.RecipeStarted]]:
    """The run, and a spawn for each role in their order. Raises `Invalid`."""
    recipe, asked = message.recipe, message.asked
    why = _unfit(recipe, asked, host)
    if why is not None:
        raise Invalid(why)
    values = _values(key, recipe, asked, _cwd(asked, host))
    requests = [_request(key, recipe, role, values) for role in recipe.roles]
    outfits = [_outfit(store, request, number) for number, request in enumerate(requests)]
    spawns = [
        _spawn(key, recipe, role, request, host, moment)
        for role, request in zip(recipe.roles, outfits, strict=True)
    ]
    made = [new_command(moment, each) for each in spawns]
    steps = [
        wire.RunningStep(
            id=spawn_id(role.role),
            kind=Kind.SPAWN,
            role=role.role,
            status=wire.StepStatus.ASKED,
            spawn_request_id=command.correlation_id,
            command_id=command.id,
            updated_at=moment.at,
        )
        for role, (command, _, _) in zip(recipe.roles, made, strict=True)
    ]
    steps += [_step(step, values, moment) for step in recipe.steps]
    run = wire.RecipeInstance(
        id=key,
        recipe_name=recipe.name,
        orchestrator_id=host.id,
        cwd=_cwd(asked, host),
        input=asked.input,
        started_by=asked.started_by,
        steps=steps,
        created_at=moment.at,
    )
    run = judged(run, moment)
    commands = [command for command, _, _ in made]
    note, told = audit(
        moment,
        f"server-recipe-start-{key}",
        f"the recipe {recipe.name} was started by {asked.started_by}",
        body=recipe.name,
        meta=key,
        icon="ti-play",
        view="activity",
        metadata={"recipeInstanceId": key, "commands": [command.id for command in commands]},
        by=message.by,
    )
    row = Write(
        "insert into recipe_instances (id, seq, recipe, status, record, created_at, updated_at)"
        " values (?, ?, ?, ?, ?, ?, ?)",
        (
            key,
            moment.next_id("recipe_instances"),
            recipe.name,
            run.status,
            text_of(wire.to_json(run)),
            moment.ms,
            moment.ms,
        ),
        1,
    )
    decision = Decision(
        reply=wire.RecipeStarted(instance=run, commands=commands),
        writes=(row, *(write for _, writes, _ in made for write in writes), note),
        events=(*(event for _, _, events in made for event in events), announced(run), told),
    )
    return run, decision


def announced(run: Run) -> Event:
    return Event("recipe.instance.changed", "server", run.id, {"instance": wire.to_json(run)})


def _values(key: str, recipe: wire.Recipe, asked: wire.StartRecipe, cwd: str) -> Mapping[str, str]:
    """What the placeholders stand for."""
    given = asked.input or (recipe.input.default if recipe.input else None)
    if recipe.input is not None and given is None:
        raise Invalid(f"input: the recipe {recipe.name} has to be told {recipe.input.about}")
    if recipe.input is None and asked.input is not None:
        raise Invalid(f"input: the recipe {recipe.name} takes none")
    addresses = {f"role.{role.role}": address_of(key, role.role) for role in recipe.roles}
    return {"input": given or "", "cwd": cwd, "recipe": recipe.name, "instance": key, **addresses}


def _request(
    key: str, recipe: wire.Recipe, role: wire.RecipeRole, values: Mapping[str, str]
) -> wire.SpawnAgent:
    prompt = fill(role.prompt, values) if role.prompt else None
    if prompt is not None and wire.length(prompt) > LONGEST:
        raise Invalid(
            f"input: with it the prompt of {role.role} is longer than {LONGEST} characters; say it in fewer words"
        )
    return wire.SpawnAgent(
        provider=role.provider,
        cwd=_place(values["cwd"], role),
        label=role.label or f"{recipe.name} {role.role}"[:120],
        tags=[tag_of(key, role.role), *role.tags],
        capabilities=role.capabilities,
        profile=role.profile,
        approval_mode=role.approval,
        provider_args=role.provider_args,
        prompt=prompt,
        model=role.model,
        effort=role.effort,
        workspace_mode=role.workspace_mode,
        provider_config=role.provider_config,
    )


def _outfit(store: Store, request: wire.SpawnAgent, number: int) -> wire.SpawnAgent:
    try:
        return outfitted(store, request)
    except Invalid as no:
        raise Invalid(f"roles[{number}].{no}") from None


def _spawn(
    key: str,
    recipe: wire.Recipe,
    role: wire.RecipeRole,
    request: wire.SpawnAgent,
    host: wire.Orchestrator,
    moment: Moment,
) -> wire.NewCommand:
    order = spawn_order(
        host,
        request,
        moment,
        ttl_ms=PENDING_MS,
        requestedBy="recipe",
        recipeInstanceId=key,
        recipeName=recipe.name,
        recipeRole=role.role,
    )
    return attrs.evolve(order, execution_ms=EXECUTION_MS)


def asked_again(before: wire.Command, moment: Moment) -> wire.NewCommand:
    """The same start once more. As it has the same spawn request, its host starts nothing anew if the agent is there."""
    return wire.NewCommand(
        type=before.type,
        source=before.source,
        target=before.target,
        params={**before.params, "requestedAt": moment.ms},
        correlation_id=before.correlation_id,
        ttl_ms=PENDING_MS,
        execution_ms=EXECUTION_MS,
    )


def _step(step: wire.RecipeStep, values: Mapping[str, str], moment: Moment) -> wire.RunningStep:
    body = fill(step.body, values)
    if wire.length(body) > LONGEST_BODY:
        raise Invalid(f"input: with it the text of step {step.id} is longer than {LONGEST_BODY} characters")
    return wire.RunningStep(
        id=step.id,
        kind=step.kind,
        role=step.to,
        after=step.after,
        subject=cut(fill(step.subject, values), 240) if step.subject else None,
        body=body,
        updated_at=moment.at,
    )
