"""Policies: which agent does the work of a spawn policy (messaging-control 16.2, AGT-3 to AGT-6).

One actor per policy name owns the state of its managed agent. R is the spawn request id of the state.

    any state                            Begin(R')            -> starting, with R' and nothing of before
    any state                            End                  -> stopping, R and the agent are kept
    stopped, starting, running, failed   Link(agent, R)       -> running, and its mail goes out
    stopping                             Link(agent, R)       -> stopping: the agent is kept, its mail waits (H-01)
    any, none                            Link(agent, not R)   unchanged

1. A link is judged when it is written (M-I12): whoever registers with an older R changes nothing. It repeats with
   every registration (AGT-6), and each one is announced.
2. Mail goes out once the state is durable: the post office is told to look at the state itself, so what it gives out
   goes to whoever is linked then. The answer to `Link` comes when no mail waits any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import Ask, Context, Step
from relay.store import Decision, Event, Store, Write

from ._actor import FleetActor
from ._moment import Moment
from ._post_protocol import ReleaseQueue, ResumeQueue
from ._records import text_of

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["Begin", "End", "Link", "Policy", "PolicyProtocol", "find_policy_state", "link_of"]

Status = wire.PolicyStatus

POST_WITHIN = 20.0  # seconds that the post office has to give out some of the mail


class PolicyProtocol:
    """What the actor of one policy understands."""


@attrs.frozen
class Begin(Ask[PolicyProtocol, wire.PolicyState]):
    """An agent is being started: from now on it is expected to register with `spawn_request_id` (POL-9)."""

    spawn_request_id: str
    orchestrator_id: str | None = None
    provider: wire.Provider | None = None


@attrs.frozen
class End(Ask[PolicyProtocol, wire.PolicyState]):
    """The agent is being stopped (POL-13)."""


@attrs.frozen
class Link(Ask[PolicyProtocol, bool]):
    """The agent registered with this spawn request id. The answer: whether it is the policy's agent now."""

    agent_id: str
    spawn_request_id: str


class Policy(FleetActor[PolicyProtocol]):
    """The actor of one policy."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.name = key
        self.state = find_policy_state(self.store, key)

    def handle(self, message: Any, context: Context[PolicyProtocol]) -> Step:
        match message:
            case Begin():
                self._move(message, begun(self.name, message, self.moment()), context)
            case End():
                self._move(message, ended(self.name, self.state, self.moment()), context)
            case Link():
                return self._link(message, context)
        return None

    def _move(self, message: Begin | End, state: wire.PolicyState, context: Context[PolicyProtocol]) -> None:
        self.state = state
        self.settle(message, changed(state, state), context)

    async def _link(self, link: Link, context: Context[PolicyProtocol]) -> None:
        state = linked(self.state, link, self.moment())
        if state is None:
            self.settle(link, Decision(reply=False), context)
            return
        self.state = state
        running = state.status is Status.RUNNING
        tells = ((self.fleet.post_office, ResumeQueue(self.name)),) if running else ()
        await self.commit(attrs.evolve(changed(state, reply=None), tells=tells), context)
        while running and await self._release():
            pass
        context.reply(link, running)

    async def _release(self) -> bool:
        """Whether there is more to release."""
        with trio.fail_after(POST_WITHIN):
            return await self.fleet.post_office.ask(ReleaseQueue(self.name))


def begun(name: str, begin: Begin, moment: Moment) -> wire.PolicyState:
    return wire.PolicyState(
        policy_name=name,
        status=Status.STARTING,
        spawn_request_id=begin.spawn_request_id,
        orchestrator_id=begin.orchestrator_id,
        provider=begin.provider,
        last_spawn_at=moment.at,
        updated_at=moment.at,
    )


def ended(name: str, state: wire.PolicyState | None, moment: Moment) -> wire.PolicyState:
    before = state or wire.PolicyState(policy_name=name)
    return attrs.evolve(
        before,
        status=Status.STOPPING,
        last_stop_at=moment.at,
        healthy_since=None,
        last_error=None,
        updated_at=moment.at,
    )


def linked(state: wire.PolicyState | None, link: Link, moment: Moment) -> wire.PolicyState | None:
    """The state with the agent linked; None when the registration does not concern it (AGT-5)."""
    if state is None or state.spawn_request_id != link.spawn_request_id:
        return None
    if state.status is Status.STOPPING:
        return attrs.evolve(state, agent_id=link.agent_id, updated_at=moment.at)
    return attrs.evolve(
        state,
        status=Status.RUNNING,
        agent_id=link.agent_id,
        healthy_since=moment.at,
        last_error=None,
        updated_at=moment.at,
    )


def changed(state: wire.PolicyState, reply: Any) -> Decision[Any]:
    """The state is stored and announced (POL-18)."""
    known = wire.to_json(state)
    row = (
        state.policy_name,
        state.status,
        state.spawn_request_id,
        state.agent_id,
        state.orchestrator_id,
        text_of(known),
        round((state.updated_at or 0.0) * 1000),
    )
    write = Write(
        "insert or replace into managed_agents (policy_name, status, spawn_request_id, agent_id, orchestrator_id,"
        " record, updated_at) values (?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    event = Event("policy.state.changed", "server", state.policy_name, known)
    return Decision(reply=reply, writes=(write,), events=(event,))


def link_of(card: wire.Agent) -> tuple[str, Link] | None:
    """The policy that the agent was started for, and what tells it so (AGT-3)."""
    policy, request = card.meta.get("policyName"), card.meta.get("spawnRequestId")
    if isinstance(policy, str) and policy and isinstance(request, str) and request:
        return policy, Link(card.id, request)
    return None


def find_policy_state(store: Store, name: str) -> wire.PolicyState | None:
    row = store.row("select record from managed_agents where policy_name = ?", name)
    return wire.decode(wire.PolicyState, row[0]) if row else None
