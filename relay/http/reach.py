"""What the constraints of a token leave of mail, commands and workspaces, where the path of a route does not say it.

Whoever is for some agents only reads the mail of those, is told what concerns those, and has their commands; it has to name
one of them where others may leave that out. Who else is in the fleet everybody sees who may read about agents at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relay import wire
from relay.fleet import Forbidden, agents, commands, messages, workspaces
from relay.fleet.tokens import host_with
from relay.store import Store

from .auth import Principal
from .routing import Call

__all__ = [
    "about",
    "calls_off",
    "carries_out",
    "channel_of",
    "command_for",
    "commands_of",
    "is_its",
    "mail_of",
    "message",
    "one_of",
    "queue_of",
    "reads_command",
    "sees_workspace",
    "starts",
    "whole_fleet",
    "workspace",
]

POLICY, CHANNEL = "policy:", "channel:"


def about(principal: Principal, agent_id: str | None, member: str) -> None:
    """Only what concerns this agent is wanted; None: of all. Raises `Forbidden`."""
    if agent_id is None and principal.constraints.agents is not None:
        raise Forbidden(f"{member}: this token is for some agents only; name one of them")
    if agent_id is not None and not principal.reaches(agent=agent_id):
        raise Forbidden(f"{member}: this token is not for {agent_id}")


def mail_of(principal: Principal, address: str | None, member: str = "for") -> None:
    """Whose mail is read: an agent's, or what waits for a policy. Raises `Forbidden`."""
    if address is not None and address.startswith(POLICY):
        if not principal.reaches(policy=address.removeprefix(POLICY)):
            raise Forbidden(f"{member}: this token is not for {address}")
        return
    about(principal, address, member)


def queue_of(principal: Principal, name: str) -> None:
    """What waits for an address, or for the policy of that name, is read. Raises `Forbidden`."""
    mail_of(principal, name)
    if not name.startswith(POLICY):
        mail_of(principal, POLICY + name)


def channel_of(sent: wire.SendMessage) -> str | None:
    """The channel that a message goes out on."""
    to = sent.to or ""
    return to.removeprefix(CHANNEL) if to.startswith(CHANNEL) else sent.channel


def message(call: Call[Any], number: int) -> wire.Message:
    """The message, if one of the caller's agents has to do with it. Raises `NotFound`, and `Forbidden`."""
    found = messages.get_message(call.fleet.store, number)
    names = call.principal.constraints.agents
    if names is not None and not any(_concerns(call.fleet.store, found, name) for name in names):
        raise Forbidden(f"message {number} is not for an agent of this token")
    return found


def _concerns(store: Store, found: wire.Message, agent_id: str) -> bool:
    if agent_id in (found.from_, found.to, found.resolved_to_agent):
        return True
    return messages.matches(found, agents.find_participant(store, agent_id))


def is_its(store: Store, principal: Principal, target: str) -> bool:
    """Whether commands for this target are those of an agent of the caller: for itself, or for the session that runs it."""
    names = principal.constraints.agents
    if names is None or target in names:
        return True
    cards = [agents.find_agent(store, name) for name in names]
    sessions = {card.instance_id for card in cards if card is not None}
    return target in sessions and agents.find_agent(store, target) is None


def commands_of(call: Call[Any], target: str | None) -> None:
    """The commands for this target are listed. Raises `Forbidden`."""
    if target is None or not is_its(call.fleet.store, call.principal, target):
        about(call.principal, target, "target")


def command_for(call: Call[Any], target: str) -> None:
    """A command for this agent, or host, is the caller's to make, report on and end. Raises `Forbidden`."""
    host = host_with(call.fleet.store, target)
    if not is_its(call.fleet.store, call.principal, target) or not call.principal.reaches(
        orchestrator=host, target=target
    ):
        raise Forbidden(f"this token is not for commands of {target}")


def carries_out(call: Call[Any]) -> None:
    """Whoever reports on a command, or takes it, is its target. Raises `NotFound`, and `Forbidden`."""
    command = commands.get_command(call.fleet.store, call.path["id"])
    if not is_its(call.fleet.store, call.principal, command.target):
        raise Forbidden(f"command {command.id} is for {command.target}, and not for this token")


def calls_off(call: Call[Any]) -> None:
    """Whoever may have made a command may cancel it. Raises `NotFound`, and `Forbidden`."""
    command_for(call, commands.get_command(call.fleet.store, call.path["id"]).target)


def one_of(principal: Principal, names: Iterable[object], what: str) -> None:
    """One of them is an agent of the caller. Raises `Forbidden`."""
    if not any(isinstance(name, str) and principal.reaches(agent=name) for name in names):
        raise Forbidden(f"{what} is about no agent of this token")


def reads_command(call: Call[Any], command: wire.Command) -> None:
    """One of the caller's agents is its target, or what it is about. Raises `Forbidden`."""
    params = command.params
    place = params.get("workspaceId")
    row = workspaces.find_workspace(call.fleet.store, place) if isinstance(place, str) else None
    concerned = (command.target, command.source, params.get("agentId"), row.agent_id if row else None)
    if not is_its(call.fleet.store, call.principal, command.target):
        one_of(call.principal, concerned, f"command {command.id}")


def whole_fleet(principal: Principal) -> None:
    """What is asked concerns everybody. Raises `Forbidden` for whoever is limited to some."""
    if principal.is_limited:
        raise Forbidden("this token is for some of the fleet only")


def sees_workspace(principal: Principal, row: wire.Workspace) -> bool:
    """Whether it may know of the workspace: by its id, and by where it is."""
    return principal.reaches(workspace=row.id, path=row.worktree_path or row.source_cwd)


def workspace(call: Call[Any], row: wire.Workspace) -> wire.Workspace:
    """The workspace, if the caller may know of it. Raises `Forbidden`."""
    if not sees_workspace(call.principal, row):
        raise Forbidden(f"this token is not for workspace {row.id}")
    return row


def starts(call: Call[Any], host: wire.Orchestrator | None, asked: wire.SpawnAgent) -> None:
    """It may have this host, or any, start such an agent. One whose id the host chooses is nobody's yet. Raises `Forbidden`."""
    constraints, cwd = call.principal.constraints, asked.cwd or (host.base_dir if host is not None else "")
    if host is None and constraints.orchestrators is not None:
        raise Forbidden("this token is for some hosts only; name one of them")
    if not call.principal.reaches(
        orchestrator=None if host is None else host.id,
        path=cwd,
        policy=asked.policy_name,
        agent=asked.agent_id or "",
    ):
        raise Forbidden("this token may not start such an agent there")
