"""Recipes: what can be started, what runs, and what a person has to decide."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

import click

from .mail import ME
from .options import Listing, Target, as_json, must_be_one_of, target
from .output import age, counted, one_line, say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["recipes"]

me = click.option("--as", "person", default=ME, show_default=True, help="Who does it, for the record.")


@click.group(cls=Listing)
def recipes() -> None:
    """List what agents can be started together for; start, watch and stop it."""


@recipes.command("list")
@target
def list_(target: Target, as_json: bool) -> None:
    """List the recipes, by name."""
    from relay import wire

    found = ask(target, lambda client: client.recipes())
    if as_json:
        return show_json([wire.to_json(each) for each in found])
    rows = [
        (
            each.name,
            each.source,
            ", ".join(role.role for role in each.recipe.roles),
            one_line(each.recipe.description),
        )
        for each in found
    ]
    return show(("recipe", "from", "roles", "what it does"), rows, empty="no recipes")


@recipes.command("show")
@click.argument("name")
@target
def show_(target: Target, name: str, as_json: bool) -> None:
    """Show the recipe NAME."""
    from relay import wire

    found = ask(target, lambda client: client.recipe(name))
    if as_json:
        return show_json(wire.to_json(found))
    return say("\n".join(_described(found)))


@recipes.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@as_json
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Tell all that is wrong with recipe files; needs no server. Ends with exit code 1 if anything is."""
    from relay.recipes import check_file

    found = {str(file): check_file(file)[1] for file in files}
    if as_json:
        show_json([{"file": file, "problems": problems} for file, problems in found.items()])
    else:
        for file, problems in found.items():
            say("\n".join(problems) if problems else f"{file}: all is well")
    if any(found.values()):
        click.get_current_context().exit(1)


@recipes.command("start")
@click.argument("name")
@click.option(
    "--input", "given", metavar="TEXT", help="What it is about; `relay recipes show` says what to give."
)
@click.option("--cwd", metavar="PATH", help="Directory on the host.  [default: its base directory]")
@click.option("--host", metavar="ID", help="Host to run on.  [default: the first that fits]")
@me
@target
def start(
    target: Target,
    name: str,
    given: str | None,
    cwd: str | None,
    host: str | None,
    person: str,
    as_json: bool,
) -> None:
    """Start the agents of the recipe NAME, and give them their work.

    \b
    relay recipes start debug --cwd /srv/shop --input "the nightly import loses the last row"
    """
    from relay import wire

    asked = wire.StartRecipe(name=name, input=given, cwd=cwd, orchestrator_id=host, started_by=person)
    made = ask(target, lambda client: client.start_recipe(asked))
    if as_json:
        return show_json(wire.to_json(made))
    run = made.instance
    return say(
        f"{run.id} starts {counted(len(made.commands), 'agent')} on {run.orchestrator_id}; relay recipes status {run.id}"
    )


@recipes.command("status")
@click.argument("run", required=False)
@click.option("--status", help="Only runs with this status.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def status(target: Target, run: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List the runs, the newest first; or show RUN with its steps."""
    from relay import wire

    must_be_one_of(wire.RecipeStatus, status, f"no run can be {status}", command="recipes status")
    if run is not None:
        return _tell(ask(target, lambda client: client.recipe_run(run)), as_json)
    found = ask(target, lambda client: client.recipe_runs(status=status, limit=limit))
    if as_json:
        return show_json([wire.to_json(each) for each in found])
    rows = [
        (
            each.id,
            each.recipe_name,
            each.status,
            _progress(each),
            each.orchestrator_id,
            age(each.updated_at),
            each.error,
        )
        for each in found
    ]
    return show(("run", "recipe", "status", "done", "host", "changed", "trouble"), rows, empty="no runs")


@recipes.command("stop")
@click.argument("run")
@me
@target
def stop(target: Target, run: str, person: str, as_json: bool) -> None:
    """Shut down all agents of RUN, and take back what nobody has begun."""
    from relay import wire

    made = ask(target, lambda client: client.stop_recipe(run, person))
    if as_json:
        return show_json(wire.to_json(made))
    return say(f"{run} is {made.instance.status}; {counted(len(made.commands), 'agent')} to be shut down")


@recipes.command("decide")
@click.argument("run")
@click.argument("step")
@click.argument("decision")
@me
@target
def decide(target: Target, run: str, step: str, decision: str, person: str, as_json: bool) -> None:
    """Say what becomes of STEP of RUN, which is held: retry, succeeded or failed.

    \b
    relay recipes decide rcp_1 spawn:fixer retry
    """
    from relay import wire

    must_be_one_of(wire.StepDecision, decision, f"{decision} is no decision", command="recipes decide")
    asked = wire.DecideStep(decision=wire.StepDecision(decision), decided_by=person)
    _tell(ask(target, lambda client: client.decide_step(run, step, asked)), as_json)


def _progress(run: wire.RecipeInstance) -> str:
    done = [step for step in run.steps if step.status == "succeeded"]
    return f"{len(done)} of {len(run.steps)}"


def _tell(run: wire.RecipeInstance, as_json: bool) -> None:
    from relay import wire

    if as_json:
        return show_json(wire.to_json(run))
    about = f"{run.id}  {run.recipe_name}  {run.status}  on {run.orchestrator_id} in {run.cwd}"
    say(one_line(about))
    if run.error:
        say(f"  {one_line(run.error)}")
    rows = [
        (step.id, step.kind, step.role, step.status, step.agent_id, _number(step), one_line(step.error or ""))
        for step in run.steps
    ]
    show(("step", "kind", "role", "status", "agent", "is", "trouble"), rows, empty="no steps")
    held = [step for step in run.steps if step.status == "held"]
    if held and run.status == "held":
        say(f"next: relay recipes decide {run.id} {held[0].id} retry, or succeeded, or failed")
    return None


def _number(step: wire.RunningStep) -> str | None:
    """By what else it can be found."""
    if step.task_id is not None:
        return f"task {step.task_id}"
    return f"message {step.message_id}" if step.message_id is not None else step.command_id


def _described(found: wire.LoadedRecipe) -> list[str]:
    recipe = found.recipe
    lines = [f"{found.name} ({found.source}, {found.path})", one_line(recipe.description)]
    if recipe.input is not None:
        usual = f" Unless told: {recipe.input.default}" if recipe.input.default else ""
        lines.append(one_line(f"--input says {recipe.input.about}.{usual}"))
    for role in recipe.roles:
        profile = [f"profile {role.profile}"] if role.profile else []
        approval = [role.approval] if role.approval else []
        lines += ["", f"{role.role}: {', '.join([role.provider, *profile, *approval])}"]
        lines += [indent(role.prompt, "    ")] if role.prompt else []
    for step in recipe.steps:
        after = f", after {', '.join(step.after)}" if step.after else ""
        lines += ["", f"{step.id}: {step.kind} for {step.to}{after}", indent(step.body, "    ")]
    return lines
