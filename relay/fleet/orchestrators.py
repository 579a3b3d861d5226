"""Orchestrators: the host daemons that start and stop agents.

One actor per id owns the host's row: what it is, whether it is there, which agents it runs.

1. Registration and heartbeat are contact. After 90 s without any a maintenance run takes the host offline, or at once
   a goodbye; the next contact brings it back. It takes part under an identity of its own, an agent of kind `orchestrator` that follows it.
2. The roster replaces the list of managed agents. What it says of workspaces and ended sessions goes to their owners
   before the roster is stored, so a roster that is sent again after a crash does no harm. A workspace whose session
   is not in it any more has lost its owner.
3. Spawns and actions are commands to the identity. A spawn needs the host to be there; an action waits for it. Once it
   is gone, commands that must not wait for it are told.
4. An upgrade is a chain: its command ends, then the host's record says so. Each step may be repeated, so one that a crash
   broke is finished at the next contact, or when the actor starts (`_upgrades`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Context, Step, Unavailable
from relay.store import Decision, Event, Write

from . import _upgrades as upgrades, agents, commands
from ._actor import FleetActor
from ._contact import Contact
from ._dispatch import act, spawn
from ._errors import NotFound
from ._moment import Moment
from ._orchestrator_protocol import (
    Act,
    Dispatched,
    Heartbeat,
    Leave,
    Mend,
    OrchestratorProtocol,
    ReapIfSilent,
    Reclaim,
    Register,
    Registered,
    Remove,
    ReportRoster,
    Silence,
    Spawn,
    Upgrade,
    UpgradeMoved,
)
from ._orchestrator_rows import find_orchestrator, get_orchestrator, list_orchestrators
from ._orchestrator_rules import announced, given, identity, register, row_of
from ._outfits import completed, outfitted
from ._placement import spawn_anywhere
from ._policy_reports import of_host, of_new_sessions
from ._reclaim import reclaim
from ._rosters import tell_owners
from ._upgrade_chain import Upgrading, supersede

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "Act",
    "Dispatched",
    "Heartbeat",
    "Orchestrator",
    "OrchestratorProtocol",
    "ReapIfSilent",
    "Reclaim",
    "Register",
    "Registered",
    "Remove",
    "ReportRoster",
    "Spawn",
    "Upgrade",
    "UpgradeMoved",
    "completed",
    "find_orchestrator",
    "get_orchestrator",
    "list_orchestrators",
    "spawn_anywhere",
]

R = TypeVar("R")
ONLINE, OFFLINE = wire.OrchestratorStatus.ONLINE, wire.OrchestratorStatus.OFFLINE

OFFLINE_AFTER = 90.0  # seconds without contact (O-10)
OVERDUE = 60.0  # seconds more, after which a host goes offline by itself: merges wait for nothing but that
MEND_AGAIN = 5.0  # seconds
NEIGHBOURS_WITHIN = 20.0  # seconds that other actors have to do their part


class Orchestrator(FleetActor[OrchestratorProtocol]):
    """The actor of one host."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.record = find_orchestrator(self.store, key)
        self._contact = Contact(fleet.system, (OFFLINE_AFTER + OVERDUE,))
        self._upgrading = Upgrading(fleet)

    def started(self, context: Context[OrchestratorProtocol]) -> None:
        self._watch(context)
        if self.record is not None and self.record.upgrade is not None:
            context.self_ref.tell(Mend())

    def handle(self, message: Any, context: Context[OrchestratorProtocol]) -> Step:
        match message:
            case Register():
                return self._register(message, context)
            case Heartbeat():
                return self._beat(message, context)
            case ReportRoster():
                return self._report(message, context)
            case Spawn():
                host, request = self._known(), outfitted(self.store, message.request)
                self.settle(message, spawn(host, message, request, self.moment_alone()), context)
            case Act():
                self.settle(message, act(self._known(), message, self.moment()), context)
            case Upgrade():
                return self._upgrade(message, context)
            case UpgradeMoved(command_id, status, error):
                self._moved(message, upgrades.on_news(self.record, command_id, status, error), context)
            case Mend():
                return self._mend(message, context)
            case Reclaim():
                self.settle(
                    message, reclaim(self._known(), message, self.store, self.moment_alone()), context
                )
            case Remove():
                return self._remove(message, context)
            case Leave():
                return self._gone(context)
            case ReapIfSilent():
                return self._reap(message, context)
            case Silence():
                return self._look(context)
        return None

    def _known(self) -> wire.Orchestrator:
        if self.record is None:
            raise NotFound("no such orchestrator")
        return self.record

    async def _register(self, message: Register, context: Context[OrchestratorProtocol]) -> None:
        moment = self.moment()
        record, decision = register(self.record, message, moment)
        record, decision = await self._upgrading.met(record, decision, moment)
        await self.commit(decision, context)
        self.record = record
        self._contact.heard()
        self._watch(context)
        with trio.fail_after(NEIGHBOURS_WITHIN):
            await self.fleet.agents[record.agent_id].ask(agents.Register(identity(record)))
        context.reply(message, attrs.evolve(decision.reply, orchestrator=record))

    def _beat(self, message: Heartbeat, context: Context[OrchestratorProtocol]) -> Step:
        before, moment = self._known(), self.moment()
        after = attrs.evolve(before, **given(message.beat), status=ONLINE, last_seen=moment.at)
        self._contact.heard()
        back = before.status is OFFLINE
        decision: Decision[wire.Orchestrator] = Decision(reply=after)
        if back:
            told = (self.fleet.agents[after.agent_id], agents.Follow(wire.AgentStatus.ONLINE))
            row, event = announced(after)
            decision = Decision(reply=after, writes=(row,), events=(event,), tells=(told,))
        elif self._contact.storable or attrs.evolve(after, last_seen=before.last_seen) != before:
            decision = Decision(reply=after, writes=(row_of(after, wire.to_json(after)),))
        if self._upgrading.ended(after, moment) is not None:
            return self._beat_and_settle(message, after, decision, moment, context)
        if decision.writes:
            self._contact.stored()
        self.record = after
        self.settle(message, decision, context)
        self._watch(context)
        return None

    async def _beat_and_settle(
        self,
        message: Heartbeat,
        host: wire.Orchestrator,
        beat: Decision[wire.Orchestrator],
        moment: Moment,
        context: Context[OrchestratorProtocol],
    ) -> None:
        after, decision = await self._upgrading.met(host, beat, moment)
        await self.commit(decision, context)
        self._contact.stored()
        self.record = after
        self._watch(context)
        context.reply(message, after)

    # -- upgrades

    async def _upgrade(self, message: Upgrade, context: Context[OrchestratorProtocol]) -> None:
        after, decision = upgrades.ask(self._known(), message.asked, self.moment(), message.by)
        told = (self.fleet.commands[decision.reply.command.id], commands.Adopt())
        await self.commit(attrs.evolve(decision, tells=(told,)), context)
        self.record = after
        self._upgrading.begins()
        await supersede(self.fleet, after)
        context.reply(message, decision.reply)

    def _moved(
        self,
        message: UpgradeMoved | Mend,
        ended: upgrades.Ended | None,
        context: Context[OrchestratorProtocol],
    ) -> None:
        if ended is not None:
            self.record, decision = upgrades.settle(self._known(), ended, self.moment())
            self.settle(message, decision, context)

    async def _mend(self, message: Mend, context: Context[OrchestratorProtocol]) -> None:
        if self.record is None or self.record.upgrade is None:
            return
        self._moved(message, self._upgrading.left_open(self.record), context)
        try:
            await supersede(self.fleet, self._known())
        except (ActorError, Unavailable, trio.TooSlowError):
            context.set_timer("mend", MEND_AGAIN, Mend())

    async def _report(self, message: ReportRoster, context: Context[OrchestratorProtocol]) -> None:
        before = self._known()
        roster = message.roster
        self._contact.heard()
        with trio.fail_after(NEIGHBOURS_WITHIN):
            await tell_owners(self.fleet, before, roster)
        after = attrs.evolve(
            before,
            managed_agents=roster.agents,
            queued_spawns=roster.queued_spawns,
            last_seen=self.moment().at,
        )
        row, event = announced(after)
        tells = of_new_sessions(self.fleet, before.managed_agents, roster.agents)
        await self.commit(Decision(reply=None, writes=(row,), events=(event,), tells=tells), context)
        self.record = after
        context.reply(message, after)

    async def _remove(self, message: Remove, context: Context[OrchestratorProtocol]) -> None:
        record = self._known()
        write = Write("delete from orchestrators where id = ?", (record.id,), 1)
        event = Event("orchestrator.removed", "server", record.id, {"id": record.id})
        tells = of_host(self.fleet, self.store, record.id)
        await self.commit(Decision(reply=None, writes=(write,), events=(event,), tells=tells), context)
        self.record = None
        self._watch(context)
        with trio.fail_after(NEIGHBOURS_WITHIN):
            try:
                await self.fleet.agents[record.agent_id].ask(agents.Remove())
            except NotFound:
                pass
        await self._disappoint(record, context)
        context.reply(message, None)

    def _look(self, context: Context[OrchestratorProtocol]) -> Step:
        self._contact.rang()
        if self._contact.silent(OFFLINE_AFTER + OVERDUE):
            return self._gone(context)
        self._watch(context)
        return None

    async def _reap(self, message: ReapIfSilent, context: Context[OrchestratorProtocol]) -> None:
        if message.held_up:
            self._contact.heard()
        there = self.record is not None and self.record.status is ONLINE
        lost = there and self._contact.silent(OFFLINE_AFTER)
        if lost:
            await self._gone(context)
        context.reply(message, lost)

    async def _gone(self, context: Context[OrchestratorProtocol]) -> None:
        """The host is not there any more."""
        if self.record is not None and self.record.status is ONLINE:
            after = attrs.evolve(self.record, status=OFFLINE)
            told = (self.fleet.agents[after.agent_id], agents.Follow(wire.AgentStatus.OFFLINE))
            row, event = announced(after)
            await self.commit(Decision(reply=None, writes=(row,), events=(event,), tells=(told,)), context)
            self.record = after
            await self._disappoint(after, context)
        self._watch(context)

    async def _disappoint(self, gone: wire.Orchestrator, context: Context[OrchestratorProtocol]) -> None:
        """Tell the commands that wait for the host. One that is only being written hears of it when it is adopted."""
        waiting = commands.impatient(self.store, gone.agent_id)
        tells = tuple((self.fleet.commands[key], commands.HostLeft()) for key in waiting)
        await self.commit(Decision(reply=None, tells=tells), context)

    def _watch(self, context: Context[OrchestratorProtocol]) -> None:
        watched = self.record is not None and self.record.status is ONLINE
        self._contact.watch(context, Silence() if watched else None)
