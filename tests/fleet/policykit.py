"""Policies with a host, for tests: what they say, and their agents being started."""

from __future__ import annotations

from typing import Any

import attrs

from relay import wire
from relay.fleet import Fleet, config, orchestrators, policies
from relay.fleet.policies import CommandMoved, Exited, Start, Stop, find_policy_state

S = wire.PolicyStatus


async def add_host(fleet: Fleet, name: str = "h1", **card: Any) -> wire.Orchestrator:
    asked = wire.RegisterOrchestrator(**{"id": name, "hostname": name, "base_dir": "/base", **card})
    return (await fleet.orchestrators[name].ask(orchestrators.Register(asked))).orchestrator


async def put_policy(fleet: Fleet, name: str = "P", **value: Any) -> wire.ConfigEntry:
    told = {"orchestratorId": "h1", "provider": "claude", "restart": {"mode": "never"}, **value}
    return await config.set_value(fleet, "spawn-policy", name, told, None)


async def begin(fleet: Fleet, name: str = "P") -> str:
    """An agent of the policy is being started, in place of the one there is; the answer is its spawn request."""
    if orchestrators.find_orchestrator(fleet.store, "h1") is None:
        await add_host(fleet)
    if policies.find_policy(fleet.store, name) is None:
        await put_policy(fleet, name)
    before = find_policy_state(fleet.store, name)
    if before is not None and before.status in (S.STARTING, S.RUNNING):
        await fleet.policies[name].ask(Stop())
    command = await fleet.policies[name].ask(Start())
    assert command.correlation_id is not None
    return command.correlation_id


async def caught_up(fleet: Fleet, name: str = "P") -> None:
    """Everybody has done what there is to do, and what came of it for the policy is durable."""
    await fleet.system.idle()
    await fleet.policies[name].ask(Exited("none", "this is nobody's request"))


def state(fleet: Fleet, name: str = "P") -> wire.PolicyState:
    found = find_policy_state(fleet.store, name)
    assert found is not None
    return found


def ended(
    command: wire.Command, status: wire.CommandStatus, error: str | None = None, **result: Any
) -> CommandMoved:
    """What the policy is told of the end of a command."""
    return CommandMoved(attrs.evolve(command, status=status, error=error, result=result or None))
