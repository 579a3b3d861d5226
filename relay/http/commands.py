"""`/api/commands` (messaging-control 13)."""

from typing import Any

from relay import wire
from relay.actors import Ref
from relay.fleet import Forbidden, commands

from . import reach
from .answers import OK, Answer, created, ok
from .query import LARGEST
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()

FOR_PEOPLE = ("agent.permissionDecision", "prompt.inject")
"""Commands that carry a person's word to an agent: no agent gives it, also not to itself."""

OF_RELAY = ("workspace.", "orchestrator.", "agent.spawn")
"""How the types begin of commands whose end moves workspaces and hosts. Each has a route of its own, which knows whose they
are; whoever carries a command out settles it, and must not have made one of these about what is somebody else's."""
MARKS = ("policyEpoch", "recipeInstanceId")
"""Params by which the end of a command moves a policy, or a run of a recipe."""


@route("POST", "/api/commands", scope="command:write", body=wire.NewCommand)
async def create(call: Call[wire.NewCommand]) -> Answer:
    reach.command_for(call, call.body.target)
    reach.host_may_do(call, call.body.target)
    _may_make(call)
    if call.body.type in FOR_PEOPLE:
        call.speak_as("user", "type")
    return created(await commands.create_command(call.fleet, call.body))


def _may_make(call: Call[wire.NewCommand]) -> None:
    """Raises `Forbidden` for whoever is for some of the fleet only, and asks for what relay itself makes (W-I11)."""
    asked = call.body
    if call.principal.is_limited and (
        asked.type.startswith(OF_RELAY) or any(name in (asked.params or {}) for name in MARKS)
    ):
        raise Forbidden(
            f"type: {asked.type} with these params is made by relay only; use the route of what it is for"
        )


@route("GET", "/api/commands", scope="command:read")
async def list_(call: Call[None]) -> Answer:
    query = call.query
    reach.commands_of(call, query.text("target"))
    found = commands.list_commands(
        call.fleet.store,
        limit=query.integer("limit", 1, 500) or 100,
        since=query.integer("since", 0, LARGEST),
        status=query.choice("status", wire.CommandStatus),
        target=query.text("target"),
        type=query.text("type"),
        after=query.text("after"),
    )
    return ok(found)


@route("GET", "/api/commands/:id", scope="command:read")
async def get(call: Call[None]) -> Answer:
    command = commands.get_command(call.fleet.store, call.path["id"])
    reach.reads_command(call, command)
    return ok(command)


@route("PATCH", "/api/commands/:id", scope="command:write", body=wire.PatchCommand)
async def patch(call: Call[wire.PatchCommand]) -> Answer:
    reach.carries_out(call)
    return ok(await _command(call).ask(commands.Patch(call.body)))


@route("POST", "/api/commands/:id/claim", scope="command:write", optional=wire.ClaimCommand)
async def claim(call: Call[wire.ClaimCommand | None]) -> Answer:
    """Only one of several askers is told that it may execute the command, and the token to report with (CMD-14)."""
    reach.carries_out(call)
    claimant = call.body.claimant if call.body is not None else None
    token = await _command(call).ask(commands.Claim(claimant))
    return ok({"claimed": True, "token": token} if token is not None else {"claimed": False})


@route("DELETE", "/api/commands/:id", scope="command:write")
async def cancel(call: Call[None]) -> Answer:
    reach.calls_off(call)
    await _command(call).ask(commands.Cancel())
    return OK


def _command(call: Call[Any]) -> Ref[commands.CommandProtocol]:
    return call.fleet.commands[call.path["id"]]
