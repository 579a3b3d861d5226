"""Commands: what somebody else is to do, and what became of it.

One actor per command owns its row. Whoever makes a command inserts the row in its own decision (`new_command`).

1. Statuses move by `MOVES`: forward only, and an end status is final. The same end status again is no news (CMD-11).
2. Every stored change is one event, named after the status it led to (CMD-8).
3. The end of a workspace command is a chain: the workspace settles, the lease is released, then the command ends.
   Each step may be repeated without harm, so a chain broken by a crash is finished by the next report or expiry.
4. A command with a life time is adopted, now or when the server starts: its timer ends it as `timed_out`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import Ask, Context, Step, Tell
from relay.store import Decision, Event, Store, Write

from ._actor import FleetActor
from ._audit import audit
from ._errors import Conflict, Invalid, NotFound
from ._moment import Moment
from ._new_command import command_event, new_command
from ._paths import normalised
from .merges import Release
from .workspaces import Report, Settle, outcome

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "Adopt",
    "Cancel",
    "Claim",
    "Command",
    "CommandProtocol",
    "Create",
    "Patch",
    "adoptable",
    "create_command",
    "find_command",
    "get_command",
    "list_commands",
    "new_command",
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

_REPORTS: Mapping[wire.CommandStatus, str] = {
    ACCEPTED: "accept",
    RUNNING: "run",
    SUCCEEDED: "succeed",
    FAILED: "fail",
    REJECTED: "reject",
    TIMED_OUT: "time_out",
    CANCELED: "cancel",
}
OPEN = tuple(status for status, moves in MOVES.items() if moves)

AUDITED = {"agent.restart": "ti-refresh", "agent.reconnect": "ti-refresh", "agent.shutdown": "ti-power"}
NEIGHBOURS_WITHIN = 20.0  # seconds that workspace and lease have to settle
RESTART_GRACE = 30.0  # seconds of life that a command has at least after the server started


class CommandProtocol:
    """What the actor of one command understands."""


@attrs.frozen
class Create(Ask[CommandProtocol, wire.Command]):
    asked: wire.NewCommand


@attrs.frozen
class Adopt(Tell[CommandProtocol]):
    """The row is there: watch over its life time."""


@attrs.frozen
class Patch(Ask[CommandProtocol, wire.Command]):
    """Whoever executes the command reports (CMD-6)."""

    change: wire.PatchCommand


@attrs.frozen
class Claim(Ask[CommandProtocol, bool]):
    """Take it, if it is still pending: the answer is True for one asker only (CMD-14)."""


@attrs.frozen
class Cancel(Ask[CommandProtocol, None]):
    """End it before it is done; refused as unknown when it has ended (CMD-9)."""


@attrs.frozen
class Expire(Tell[CommandProtocol]):
    """Its life time is over."""


class Command(FleetActor[CommandProtocol]):
    """The actor of one command."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.record = find_command(self.store, key)

    def started(self, context: Context[CommandProtocol]) -> None:
        self._mind(context, RESTART_GRACE)

    def handle(self, message: Any, context: Context[CommandProtocol]) -> Step:
        if self.record is None:
            self.record = find_command(self.store, self.id)
        match message:
            case Create(asked):
                self._create(message, asked, context)
            case Adopt():
                self._mind(context, 0.0)
            case Patch(change):
                return self._patch(message, change, context)
            case Claim():
                return self._claim(message, context)
            case Cancel():
                if not MOVES[self._known().status]:
                    raise NotFound("no such command, or it has ended")
                return self._move(message, "cancel", {}, None, context)
            case Expire():
                if self.record is not None and MOVES[self.record.status]:
                    return self._move(message, "time_out", {}, None, context)
        return None

    def _known(self) -> wire.Command:
        if self.record is None:
            raise NotFound("no such command")
        return self.record

    def _create(self, message: Create, asked: wire.NewCommand, context: Context[CommandProtocol]) -> None:
        self.record, writes, events = new_command(self.moment(), asked, id=self.id)
        self._mind(context, 0.0)
        self.settle(message, Decision(reply=self.record, writes=writes, events=events), context)

    def _patch(self, message: Patch, change: wire.PatchCommand, context: Context[CommandProtocol]) -> Step:
        event = moved_by(self._known(), change)
        if event is None:
            self.settle(message, Decision(reply=self._known()), context)
            return None
        _check(self._known(), change)
        given = attrs.asdict(change, recurse=False, filter=lambda _, value: value is not None)
        given.pop("status", None)
        return self._move(message, event, given, ..., context)

    def _claim(self, message: Claim, context: Context[CommandProtocol]) -> Step:
        if self._known().status is PENDING:
            return self._move(message, "accept", {}, True, context)
        self.settle(message, Decision(reply=False), context)
        return None

    def _move(
        self,
        message: Any,
        event: str,
        given: Mapping[str, Any],
        reply: Any,
        context: Context[CommandProtocol],
    ) -> Step:
        """The one way a status changes. `reply` is the answer; `...` stands for the command as it is then."""
        before = self._known()
        moment = self.moment()
        after = attrs.evolve(before, status=MOVES[before.status][event], updated_at=moment.at, **given)
        decision = moved(before, after, moment, after if reply is ... else reply)
        if not after.status.final:
            self.record = after
            self.settle(message, decision, context)
            return None
        if after.type.startswith("workspace.") or _spawned(after):
            return self._end(message, after, decision, context)
        self.record = after
        context.cancel_timer("life")
        self.settle(message, decision, context)
        return None

    async def _end(
        self, message: Any, after: wire.Command, decision: Decision[Any], context: Context[CommandProtocol]
    ) -> None:
        with trio.fail_after(NEIGHBOURS_WITHIN):
            await self._tell_workspaces(after)
        await self.commit(decision, context)
        self.record = after
        context.cancel_timer("life")
        if isinstance(message, Ask):
            context.reply(message, decision.reply)

    async def _tell_workspaces(self, after: wire.Command) -> None:
        host = after.params.get("orchestratorId") or after.target.removeprefix("orchestrator-")
        for entry in _spawned(after):
            assert entry.workspace is not None
            report = Report(entry.workspace, agent_id=entry.agent_id, orchestrator_id=str(host))
            await self.fleet.workspaces[entry.workspace.id].ask(report)
        if after.type.startswith("workspace.") and after.correlation_id is not None:
            settle = Settle(after.id, after.type, after.status, after.result, after.error)
            await self.fleet.workspaces[after.correlation_id].ask(settle)
        repository = after.params.get("repoRoot")
        if after.type == "workspace.merge" and isinstance(repository, str):
            await self.fleet.leases[normalised(repository)].ask(Release(after.id))

    def _mind(self, context: Context[CommandProtocol], least: float) -> None:
        """Have it expire. The wall clock only says how much is left after a restart; it can never add to it."""
        record = self.record
        if record is None or record.expires_at is None or record.ttl_ms is None or not MOVES[record.status]:
            return
        left = max(least, record.expires_at - context.system.wall())
        context.set_timer("life", min(left, max(least, record.ttl_ms / 1000)), Expire())


