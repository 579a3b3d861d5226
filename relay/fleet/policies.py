"""Spawn policies: agents that the server keeps startable, and what is known of each (messaging-control 16).

One actor per policy owns what the policy says (its entry in the config store) and the state of its agent, which moves by
`MOVES`. R is the spawn request id of the state; whoever registers with it is linked.

1. A link is judged when it is written (M-I12): whoever registers with an older R changes nothing. It repeats with
   every registration (AGT-6), and each one is announced.
2. Mail goes out once the state is durable: the post office is told to look at the state itself, so what it gives out
   goes to whoever is linked then. The answer to `Link` comes when no mail waits any more.
3. A start or stop is one decision: the state, its event, the command, its event, in this order (M-I18). Each has an epoch,
   a number that only grows and that hosts fence by (`_policy_commands`). What came of the command counts for the newest
   only. A start that is still open when the next start or stop is made is canceled.
4. An agent that is gone unasked has failed. It is started again after a while that doubles (`retry_delay`), if its policy
   wants that, its host is there, and it has not failed too often in a row: then it waits for a person.
5. An agent is started on another host only after the earlier one has said that its own has ended.
6. What a crash of the server lost on the way is made up for when the actor starts (`Look`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Ask, Context, Step
from relay.store import Decision, Store

from ._actor import FleetActor
from ._cards import find_agent
from ._command_protocol import Cancel
from ._command_rows import find_command
from ._config_rows import find_versions
from ._config_values import SPAWN_POLICY
from ._contact import HELD_UP
from ._errors import Conflict, NotFound
from ._letters import joined
from ._policy_news import Situation, news
from ._policy_orders import Order, Standing
from ._policy_protocol import (
    AgentBack,
    AgentGone,
    CommandMoved,
    Delete,
    Exited,
    Healthy,
    HostRemoved,
    Link,
    Listed,
    Look,
    Overdue,
    PolicyProtocol,
    Restart,
    Retry,
    SetPolicy,
    Start,
    Stop,
)
from ._policy_rules import (
    MOVES,
    Last,
    changed,
    find_last,
    find_policy_state,
    linked,
    quarantined,
    timer,
)
from ._policy_views import alarms, find_policy, get_policy, link_of, list_policies, status_of
from ._post_protocol import ReleaseQueue, ResumeQueue

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "MOVES",
    "AgentBack",
    "AgentGone",
    "CommandMoved",
    "Delete",
    "Exited",
    "HostRemoved",
    "Link",
    "Listed",
    "Policy",
    "PolicyProtocol",
    "Restart",
    "SetPolicy",
    "Start",
    "Stop",
    "alarms",
    "find_policy",
    "find_policy_state",
    "get_policy",
    "link_of",
    "list_policies",
    "status_of",
    "wakeful",
]

Status = wire.PolicyStatus

NEIGHBOURS_WITHIN = 20.0  # seconds that the post office and commands have to do their part
HOST_AGAIN = 10.0  # seconds until a host that is away is looked for again
LOST = "its heartbeat was lost"
TIMERS = {"retry": Retry(), "healthy": Healthy(), "overdue": Overdue()}
EXPECTED = (Status.STARTING, Status.RUNNING, Status.STOPPING, Status.FAILED)


class Policy(FleetActor[PolicyProtocol]):
    """The actor of one policy."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.name = key
        self.state = find_policy_state(self.store, key)
        self._last = find_last(self.store, key)
        self._versions = find_versions(self.store, SPAWN_POLICY, key)
        self._rings = 0.0  # when the timer should; one that is late says that nobody could register

    def started(self, context: Context[PolicyProtocol]) -> None:
        if self.state is not None and self.state.status in EXPECTED:
            context.self_ref.tell(Look())
        self._watch(context)

    def handle(self, message: Any, context: Context[PolicyProtocol]) -> Step:
        match message:
            case SetPolicy(value, by):
                self._versions, written = self._versions.written(value, by, self.moment())
                self.settle(message, written, context)
            case Start():
                return self._do(message, self._standing().start("manual-start"), context)
            case Stop():
                return self._do(message, self._standing().stop("manual-stop"), context)
            case Restart():
                return self._do(message, self._standing().restart("manual-restart"), context)
            case Delete():
                return self._delete(message, context)
            case Link() | AgentBack():
                return self._link(message, context)
            case Retry():
                return self._retry(context)
            case _:
                self._notice(message, context)
        return None

    def _notice(self, message: Any, context: Context[PolicyProtocol]) -> None:
        """What happens without anybody asking for it here."""
        for each in self._missed() if isinstance(message, Look) else (message,):
            after = self._after(each, context)
            if after is not None:
                self._become(
                    after, context, *([quarantined(after, self.moment())] if after.quarantined else [])
                )
        if isinstance(message, Ask):
            self.settle(message, Decision(reply=None), context)

    def _after(self, message: Any, context: Context[PolicyProtocol]) -> wire.PolicyState | None:
        if self.state is None:
            return None
        if isinstance(message, Overdue) and (self._is_open() or context.system.now() - self._rings > HELD_UP):
            self._watch(context)
            return None
        policy, chance = self._policy, self.fleet.system.random.random()
        restart = policy.restart if policy else None
        return news(message, Situation(self.state, self._last.epoch, restart, self.moment(), chance))

    def _missed(self) -> Iterator[Any]:
        """What was told while nobody listened."""
        command = self._command_of(self._last)
        if command is not None:
            yield CommandMoved(command)
        agent_id = self.state.agent_id if self.state else None
        if agent_id is not None:
            card = find_agent(self.store, agent_id)
            if card is None or card.status is wire.AgentStatus.OFFLINE:
                yield AgentGone(agent_id, LOST)

    # -- what is known

    @property
    def _policy(self) -> wire.SpawnPolicy | None:
        live = self._versions.live
        return wire.decode(wire.SpawnPolicy, live.value) if live else None

    def _standing(self) -> Standing:
        return Standing(self.name, self.store, self._policy, self.state, self._last, self.moment())

    # -- moves that are asked for

    async def _do(self, message: Any, order: Order, context: Context[PolicyProtocol]) -> None:
        """Then the start before it is canceled, if it is still open."""
        await self.commit(order.decision, context)
        before, self.state, self._last = self._last, order.state, order.last
        self._watch(context)
        await self._cancel(before)
        if isinstance(message, Ask):
            context.reply(message, order.command)

    async def _delete(self, message: Delete, context: Context[PolicyProtocol]) -> None:
        """The deletion and the stop are one decision (M-I20)."""
        versions, gone = self._versions.deleted(message.updated_by, self.moment())
        order = self._standing().stop("policy-deleted", gone)
        await self._do(message, order, context)
        self._versions = versions
        self._watch(context)

    async def _retry(self, context: Context[PolicyProtocol]) -> None:
        state = self.state
        if state is None or "retry" not in MOVES[state.status] or state.retry_at is None:
            return
        try:
            order = self._standing().retry()
        except Conflict as why:
            if state.last_error != str(why):
                self._become(attrs.evolve(state, last_error=str(why), updated_at=self.moment().at), context)
            order = None
        if order is not None:
            await self._do(None, order, context)
        elif self._policy is not None:
            context.set_timer("retry", HOST_AGAIN, Retry())

    def _command_of(self, last: Last) -> wire.Command | None:
        return find_command(self.store, last.command_id) if last.command_id is not None else None

    def _is_open(self) -> bool:
        command = self._command_of(self._last)
        return command is not None and not command.status.final

    async def _cancel(self, before: Last) -> None:
        command = self._command_of(before)
        if command is None or command.status.final or command.type == "agent.shutdown":
            return
        with trio.move_on_after(NEIGHBOURS_WITHIN):
            try:
                await self.fleet.commands[command.id].ask(Cancel())
            except (NotFound, ActorError):
                pass  # it has ended, or its host does nothing about it, as it is older than what there is now

    # -- the agent comes

    async def _link(self, message: Link | AgentBack, context: Context[PolicyProtocol]) -> None:
        state = linked(self.state, message, self.moment())
        running = state is not None and state.status is Status.RUNNING
        if state is not None:
            self.state = state
            tells = ((self.fleet.post_office, ResumeQueue(self.name)),) if running else ()
            await self.commit(attrs.evolve(changed(state, self._last, None), tells=tells), context)
            self._watch(context)
            while running and await self._release():
                pass
        if isinstance(message, Link):
            self.settle(message, Decision(reply=running), context)

    async def _release(self) -> bool:
        """Whether there is more to release."""
        with trio.fail_after(NEIGHBOURS_WITHIN):
            return await self.fleet.post_office.ask(ReleaseQueue(self.name))

    # -- what follows

    def _become(
        self,
        state: wire.PolicyState,
        context: Context[PolicyProtocol],
        *also: Decision[Any],
    ) -> None:
        self.state = state
        self.settle(Look(), joined(None, changed(state, self._last, None), *also), context)
        self._watch(context)

    def _watch(self, context: Context[PolicyProtocol]) -> None:
        """The one thing that time does to the state as it is."""
        due = timer(self.state, self._policy, context.system.wall()) if self.state is not None else None
        for key, message in TIMERS.items():
            if due is not None and due[0] == key:
                self._rings = context.system.now() + due[1]
                context.set_timer(key, due[1], message)
            else:
                context.cancel_timer(key)


def wakeful(store: Store) -> list[str]:
    """The policies whose agents are expected to do something, or are to be started again."""
    sql = "select policy_name from managed_agents where status <> 'stopped' or record ->> '$.retryAt' is not null"
    return [name for (name,) in store.rows(sql)]
