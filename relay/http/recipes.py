"""`/api/recipes` (messaging-control 12)."""

from typing import Any

import trio

from relay import wire
from relay.actors import Ref
from relay.fleet import Invalid, NotFound, recipes
from relay.recipes import NoRecipe

from .answers import Answer, accepted, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()

WRITE = "recipe:write"


@route("GET", "/api/recipes", scope="recipe:read")
async def list_(call: Call[None]) -> Answer:
    return ok(await trio.to_thread.run_sync(call.fleet.cookbook.all))


@route("GET", "/api/recipes/:name", scope="recipe:read")
async def get(call: Call[None]) -> Answer:
    try:
        return ok(await trio.to_thread.run_sync(call.fleet.cookbook.find, call.path["name"]))
    except NoRecipe as no:
        raise NotFound(str(no)) from None


@route("POST", "/api/recipes/start", scope=WRITE, body=dict)
async def start(call: Call[dict[str, Any]]) -> Answer:
    """`name` counts whenever it is there, also when it is empty (REC-4)."""
    asked = call.read(wire.StartRecipe)
    if call.body.get("name") is not None and asked.name is None:
        raise Invalid("name: is required")
    call.need(WRITE, orchestrator=asked.orchestrator_id, path=asked.cwd)

    def may(host: wire.Orchestrator, place: str) -> bool:
        return call.principal.may(WRITE, orchestrator=host.id, path=place)

    return accepted(await recipes.start_recipe(call.fleet, asked, by=call.by, may=may))


@route("GET", "/api/recipes/instances", scope="recipe:read")
async def list_instances(call: Call[None]) -> Answer:
    """A status that there is not is that of none (REC-9)."""

    def may_see(run: wire.RecipeInstance) -> bool:
        return call.principal.may("recipe:read", orchestrator=run.orchestrator_id, path=run.cwd)

    found = recipes.list_instances(
        call.fleet.store,
        status=call.query.text("status"),
        may_see=may_see if call.principal.is_limited else None,
        limit=call.query.integer("limit", 1, 500) or 100,
    )
    return ok(found)


@route("GET", "/api/recipes/instances/:id", scope="recipe:read")
async def get_instance(call: Call[None]) -> Answer:
    run = recipes.get_instance(call.fleet.store, call.path["id"])
    call.need("recipe:read", orchestrator=run.orchestrator_id, path=run.cwd)
    return ok(run)


@route("POST", "/api/recipes/instances/:id/stop", scope=WRITE, optional=wire.StopRecipe)
async def stop(call: Call[wire.StopRecipe | None]) -> Answer:
    run = _run(call)
    asked = call.body or wire.StopRecipe()
    return accepted(await run.ask(recipes.Stop(asked.stopped_by, call.by)))


@route("POST", "/api/recipes/instances/:id/steps/:step", scope=WRITE, body=wire.DecideStep)
async def decide(call: Call[wire.DecideStep]) -> Answer:
    """What becomes of a step that is held, in the words of a person."""
    run = _run(call)
    return ok(await run.ask(recipes.Decide(call.path["step"], call.body, call.by)))


def _run(call: Call[Any]) -> Ref[recipes.RecipeProtocol]:
    """The run, if it is one that the caller may change."""
    known = recipes.get_instance(call.fleet.store, call.path["id"])
    call.need(WRITE, orchestrator=known.orchestrator_id, path=known.cwd)
    return call.fleet.recipes[known.id]