def moved_by(record: wire.Command, change: wire.PatchCommand) -> str | None:
    """Which event of `MOVES` a report is; None when it is no news. Raises `Conflict` where the table has nothing."""
    status = change.status or record.status
    if not MOVES[record.status]:
        if status is record.status:
            return None
        raise Conflict(f"the command is {record.status} for good")
    event = "note" if status is record.status else _REPORTS.get(status)
    if event not in MOVES[record.status]:
        raise Conflict(f"a command that is {record.status} cannot become {status}")
    return event


def moved(before: wire.Command, after: wire.Command, moment: Moment, reply: Any) -> Decision[Any]:
    """The row, fenced by the status it moves from, the event, and the outcome audit where there is one."""
    write = Write(
        "update commands set status = ?, record = ? where id = ? and status = ?",
        (after.status, wire.encode(after).decode(), after.id, before.status),
        1,
    )
    note = _outcome_audit(after, moment)
    writes = (write, note[0]) if note else (write,)
    events = (command_event(after), note[1]) if note else (command_event(after),)
    return Decision(reply=reply, writes=writes, events=events)


def _check(command: wire.Command, change: wire.PatchCommand) -> None:
    """A malformed result is refused before anything has changed, so that the host may report again (H-07)."""
    if command.type.startswith("workspace."):
        try:
            outcome(change.result, command.correlation_id)
        except wire.Invalid as error:
            raise Invalid(f"result: {error}") from None


