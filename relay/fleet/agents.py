"""Agents: who takes part, and who is still there.

One actor per id owns the agent's row: its card, its status, its session.

1. A registration inserts the card or refreshes what it names. Another instance takes the session over; from then on
   writes in the name of the former one are refused (O-08).
2. Registration, status and heartbeat are contact. Without contact an agent goes stale by its own timer, and then offline
   by a maintenance run (`LIVENESS`); the next contact restores the status it had. `user` and `system` are always there,
   and the identity of an orchestrator follows its host (O-10); setting it offline is the host's goodbye.
3. A heartbeat, status or ready flag that changes nothing is neither stored nor announced, but for `lastSeen`, which is
   stored now and then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import Context, Ref, Step
from relay.store import Decision

from ._actor import FleetActor
from ._agent_actions import asked, means
from ._agent_protocol import (
    Act,
    AgentProtocol,
    Asked,
    Decide,
    Exited,
    Follow,
    Heartbeat,
    NoteTerminal,
    Prompt,
    Prompted,
    ReapIfSilent,
    Register,
    Registered,
    Remove,
    SetLabel,
    SetReady,
    SetStatus,
    SetTags,
    Silence,
    Update,
)
from ._agent_rules import (
    LIVENESS,
    LOST,
    OFFLINE,
    OFFLINE_AFTER,
    QUIET,
    STALE_AFTER,
    decide,
    exit_id,
    row_of,
    silent,
    watched,
)
from ._bystanders import bystanders
from ._cards import find_agent, find_participant, get_agent, list_agents, reserved
from ._command_protocol import Adopt
from ._contact import Contact
from ._errors import NotFound
from ._orchestrator_protocol import Leave, OrchestratorProtocol
from ._owners import is_online
from ._permissions import decided, terminal_noted
from ._prompts import promptable, prompted
from ._records import find_activity
from ._restart_spawn import spawned_by
from .policies import Link, link_of
from .timeline import Timeline, list_timeline, without_report

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "LIVENESS",
    "Act",
    "Agent",
    "AgentProtocol",
    "Asked",
    "Decide",
    "Exited",
    "Follow",
    "Heartbeat",
    "NoteTerminal",
    "Prompt",
    "Prompted",
    "ReapIfSilent",
    "Register",
    "Registered",
    "Remove",
    "SetLabel",
    "SetReady",
    "SetStatus",
    "SetTags",
    "Update",
    "find_agent",
    "find_participant",
    "get_agent",
    "list_agents",
    "list_timeline",
    "means",
    "promptable",
    "reserved",
]

POLICY_WITHIN = 60.0  # seconds that a policy has to link the agent and to give out the mail that waits


class Agent(FleetActor[AgentProtocol]):
    """The actor of one agent."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.card = find_agent(self.store, key)
        self._contact = Contact(fleet.system, (STALE_AFTER, OFFLINE_AFTER))
        self._timeline = Timeline()

    def started(self, context: Context[AgentProtocol]) -> None:
        if self.card is not None and self.card.kind is wire.AgentKind.ORCHESTRATOR:
            context.self_ref.tell(Silence())
        self._watch(context)

    def handle(self, message: Any, context: Context[AgentProtocol]) -> Step:
        match message:
            case Silence():
                self._look(message, context)
            case ReapIfSilent():
                self._reap(message, context)
            case Act():
                self._act(message, context)
            case Prompt(body):
                self.settle(message, prompted(promptable(self._known()), body, self.moment()), context)
            case Decide(answer, by):
                decision = decided(self._known(), answer, self.moment(), by)
                told = (self.fleet.commands[decision.reply.id], Adopt())
                self.settle(message, attrs.evolve(decision, tells=(told,)), context)
            case NoteTerminal(session, opened, by):
                noted = terminal_noted(self._known(), session, self.moment(), by, opened=opened)
                self.settle(message, noted, context)
            case Exited() if self._was_told(message):
                self.settle(message, Decision(reply=False), context)
            case _:
                return self._change(message, context)
        return None

    def _change(self, message: Any, context: Context[AgentProtocol]) -> Step:
        """The card is told something, and the timeline what it reports besides."""
        said, report = without_report(message)
        card, decision = decide(self.card, said, self.moment())
        if isinstance(message, Register | SetStatus | Update | Heartbeat):
            self._contact.heard()
        if card is not None and card is not self.card and not decision.writes and self._contact.storable:
            decision = attrs.evolve(decision, writes=(row_of(card),))
        if decision.writes:
            self._contact.stored()
        if isinstance(message, SetStatus | Update) and message.status is OFFLINE:
            decision = attrs.evolve(decision, tells=self._goodbyes())
        if isinstance(message, Register) and card is not None and (link := link_of(card)) is not None:
            return self._become_managed(message, card, decision, link, report, context)
        self._become(message, card, decision, context, report)
        return None

    def _act(self, message: Act, context: Context[AgentProtocol]) -> None:
        card = self._known()
        found = means(self.store, card, message.action)
        made = asked(card, message, found, spawned_by(self.store, card), self.moment())
        self._become(message, *made, context)

    def _known(self) -> wire.Agent:
        if self.card is None:
            raise NotFound("no such agent")
        return self.card

    async def _become_managed(
        self,
        message: Register,
        card: wire.Agent,
        decision: Decision[Any],
        link: tuple[str, Link],
        report: wire.TimelineEvent | None,
        context: Context[AgentProtocol],
    ) -> None:
        """First the card, then the policy's state and its mail, which goes to a card that is there; then all hear (AGT-9)."""
        await self.commit(Decision(reply=None, writes=(row_of(card),)), context)
        policy, request = link
        with trio.fail_after(POLICY_WITHIN):
            await self.fleet.policies[policy].ask(request)
        self._become(message, card, decision, context, report)

    def _become(
        self,
        message: Any,
        card: wire.Agent | None,
        decision: Decision[Any],
        context: Context[AgentProtocol],
        report: wire.TimelineEvent | None = None,
    ) -> None:
        """The card is `card` from now on; whom it concerns hears of it, and its timeline has it."""
        tells = (*decision.tells, *bystanders(self.fleet, self.card, card))
        rows = self._timeline.entries(self.card, card, report, self.moment)
        self.card = card
        self.settle(message, attrs.evolve(decision, writes=(*decision.writes, *rows), tells=tells), context)
        self._watch(context)

    def _look(self, tick: Silence, context: Context[AgentProtocol]) -> None:
        self._contact.rang()
        if self.card is None:
            return
        if watched(self.card) and self._contact.silent(STALE_AFTER):
            self._become(tick, *silent(self.card, QUIET, self.moment()), context)
        elif self.card.kind is wire.AgentKind.ORCHESTRATOR and not is_online(self.store, self.id):
            self._become(tick, *decide(self.card, Follow(OFFLINE), self.moment()), context)
        self._watch(context)

    def _reap(self, message: ReapIfSilent, context: Context[AgentProtocol]) -> None:
        """Whether it is lost is decided here, where its last sign of life is known (M-I27)."""
        if message.held_up:
            self._contact.heard()
        if self.card is None or not watched(self.card) or not self._contact.silent(OFFLINE_AFTER):
            self.settle(message, Decision(reply=False), context)
            return
        self._become(message, *silent(self.card, LOST, self.moment()), context)

    def _watch(self, context: Context[AgentProtocol]) -> None:
        losable = self.card is not None and watched(self.card)
        self._contact.watch(context, Silence() if losable else None)

    def _was_told(self, message: Exited) -> bool:
        known = exit_id(message.report)
        return known is not None and find_activity(self.store, known) is not None

    def _goodbyes(self) -> tuple[tuple[Ref[OrchestratorProtocol], Leave], ...]:
        """To the host that this agent is the identity of, if it is one."""
        hosts = self.store.rows("select id from orchestrators where agent_id = ?", self.id)
        return tuple((self.fleet.orchestrators[host], Leave()) for (host,) in hosts)
