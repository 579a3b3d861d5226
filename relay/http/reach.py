"""What the constraints of a token leave of mail, commands and workspaces, where the path of a route does not say it.

Whoever is for some agents only reads the mail of those, has their tasks and commands, and is told what concerns those. Whoever
is for some of the fleet, of whatever kind, has to name an agent where others are told of everybody. Who else is in the fleet
everybody sees who may read about agents at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from relay import wire
from relay.fleet import Forbidden, agents, commands, messages, tasks, workspaces
from relay.fleet.tokens import host_with
from relay.store import Store

from .auth import Principal
from .routing import Call

__all__ = [
    "about",
    "calls_off",
    "card",
    "carries_out",
    "channel_of",
    "command_for",
    "commands_of",
    "host_may_do",
    "is_its",
    "mail_of",
    "message",
    "of_everybody",
    "one_of",
    "policy_named",
    "queue_of",
    "reads",
    "reads_command",
    "refers",
    "sees_workspace",
    "session",
    "starts",
    "takes",
    "task",
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


def of_everybody(store: Store, principal: Principal, agent_id: str | None, member: str) -> None:
    """Only what concerns this agent, or host, is told; None: what concerns anybody, or anything. Raises `Forbidden`."""
    if agent_id is None and principal.is_limited:
        raise Forbidden(f"{member}: this token is for some of the fleet only; name an agent that it is for")
    about(principal, agent_id, member)
    if agent_id is not None and not principal.reaches(orchestrator=host_with(store, agent_id)):
        raise Forbidden(f"{member}: this token is not for that host")


def card(principal: Principal, store: Store, agent_id: str, policy: str | None = None) -> None:
    """The card of this agent is written, which may be the identity of a host, or is from now on that of a policy. Raises
    `Forbidden`."""
    if not principal.reaches(agent=agent_id, orchestrator=host_with(store, agent_id), policy=policy):
        raise Forbidden(f"this token is not for {agent_id}" + (f" of policy {policy}" if policy else ""))


def policy_named(meta: Mapping[str, Any] | None) -> str | None:
    """The policy that an agent says it is of."""
    value = (meta or {}).get("policyName")
    return value if isinstance(value, str) and value else None


def mail_of(store: Store, principal: Principal, address: str | None, member: str = "for") -> None:
    """Whose mail is read: an agent's, or what waits for a policy. Raises `Forbidden`."""
    if address is not None and address.startswith(POLICY):
        if not principal.reaches(policy=address.removeprefix(POLICY)):
            raise Forbidden(f"{member}: this token is not for {address}")
        return
    of_everybody(store, principal, address, member)


def queue_of(store: Store, principal: Principal, name: str) -> None:
    """What waits for an address, or for the policy of that name, is read. Raises `Forbidden`."""
    mail_of(store, principal, name)
    if not name.startswith(POLICY):
        mail_of(store, principal, POLICY + name)


def channel_of(sent: wire.SendMessage) -> str | None:
    """The channel that a message goes out on."""
    to = sent.to or ""
    return to.removeprefix(CHANNEL) if to.startswith(CHANNEL) else sent.channel


def message(call: Call[Any], number: int) -> wire.Message:
    """The message, if one of the caller's agents has to do with it. Raises `NotFound`, and `Forbidden`."""
    return _message(call.fleet.store, call.principal, number)


def _message(store: Store, principal: Principal, number: int) -> wire.Message:
    found = messages.get_message(store, number)
    names = principal.constraints.agents
    if names is not None and not any(_concerns(store, found, name) for name in names):
        raise Forbidden(f"message {number} is not for an agent of this token")
    return found


def refers(
    store: Store, principal: Principal, reply_to: int | None, payload: Mapping[str, Any] | None
) -> None:
    """A message that is sent answers another, or names a task. With an answer goes the thread, and with the claim of such a
    message the task: so they must be the caller's to read. Raises `NotFound`, and `Forbidden`."""
    if principal.constraints.agents is None:
        return
    if reply_to is not None:
        _message(store, principal, reply_to)
    number = (payload or {}).get("taskId")
    if type(number) is int and tasks.find_task(store, number) is not None:
        task(store, principal, number)


def task(store: Store, principal: Principal, number: int) -> wire.Task:
    """The task, if one of the caller's agents has it, or could. Raises `NotFound`, and `Forbidden`."""
    found = tasks.get_task(store, number)
    names = principal.constraints.agents
    if names is not None and not tasks.is_for_one(store, number, names):
        raise Forbidden(f"task {number} is not for an agent of this token")
    return found


def reads(store: Store, principal: Principal, number: int) -> None:
    """Somebody says that it has read the message. Raises `NotFound`, and `Forbidden`."""
    _message(store, principal, number)


def _concerns(store: Store, found: wire.Message, agent_id: str) -> bool:
    if agent_id in (found.from_, found.to, found.resolved_to_agent):
        return True
    if messages.matches(found, agents.find_participant(store, agent_id)):
        return True
    return (
        store.row("select 1 from deliveries where message_id = ? and agent_id = ?", found.id, agent_id)
        is not None
    )


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
    if target is None:
        of_everybody(call.fleet.store, call.principal, target, "target")
    elif not takes(call.fleet.store, call.principal, target):
        raise Forbidden(f"target: this token is not for {target}")


def takes(store: Store, principal: Principal, target: str) -> bool:
    """Whether commands for this target are the caller's to take, and to report on: an agent, or a host."""
    return is_its(store, principal, target) and principal.reaches(orchestrator=host_with(store, target))


def command_for(call: Call[Any], target: str) -> None:
    """A command for this agent, or host, is the caller's to make, report on and end. Raises `Forbidden`."""
    if not takes(call.fleet.store, call.principal, target) or not call.principal.reaches(target=target):
        raise Forbidden(f"this token is not for commands of {target}")


def host_may_do(call: Call[Any], target: str) -> None:
    """A command of any type is made for this host: what it does there nobody checks here. Raises `Forbidden`."""
    limits = call.principal.constraints
    if host_with(call.fleet.store, target) is not None and any(
        kind is not None for kind in (limits.policies, limits.workspaces, limits.paths)
    ):
        raise Forbidden(f"this token has {target} do only what there is a route for")


def carries_out(call: Call[Any]) -> None:
    """Whoever reports on a command, or takes it, is its target. Raises `NotFound`, and `Forbidden`."""
    command = commands.get_command(call.fleet.store, call.path["id"])
    if not takes(call.fleet.store, call.principal, command.target):
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
    call.need_reach(orchestrator=host_with(call.fleet.store, command.target))
    concerned = (command.target, command.source, params.get("agentId"), row.agent_id if row else None)
    if not is_its(call.fleet.store, call.principal, command.target):
        one_of(call.principal, concerned, f"command {command.id}")


def whole_fleet(principal: Principal) -> None:
    """What is asked concerns everybody. Raises `Forbidden` for whoever is limited to some."""
    if principal.is_limited:
        raise Forbidden("this token is for some of the fleet only")


def session(call: Call[Any], host: wire.Orchestrator, name: str | None) -> None:
    """What a session on the host says is read; None: which there are. It is its agent's, and the host's. Raises `Forbidden`."""
    of = [entry.agent_id for entry in host.managed_agents if name in (entry.session_name, entry.tmux_session)]
    if not any(call.principal.reaches(agent=each) for each in (host.agent_id, *(of if name else ()))):
        raise Forbidden(f"this token is not for {f'session {name}' if name else 'the sessions'} of {host.id}")


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