def _spawned(command: wire.Command) -> list[wire.ManagedAgent]:
    """The agents a successful spawn put into workspaces. Entries that make no sense are left out."""
    if command.type != "agent.spawn" or command.status is not SUCCEEDED or not command.result:
        return []
    try:
        roster = wire.decode(wire.Roster, {"agents": command.result.get("managedAgents", [])})
    except wire.Invalid:
        return []
    return [entry for entry in roster.agents if entry.workspace is not None]


def _outcome_audit(command: wire.Command, moment: Moment) -> tuple[Write, Event] | None:
    """How a restart, reconnect or shutdown ended (CMD-20)."""
    if command.type not in AUDITED or command.status not in (SUCCEEDED, FAILED):
        return None
    named = command.params.get("action")
    known = isinstance(named, str) and f"agent.{named}" in AUDITED
    action = named if known else command.type.removeprefix("agent.")
    given = command.params.get("agentId")
    agent = given if isinstance(given, str) and given else command.target
    done = "completed" if command.status is SUCCEEDED else "failed"
    return audit(
        moment,
        f"server-agent-{agent}-action-{action}-{command.id}-{command.status}",
        f"{action} of {agent} {done}",
        body=command.error or action,
        meta=agent,
        icon=AUDITED[f"agent.{action}"],
        view="agents",
        agent_id=agent,
        metadata={
            "action": action,
            "commandId": command.id,
            "status": command.status.value,
            "error": command.error,
        },
    )


async def create_command(fleet: Fleet, asked: wire.NewCommand) -> wire.Command:
    """A command that a client asked for (CMD-1)."""
    return await fleet.commands[fleet.system.new_id("cmd")].ask(Create(asked))


def find_command(store: Store, key: str) -> wire.Command | None:
    row = store.row("select record from commands where id = ?", key)
    return wire.decode(wire.Command, row[0]) if row else None


def get_command(store: Store, key: str) -> wire.Command:
    """The command; raises `NotFound`."""
    command = find_command(store, key)
    if command is None:
        raise NotFound("no such command")
    return command


def list_commands(
    store: Store,
    *,
    target: str | None = None,
    status: wire.CommandStatus | None = None,
    type: str | None = None,  # noqa: A002 - the name of the query's member
    since: int | None = None,
    limit: int = 100,
) -> list[wire.Command]:
    """Commands that fit all filters, oldest first. `since` is epoch milliseconds, inclusive (CMD-4, O-24)."""
    filters = {"target = ?": target, "status = ?": status, "type = ?": type, "created_at >= ?": since}
    asked = {sql: value for sql, value in filters.items() if value is not None}
    where = f"where {' and '.join(asked)} " if asked else ""
    rows = store.rows(f"select record from commands {where}order by seq limit ?", *asked.values(), limit)
    return [wire.decode(wire.Command, record) for (record,) in rows]


def adoptable(store: Store) -> list[str]:
    """The ids of open commands with a life time: whoever starts the fleet wakes them."""
    marks = ", ".join("?" * len(OPEN))
    sql = f"select id from commands where expires_at is not null and status in ({marks})"
    return [key for (key,) in store.rows(sql, *OPEN)]
