"""Commands: what somebody else is to do, and what became of it.

One actor per command owns its row. Whoever makes a command inserts the row in its own decision (`new_command`).

1. Statuses move by `MOVES`: forward only, and an end status is final. The same end status again is no news (CMD-11).
2. Every stored change is one event, named after the status it led to (CMD-8).
3. The end of a workspace command is a chain: the workspace settles, the lease is released, then the command ends.
   Each step may be repeated without harm, so a chain broken by a crash is finished by the next report or expiry.
4. A claim gives a token that only grows. From then on only reports that carry the newest one count: a claimant that
   was replaced, or comes back late, is refused (CMD-14).
5. A command with a life time is adopted, now or when the server starts. Once that is over, a maintenance run ends it as
   `timed_out` (CMD-12); its own timer does what the runs have missed.
6. A merge does not wait for a host that is away, as its base may move meanwhile and nobody else can merge: one that has
   not been begun when its host goes offline fails (W-I18). One that has been begun waits for its outcome or its expiry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import Ask, Context, Step, Tell
from relay.store import Decision, Store

from ._actor import FleetActor
from ._command_rules import MOVES, OPEN, check, claimed_by, moved, moved_by, spawned
from ._contact import HELD_UP
from ._errors import NotFound
from ._new_command import new_command
from ._owners import is_online
from ._paths import normalised
from ._records import fitting
from ._workspace_protocol import Report, Settle
from .merges import Release

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "MOVES",
    "Adopt",
    "Cancel",
    "Claim",
    "Command",
    "CommandProtocol",
    "Create",
    "ExpireIfDue",
    "HostLeft",
    "Patch",
    "adoptable",
    "create_command",
    "due",
    "find_command",
    "get_command",
    "impatient",
    "list_commands",
    "new_command",
]

IMPATIENT = ("workspace.merge",)
NEIGHBOURS_WITHIN = 20.0  # seconds that workspace and lease have to settle
RESTART_GRACE = 30.0  # seconds of life that a command has at least after the server started
OVERDUE = 60.0  # seconds after its life time in which a maintenance run is to end it


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
class Claim(Ask[CommandProtocol, int | None]):
    """Take it, if it is still pending, or was the claimant's before: the answer is the token of the claim, and None
    for everybody else (CMD-14)."""

    claimant: str | None = None


@attrs.frozen
class Cancel(Ask[CommandProtocol, None]):
    """End it before it is done; refused as unknown when it has ended (CMD-9)."""


@attrs.frozen
class HostLeft(Tell[CommandProtocol]):
    """The host that it is for may have gone offline."""


@attrs.frozen
class Expire(Tell[CommandProtocol]):
    """Its life time is long over."""


@attrs.frozen
class ExpireIfDue(Ask[CommandProtocol, bool]):
    """Time out, if its life time is over; the answer is whether it did (step 4 of 19.2).

    `missed`: seconds that the server was held up. They are added to the life time first, for nobody could report.
    """

    missed: float = 0.0


class Command(FleetActor[CommandProtocol]):
    """The actor of one command."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.record = find_command(self.store, key)
        self._ends = float("inf")

    def started(self, context: Context[CommandProtocol]) -> None:
        self._mind(context, RESTART_GRACE)
        if self._is_forlorn():
            context.self_ref.tell(HostLeft())

    def handle(self, message: Any, context: Context[CommandProtocol]) -> Step:
        if self.record is None:
            self.record = find_command(self.store, self.id)
        match message:
            case Create(asked):
                self._create(message, asked, context)
            case Adopt():
                self._mind(context, 0.0)
                return self._give_up(message, context)
            case HostLeft():
                return self._give_up(message, context)
            case Patch(change):
                return self._patch(message, change, context)
            case Claim(claimant):
                return self._claim(message, claimant, context)
            case Cancel():
                if not MOVES[self._known().status]:
                    raise NotFound("no such command, or it has ended")
                return self._move(message, "cancel", {}, None, context)
            case Expire() | ExpireIfDue():
                return self._expire(message, context)
        return None

    def _known(self) -> wire.Command:
        if self.record is None:
            raise NotFound("no such command")
        return self.record

    def _give_up(self, message: Adopt | HostLeft, context: Context[CommandProtocol]) -> Step:
        if not self._is_forlorn():
            return None
        host = self._known().target.removeprefix("orchestrator-")
        why = f"host {host} went offline before it began: start its orchestrator, then ask again"
        return self._move(message, "fail", {"error": why}, None, context)

    def _is_forlorn(self) -> bool:
        """Whether it is a merge that nobody has begun, and nobody is there to begin it."""
        record = self.record
        if record is None or record.type not in IMPATIENT or record.status is not wire.CommandStatus.PENDING:
            return False
        return not is_online(self.store, record.target)

    def _expire(self, message: Expire | ExpireIfDue, context: Context[CommandProtocol]) -> Step:
        is_open = self.record is not None and bool(MOVES[self.record.status])
        if is_open and not self._prolonged(message, context) and self._ends <= context.system.now():
            return self._move(message, "time_out", {}, True, context)
        self.settle(message, Decision(reply=False), context)
        return None

    def _prolonged(self, message: Expire | ExpireIfDue, context: Context[CommandProtocol]) -> bool:
        """Whether nobody could report, so that it lives on. A timer that is late leaves it to the next run to say."""
        if isinstance(message, ExpireIfDue):
            if message.missed:
                self._live(self._ends + message.missed - context.system.now(), context)
            return False
        late = context.system.now() - self._ends - OVERDUE
        if late > HELD_UP:
            context.set_timer("life", OVERDUE, Expire())
        return late > HELD_UP

    def _create(self, message: Create, asked: wire.NewCommand, context: Context[CommandProtocol]) -> None:
        self.record, writes, events = new_command(self.moment(), asked, id=self.id)
        self._mind(context, 0.0)
        self.settle(message, Decision(reply=self.record, writes=writes, events=events), context)

    def _patch(self, message: Patch, change: wire.PatchCommand, context: Context[CommandProtocol]) -> Step:
        event = moved_by(self._known(), change)
        if event is None:
            self.settle(message, Decision(reply=self._known()), context)
            return None
        check(self._known(), change)
        given = attrs.asdict(change, recurse=False, filter=lambda _, value: value is not None)
        given.pop("status", None)
        given.pop("token", None)
        return self._move(message, event, given, ..., context)

    def _claim(self, message: Claim, claimant: str | None, context: Context[CommandProtocol]) -> Step:
        event = claimed_by(self._known(), claimant)
        if event is None:
            lost: Decision[int | None] = Decision(reply=None)
            self.settle(message, lost, context)
            return None
        token = (self._known().claim_token or 0) + 1
        return self._move(message, event, {"claimant": claimant, "claim_token": token}, token, context)

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
        if after.type.startswith("workspace.") or spawned(after):
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
        for entry in spawned(after):
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
        """Have it expire. The wall clock, as if nobody had set it forward, only says how much is left after a restart; it
        can never add to it."""
        record = self.record
        if record is None or record.expires_at is None or record.ttl_ms is None or not MOVES[record.status]:
            return
        wall = context.system.wall() - self.fleet.absence.leapt()
        left = max(least, record.expires_at - wall)
        self._live(min(left, max(least, record.ttl_ms / 1000)), context)

    def _live(self, seconds: float, context: Context[CommandProtocol]) -> None:
        self._ends = context.system.now() + seconds
        context.set_timer("life", max(0.0, seconds) + OVERDUE, Expire())


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
    return fitting(store, wire.Command, "commands", filters, order="seq", limit=limit)


def impatient(store: Store, target: str) -> list[str]:
    """The ids of pending commands that do not wait for a target that is away."""
    marks = ", ".join("?" * len(IMPATIENT))
    sql = (
        f"select id from commands where target = ? and status = 'pending' and type in ({marks}) order by seq"
    )
    return [key for (key,) in store.rows(sql, target, *IMPATIENT)]


def adoptable(store: Store) -> list[str]:
    """The ids of open commands with a life time: whoever starts the fleet wakes them."""
    marks = ", ".join("?" * len(OPEN))
    sql = f"select id from commands where expires_at is not null and status in ({marks})"
    return [key for (key,) in store.rows(sql, *OPEN)]


def due(store: Store, at: float) -> list[str]:
    """The ids of open commands whose life time is over by the wall clock (`at`, epoch seconds), oldest first."""
    sql = "select id from commands where expires_at <= ? and status in ('pending', 'accepted', 'running') order by seq"
    return [key for (key,) in store.rows(sql, at * 1000)]
