"""Recipes, hosts and agents as tests of recipes like them."""

from __future__ import annotations

from typing import Any

import trio

from relay import wire
from relay.fleet import Fleet, agents, commands, orchestrators, recipes

S = wire.CommandStatus
BASE = "/srv"

PAIR: dict[str, Any] = {
    "name": "pair",
    "description": "One writes, the other reads.",
    "roles": [
        {"role": "writer", "provider": "claude", "prompt": "write to {{role.reader}}", "tags": ["w"]},
        {"role": "reader", "provider": "codex", "cwd": "docs"},
    ],
    "steps": [
        {"id": "write", "to": "writer", "subject": "a page", "body": "write in {{cwd}}"},
        {"id": "say", "to": "reader", "kind": "message", "body": "run {{instance}}", "after": ["write"]},
        {"id": "read", "to": "reader", "body": "read it", "after": ["write", "say"]},
    ],
}


def recipe(**members: Any) -> wire.Recipe:
    """The pair's, with other members."""
    return wire.decode(wire.Recipe, {**PAIR, **members})


async def host(fleet: Fleet, key: str = "h1", **members: Any) -> None:
    card = wire.RegisterOrchestrator(id=key, hostname=key, base_dir=BASE, **members)
    await fleet.orchestrators[key].ask(orchestrators.Register(card))


async def begin(fleet: Fleet, made: wire.Recipe | None = None, **asked: Any) -> wire.RecipeStarted:
    key = fleet.system.new_id("rcp")
    start = recipes.Start(made or recipe(), wire.StartRecipe(name="pair", **asked), "h1")
    return await fleet.recipes[key].ask(start)


async def report(fleet: Fleet, command: str, status: S, **more: Any) -> wire.Command:
    change = wire.PatchCommand(status=status, **more)
    return await fleet.commands[command].ask(commands.Patch(change))


async def spawn_all(fleet: Fleet, run: str) -> None:
    """The host starts every agent, and each registers with the tags it was given."""
    for step in known(fleet, run).steps:
        if step.kind is wire.StepKind.SPAWN and step.status is not wire.StepStatus.SUCCEEDED:
            assert step.command_id is not None
            await come(fleet, run, step.role)
            await report(fleet, step.command_id, S.SUCCEEDED, result=result_of(step))
    await settled()


def result_of(step: wire.RunningStep) -> dict[str, Any]:
    entry = {"agentId": f"agent-{step.role}", "spawnRequestId": step.spawn_request_id}
    return {"managedAgents": [entry]}


async def come(fleet: Fleet, run: str, role: str) -> None:
    card = wire.RegisterAgent(id=f"agent-{role}", tags=[f"{run}/{role}"], status=wire.AgentStatus.IDLE)
    await fleet.agents[card.id].ask(agents.Register(card))


def known(fleet: Fleet, run: str) -> wire.RecipeInstance:
    return recipes.get_instance(fleet.store, run)


def step(fleet: Fleet, run: str, key: str) -> wire.RunningStep:
    (found,) = [each for each in known(fleet, run).steps if each.id == key]
    return found


async def settled() -> None:
    """The clock moves on when nobody has anything left to do."""
    await trio.sleep(1)
