"""Spawn policies: agents that the server keeps startable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import Listing, Target, must_be_one_of, target
from .output import age, one_line, say, show, show_json
from .server import ask
from .spawning import spawn_members, spawn_options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay import wire
    from relay.client import Client

__all__ = ["policies"]


@click.group(cls=Listing)
def policies() -> None:
    """List the agents that relay keeps by policy; say what they are, start and stop them.

    \b
    relay policies set reviewer --host h1 --provider claude --cwd /srv/app
    relay policies start reviewer
    relay send policy:reviewer "please look at #12"
    """


@policies.command("list")
@target
def list_(target: Target, as_json: bool) -> None:
    """List the policies, and how the agent of each is."""
    from relay import wire

    found = ask(target, lambda client: client.policies())
    if as_json:
        return show_json([wire.to_json(report) for report in found])
    return show(
        ("policy", "agent is", "agent", "host", "since", "restarts", "last error"),
        [_row(report) for report in found],
        empty="no policies; make one with: relay policies set NAME --host HOST --provider PROVIDER",
    )


@policies.command("show")
@click.argument("name")
@target
def show_(target: Target, name: str, as_json: bool) -> None:
    """Show what the policy NAME says, and how its agent is."""
    from relay import wire

    report = ask(target, lambda client: client.policy(name))
    if as_json:
        return show_json(wire.to_json(report))
    rows = [
        *sorted(report.policy.items()),
        *((f"state.{key}", value) for key, value in _state(report).items()),
    ]
    return show(("", ""), rows, empty="")


@policies.command("set")
@click.argument("name")
@click.option("--host", required=True, help="Id of the host that runs it; relay hosts lists them.")
@spawn_options
@click.option(
    "--restart",
    default="on-failure",
    show_default=True,
    help="When it is gone unasked: never, on-failure, always.",
)
@click.option(
    "--quarantine-after",
    type=click.IntRange(0, 1_000),
    default=8,
    show_default=True,
    help="After so many failures in a row it is left alone; 0: never.",
)
@click.option("--by", "updated_by", metavar="NAME", help="Who changes it; the history keeps that.")
@target
def set_(
    target: Target, name: str, host: str, restart: str, quarantine_after: int, updated_by: str | None,
    as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Write the next version of the policy NAME, whole. Nothing is started or stopped by that."""
    from relay import wire

    must_be_one_of(wire.RestartMode, restart, f"{restart} is no way to restart", command="policies set")
    described = spawn_members(given, "policies set")
    policy = wire.SpawnPolicy(
        orchestrator_id=host,
        permission_mode=given["approval"],
        restart=wire.Restart(mode=wire.RestartMode(restart), quarantine_after=quarantine_after),
        **described,
    )
    entry = ask(target, lambda client: client.set_policy(name, policy, updated_by))
    if as_json:
        return show_json(wire.to_json(entry))
    return say(f"{name} is at version {entry.version}; relay policies start {name} starts its agent")


@policies.command("start")
@click.argument("name")
@target
def start(target: Target, name: str, as_json: bool) -> None:
    """Have the host of NAME start an agent."""
    _order(target, name, as_json, lambda client: client.start_policy(name), "is being started")


@policies.command("stop")
@click.argument("name")
@target
def stop(target: Target, name: str, as_json: bool) -> None:
    """End the agent of NAME; relay does not start it again."""
    _order(target, name, as_json, lambda client: client.stop_policy(name), "is being stopped")


@policies.command("restart")
@click.argument("name")
@target
def restart(target: Target, name: str, as_json: bool) -> None:
    """End the agent of NAME and start it again."""
    _order(target, name, as_json, lambda client: client.restart_policy(name), "is being restarted")


@policies.command("delete")
@click.argument("name")
@click.option("--by", "updated_by", metavar="NAME", help="Who changes it; the history keeps that.")
@target
def delete(target: Target, name: str, updated_by: str | None, as_json: bool) -> None:
    """Stop the agent of NAME and delete the policy; its history stays."""
    done = "is deleted, and its agent is being stopped"
    _order(target, name, as_json, lambda client: client.delete_policy(name, updated_by), done)


def _order(
    target: Target, name: str, as_json: bool, what: Callable[[Client], Awaitable[wire.Command]], done: str
) -> None:
    from relay import wire

    command = ask(target, what)
    if as_json:
        return show_json(wire.to_json(command))
    return say(f"{name} {done} ({command.id})")


def _state(report: wire.PolicyReport) -> dict[str, Any]:
    from relay import wire

    known: dict[str, Any] = wire.to_json(report.state)
    return known


def _row(report: wire.PolicyReport) -> tuple[object, ...]:
    state = report.state
    status = f"{state.status} (quarantined)" if state.quarantined else state.status
    since = age(state.updated_at) if state.updated_at else None
    error = one_line(state.last_error) if state.last_error else None
    return state.policy_name, status, state.agent_id, state.orchestrator_id, since, state.restart_count, error
