"""Agents: who is there, and what a person has them do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import Listing, Target, must_be_one_of, target
from .output import age, members, one_line, say, show, show_json
from .server import ask
from .spawning import spawn_members, spawn_options

if TYPE_CHECKING:
    from relay import wire

__all__ = ["agents"]


@click.group(cls=Listing)
def agents() -> None:
    """List the agents; start one, and have it do something.

    \b
    relay agents spawn --provider command --program "python3 agent.py" --cwd /srv/app
    relay agents restart reviewer
    """


@agents.command("list")
@click.option("--status", help="Only those with this status.")
@target
def list_(target: Target, status: str | None, as_json: bool) -> None:
    """List the agents, by id."""
    from relay import wire

    must_be_one_of(wire.AgentStatus, status, f"no agent can be {status}", command="agents list")
    wanted = wire.AgentStatus(status) if status else None
    found = ask(target, lambda client: client.agents(status=wanted))
    if as_json:
        return show_json([wire.to_json(agent) for agent in found])
    rows = [(agent.id, agent.label, agent.status, agent.kind, age(agent.last_seen)) for agent in found]
    return show(("agent", "label", "status", "kind", "seen"), rows, empty="no agents")


@agents.command("show")
@click.argument("agent")
@target
def show_(target: Target, agent: str, as_json: bool) -> None:
    """Show all that is known of one agent."""
    from relay import wire

    found = wire.to_json(ask(target, lambda client: client.agent(agent)))
    return show_json(found) if as_json else members(found)


@agents.command("spawn")
@click.option("--host", help="Id of the host that runs it.  [default: the first that fits]")
@click.option("--id", "agent_id", help="Its id.  [default: made from host, provider and label]")
@click.option("--policy", "policy_name", help="The policy that it belongs to.")
@click.option("--request", "spawn_request_id", help="Spawn request id: with the same one it is started once.")
@spawn_options
@target
def spawn(
    target: Target,
    host: str | None,
    agent_id: str | None,
    policy_name: str | None,
    spawn_request_id: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Have a host start an agent. For one that is to be there for long, make a policy: relay policies."""
    from relay import wire

    described = spawn_members(given, "agents spawn")
    asked = wire.SpawnAgent(
        agent_id=agent_id,
        policy_name=policy_name,
        spawn_request_id=spawn_request_id,
        approval_mode=given["approval"],
        **described,
    )
    command = ask(target, lambda client: client.spawn(host, asked) if host else client.spawn_anywhere(asked))
    _told(command, f"{command.target} is to start {agent_id or 'an agent'}", as_json)


def _action(name: str, about: str, verb: str | None = None) -> None:
    @agents.command(name, help=about)
    @click.argument("agent")
    @target
    def act(target: Target, agent: str, as_json: bool) -> None:
        from relay import wire

        asked = wire.AgentVerb(verb or name)
        command = ask(target, lambda client: client.agent_action(agent, asked))
        _told(command, f"{agent} is to {name}", as_json)


_action("restart", "Have AGENT end and start again.")
_action("shutdown", "Have AGENT end.")
_action("resume", "Have the last session of AGENT, which is gone, go on.")
_action("reconnect", "Have the runner of AGENT connect anew.")
_action("interrupt", "Have AGENT stop what it is at.")
_action("compact", "Have AGENT keep the gist of its session only.")
_action("clear", "Have AGENT forget its session.", "clearContext")


@agents.command("prompt")
@click.argument("agent")
@click.argument("text")
@target
def prompt(target: Target, agent: str, text: str, as_json: bool) -> None:
    """Put TEXT into the session of AGENT, as if it were typed there. `relay send` sends a message instead."""
    told = ask(target, lambda client: client.prompt(agent, text))
    return show_json(told) if as_json else say(f"{agent} is told (command {told.get('commandId')})")


@agents.command("decide")
@click.argument("agent")
@click.argument("question")
@click.argument("answer")
@click.option("--reason", help="What the agent is told of why.")
@target
def decide(target: Target, agent: str, question: str, answer: str, reason: str | None, as_json: bool) -> None:
    """Answer QUESTION (an approval id) of AGENT: approve, approve-session, deny, or abort, which also ends its turn."""
    from relay import wire

    must_be_one_of(wire.PermissionAnswer, answer, f"{answer} is no answer", command="agents decide")
    given = wire.DecidePermission(approval_id=question, decision=wire.PermissionAnswer(answer), reason=reason)
    command = ask(target, lambda client: client.decide_permission(agent, given))
    _told(command, f"{agent} is told: {answer}", as_json)


@agents.command("timeline")
@click.argument("agent")
@click.option("--before", type=click.IntRange(min=1), help="Go on after the entry of this id.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def timeline(target: Target, agent: str, before: int | None, limit: int, as_json: bool) -> None:
    """Show what happened to AGENT, newest first."""
    from relay import wire

    found = ask(target, lambda client: client.timeline(agent, before=before, limit=limit))
    if as_json:
        return show_json([wire.to_json(entry) for entry in found])
    rows = [(entry.id, age(entry.at), entry.status) for entry in found]
    return show(("entry", "ago", "what"), rows, empty=f"nothing has happened to {agent}")


@agents.command("terminal")
@click.argument("agent")
@click.option(
    "--minutes", type=click.IntRange(1, 240), default=60, show_default=True, help="How long it stays."
)
@target
def terminal(target: Target, agent: str, minutes: int, as_json: bool) -> None:
    """Open a terminal beside the session of AGENT on its host, and print the command that shows it there."""
    told = ask(target, lambda client: client.open_terminal(agent, minutes * 60_000))
    return show_json(told) if as_json else say(str(told.get("attach")))


@agents.command("forget")
@click.argument("agent")
@target
def forget(target: Target, agent: str, as_json: bool) -> None:
    """Forget an agent that does not come back. One that runs registers again."""
    ask(target, lambda client: client.delete_agent(agent))
    return show_json({"ok": True}) if as_json else say(f"{agent} is forgotten")


def _told(command: wire.Command, what: str, as_json: bool) -> None:
    from relay import wire

    if as_json:
        return show_json(wire.to_json(command))
    return say(one_line(f"{what}; relay commands show {command.id} tells what came of it"))
