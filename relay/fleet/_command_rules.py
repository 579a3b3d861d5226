"""How a command moves, and what is told of it. They decide and do nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Event, Write

from ._agent_actions import ACTIONS
from ._audit import audit
from ._errors import Conflict, Invalid, Settled
from ._moment import Moment
from ._new_command import command_event, deadline
from ._records import text_of
from ._settlement import outcome

__all__ = [
    "MOVES",
    "OPEN",
    "REPORTS",
    "check",
    "claimed_by",
    "moved",
    "moved_by",
    "spawned",
    "term_of",
    "timing",
]

Status = wire.CommandStatus
PENDING, ACCEPTED, RUNNING = Status.PENDING, Status.ACCEPTED, Status.RUNNING
SUCCEEDED, FAILED, REJECTED = Status.SUCCEEDED, Status.FAILED, Status.REJECTED
TIMED_OUT, CANCELED = Status.TIMED_OUT, Status.CANCELED

Moves = Mapping[str, wire.CommandStatus]
_ENDS: Moves = {
    "succeed": SUCCEEDED,
    "fail": FAILED,
    "reject": REJECTED,
    "time_out": TIMED_OUT,
    "cancel": CANCELED,
}
MOVES: Mapping[wire.CommandStatus, Moves] = {
    PENDING: {"note": PENDING, "accept": ACCEPTED, "run": RUNNING, **_ENDS},
    ACCEPTED: {"note": ACCEPTED, "accept": ACCEPTED, "run": RUNNING, **_ENDS},
    RUNNING: {"note": RUNNING, "run": RUNNING, **_ENDS},
    SUCCEEDED: {},
    FAILED: {},
    REJECTED: {},
    TIMED_OUT: {},
    CANCELED: {},
}
"""Spec 22.4. `note` is a report without a status, or with the present one."""

REPORTS: Mapping[wire.CommandStatus, str] = {
    ACCEPTED: "accept",
    RUNNING: "run",
    SUCCEEDED: "succeed",
    FAILED: "fail",
    REJECTED: "reject",
    TIMED_OUT: "time_out",
    CANCELED: "cancel",
}
"""Which event of `MOVES` it is that a status is reported."""

OPEN = tuple(status for status, moves in MOVES.items() if moves)

AUDITED = {
    ACTIONS[verb].command: verb
    for verb in (wire.AgentVerb.RESTART, wire.AgentVerb.RECONNECT, wire.AgentVerb.SHUTDOWN)
}


def claimed_by(record: wire.Command, claimant: str | None) -> str | None:
    """Which event of `MOVES` a claim is; None when it is lost. Whoever has it may take it again, with a new token:
    after a crash, or when the answer did not arrive."""
    if record.status is PENDING:
        return "accept"
    again = claimant is not None and record.claimant == claimant and bool(MOVES[record.status])
    return "note" if again else None


def moved_by(record: wire.Command, change: wire.PatchCommand) -> str | None:
    """Which event of `MOVES` a report is; None when it is no news.

    Raises `Conflict` where the table has nothing, and when it is not the claimant's: a command that was claimed
    listens only to the newest claim. Whoever is late is told how the command has ended (`Settled`).
    """
    status = change.status or record.status
    stranger = change.token != record.claim_token
    if not MOVES[record.status]:
        if status is record.status and not stranger:
            return None
        raise Settled(f"the command is {record.status} for good", "command", record)
    if stranger:
        raise Conflict("somebody else has claimed the command; this report of it is refused")
    event = "note" if status is record.status else REPORTS.get(status)
    if event not in MOVES[record.status]:
        raise Conflict(f"a command that is {record.status} cannot become {status}")
    return event


def moved(before: wire.Command, after: wire.Command, moment: Moment, reply: Any) -> Decision[Any]:
    """The row, fenced by the status it moves from, the event, and the outcome audit where there is one."""
    known = wire.to_json(after)
    write = Write(
        "update commands set status = ?, record = ?, expires_at = ? where id = ? and status = ?",
        (after.status, text_of(known), _ms(after.expires_at), after.id, before.status),
        1,
    )
    note = _outcome_audit(after, moment)
    writes = (write, note[0]) if note else (write,)
    event = command_event(after, known)
    return Decision(reply=reply, writes=writes, events=(event, note[1]) if note else (event,))


def timing(before: wire.Command, after: wire.Command, at: float) -> wire.Command:
    """When it must be over, now that it has moved; and whether anybody can say what was done, once it is."""
    if after.status.final:
        begun = before.status is not PENDING
        unknown = begun and after.status in (TIMED_OUT, CANCELED)
        return attrs.evolve(after, outcome_unknown=unknown or None)
    begins = after.status is not before.status or after.claim_token != before.claim_token
    if after.status is PENDING or after.execution_ms is None or not begins:
        return after
    return attrs.evolve(after, expires_at=deadline(at, after.execution_ms))


def term_of(record: wire.Command) -> float:
    """For how many seconds a command may be as it is, that has a deadline."""
    begun = record.status is not PENDING and record.execution_ms is not None
    term = record.execution_ms if begun else record.ttl_ms
    return (term or 0) / 1000


def check(command: wire.Command, change: wire.PatchCommand) -> None:
    """A malformed result is refused before anything has changed, so that the host may report again (H-07)."""
    if command.type.startswith("workspace."):
        try:
            outcome(change.result, command.correlation_id)
        except wire.Invalid as error:
            raise Invalid(f"result: {error}") from None


def spawned(command: wire.Command) -> list[wire.ManagedAgent]:
    """The agents a successful spawn put into workspaces. Entries that make no sense are left out."""
    if command.type != "agent.spawn" or command.status is not SUCCEEDED or not command.result:
        return []
    try:
        roster = wire.decode(wire.Roster, {"agents": command.result.get("managedAgents", [])})
    except wire.Invalid:
        return []
    return [entry for entry in roster.agents if entry.workspace is not None]


def _outcome_audit(command: wire.Command, moment: Moment) -> tuple[Write, Event] | None:
    """How a restart, reconnect or shutdown ended (CMD-20): of which action the command says it is, else of its type's."""
    usual = AUDITED.get(command.type)
    if usual is None or command.status not in (SUCCEEDED, FAILED):
        return None
    named = command.params.get("action")
    verb = wire.AgentVerb(named) if isinstance(named, str) and named in set(wire.AgentVerb) else usual
    given = command.params.get("agentId")
    agent = given if isinstance(given, str) and given else command.target
    done = f"{agent} {ACTIONS[verb].done}"
    return audit(
        moment,
        f"server-agent-{agent}-action-{verb}-{command.id}-{command.status}",
        done if command.status is SUCCEEDED else f"{verb} of {agent} failed",
        body=command.error or verb.value,
        meta=agent,
        icon=ACTIONS[verb].icon,
        view="agents",
        agent_id=agent,
        metadata={
            "action": verb.value,
            "commandId": command.id,
            "status": command.status.value,
            "error": command.error,
        },
    )


def _ms(at: wire.Instant | None) -> int | None:
    return None if at is None else round(at * 1000)
