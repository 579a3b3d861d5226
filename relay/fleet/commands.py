"""Commands: what somebody else is to do, and what became of it.

One actor per command owns its row. Whoever makes a command inserts the row in its own decision (`new_command`).

1. Statuses move by `MOVES`: forward only, and an end status is final. The same end status again is no news (CMD-11), and
   whoever reports another one is told how it has ended.
2. Every stored change is one event, named after the status it led to (CMD-8).
3. Who must know before others see the event is asked first: the recipe whose command it is (M-I17), and at the end of a
   workspace's command the workspace and the lease. Each of these steps may be repeated without harm, so a chain broken
   by a crash is finished by the next report or expiry. Hosts and policies are told once the end is durable.
4. A claim gives a token that only grows. From then on only reports that carry the newest one count: a claimant that
   was replaced, or comes back late, is refused (CMD-14). What relay itself has learned of the end counts without one.
5. `expires_at` is the one deadline that a command has at a time. While it is pending its life time sets that, if it has
   one; once somebody has begun, the execution's term does, if it has one, and begins anew with `running` and with each
   claim. A maintenance run ends what is over as `timed_out` (CMD-12); the command's own timer does what the runs have missed.
6. What somebody had begun when its time was over, or it was canceled, may or may not have been done: `outcome_unknown`.
7. A merge does not wait for a host that is away, as its base may move meanwhile and nobody else can merge: one that has
   not been begun when its host goes offline fails (W-I18). One that has been begun waits for its outcome or its expiry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import Ask, Context, Step
from relay.store import Decision

from ._actor import FleetActor
from ._command_hooks import others_to_tell, tell_afterwards, tell_before
from ._command_protocol import (
    Adopt,
    Cancel,
    Claim,
    CommandProtocol,
    Conclude,
    Create,
    Expire,
    ExpireIfDue,
    HostLeft,
    Patch,
    Withdraw,
)
from ._command_rows import IMPATIENT, adoptable, due, find_command, get_command, impatient, list_commands
from ._command_rules import MOVES, REPORTS, check, claimed_by, moved, moved_by, term_of, timing
from ._contact import HELD_UP
from ._errors import NotFound
from ._new_command import new_command
from ._owners import is_online

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "MOVES",
    "Adopt",
    "Cancel",
    "Claim",
    "Command",
    "CommandProtocol",
    "Conclude",
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

NEIGHBOURS_WITHIN = 20.0  # seconds that recipe, workspace and lease have to take note
RESTART_GRACE = 30.0  # seconds of life that a command has at least after the server started
OVERDUE = 60.0  # seconds after its deadline in which a maintenance run is to end it


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
            case Conclude():
                return self._conclude(message, context)
            case Cancel():
                if not MOVES[self._known().status]:
                    raise NotFound("no such command, or it has ended")
                return self._move(message, "cancel", {}, None, context)
            case Withdraw():
                if self.record is not None and self.record.status is wire.CommandStatus.PENDING:
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

    def _conclude(self, message: Conclude, context: Context[CommandProtocol]) -> Step:
        if not MOVES[self._known().status]:
            self.settle(message, Decision(reply=self._known()), context)
            return None
        given = {name: said for name in ("result", "error") if (said := getattr(message, name)) is not None}
        return self._move(message, REPORTS[message.status], given, ..., context)

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
        after = timing(before, after, moment.at)
        decision = moved(before, after, moment, after if reply is ... else reply)
        decision = attrs.evolve(decision, tells=tell_afterwards(self.fleet, after))
        if others_to_tell(after):
            return self._move_with_others(message, before, after, decision, context)
        self._become(before, after, context)
        self.settle(message, decision, context)
        return None

    async def _move_with_others(
        self,
        message: Any,
        before: wire.Command,
        after: wire.Command,
        decision: Decision[Any],
        context: Context[CommandProtocol],
    ) -> None:
        with trio.fail_after(NEIGHBOURS_WITHIN):
            await tell_before(self.fleet, after)
        await self.commit(decision, context)
        self._become(before, after, context)
        if isinstance(message, Ask):
            context.reply(message, decision.reply)

    def _become(self, before: wire.Command, after: wire.Command, context: Context[CommandProtocol]) -> None:
        self.record = after
        if after.status.final or after.expires_at is None:
            self._ends = float("inf")
            context.cancel_timer("life")
        elif after.expires_at != before.expires_at:
            self._live(term_of(after), context)

    def _mind(self, context: Context[CommandProtocol], least: float) -> None:
        """Have it expire. The wall clock, as if nobody had set it forward, only says how much is left after a restart; it
        can never add to it."""
        record = self.record
        if record is None or record.expires_at is None or not MOVES[record.status]:
            return
        wall = context.system.wall() - self.fleet.absence.leapt()
        left = max(least, record.expires_at - wall)
        self._live(min(left, max(least, term_of(record))), context)

    def _live(self, seconds: float, context: Context[CommandProtocol]) -> None:
        self._ends = context.system.now() + seconds
        context.set_timer("life", max(0.0, seconds) + OVERDUE, Expire())


async def create_command(fleet: Fleet, asked: wire.NewCommand) -> wire.Command:
    """A command that a client asked for (CMD-1)."""
    return await fleet.commands[fleet.system.new_id("cmd")].ask(Create(asked))
