"""The fleet as one object: its actors by key, and the life of the whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from relay import wire
from relay.actors import Family, Ref, Supervision, System
from relay.recipes import Cookbook
from relay.store import EventLog, LoggedEvent, Store

from ._absence import Absence
from ._moment import Moment
from .activity import ActivityLog, ActivityProtocol
from .agents import Agent, AgentProtocol
from .automations import Automation, AutomationProtocol, wakeable
from .bus_sessions import BusProtocol, BusSessions
from .callbacks import CallbackProtocol, Callbacks, Outgoing, Unreachable
from .channels import SWITCHBOARD, Switchboard, Switching
from .commands import Adopt, Command, CommandProtocol, adoptable
from .config import ConfigProtocol, Configured
from .connectors import Connector, ConnectorProtocol, NoPrograms, Programs
from .deliveries import Deliveries, DeliveryProtocol
from .denials import DenialProtocol, Denials
from .health import Tally
from .integrations import Integrations
from .jobs import JobProtocol, Keeper, book_of, keepers
from .maintenance import Maintenance, Upkeep
from .matching import Concerned, Matcher, orders
from .merges import MergeLease, MergeProtocol
from .messages import Post, PostOffice
from .orchestrators import Orchestrator, OrchestratorProtocol
from .pairs import Pair, PairProtocol, open_pairs
from .policies import Policy, PolicyProtocol, wakeful
from .providers import Provider, ProviderProtocol
from .recipes import RecipeProtocol, RecipeRun, unfinished
from .tokens import Authority, Revocations, TokenProtocol
from .triggers import TriggerProtocol, Triggers
from .workspaces import Workspace, WorkspaceProtocol

__all__ = ["Fleet", "open_fleet"]

DRAIN_WITHIN = 5.0  # seconds for what is queued when the fleet closes
STOP_WITHIN = 10.0

WITH_SOMEBODY = (
    "select distinct agent_id from deliveries indexed by deliveries_open where rung in ('handed', 'routed')"
)
AT_ONCE = Supervision(stop_budget=0.1)  # an action of a connector is not waited for


class Fleet:
    """Made by `open_fleet`. Actors are found by key; lists and histories are the query functions' business."""

    agents: Family[str, AgentProtocol]
    orchestrators: Family[str, OrchestratorProtocol]
    workspaces: Family[str, WorkspaceProtocol]
    leases: Family[str, MergeProtocol]
    commands: Family[str, CommandProtocol]
    deliveries: Family[str, DeliveryProtocol]
    pairs: Family[str, PairProtocol]
    connectors: Family[str, ConnectorProtocol]
    policies: Family[str, PolicyProtocol]
    automations: Family[str, AutomationProtocol]
    recipes: Family[str, RecipeProtocol]
    config: Family[tuple[str, str], ConfigProtocol]
    providers: Family[str, ProviderProtocol]
    post_office: Ref[Post]
    switchboard: Ref[Switching]
    activity: Ref[ActivityProtocol]
    maintenance: Ref[Upkeep]
    keepers: Family[str, JobProtocol]
    bus_sessions: Ref[BusProtocol]
    callbacks: Ref[CallbackProtocol]
    triggers: Ref[TriggerProtocol]
    tokens: Ref[TokenProtocol]
    denials: Ref[DenialProtocol]
    integrations: Integrations
    outgoing: Outgoing
    programs: Programs
    cookbook: Cookbook

    def __init__(
        self,
        system: System,
        store: Store,
        *,
        integrations: Integrations | None = None,
        outgoing: Outgoing | None = None,
        programs: Programs | None = None,
        cookbook: Cookbook | None = None,
    ) -> None:
        self.system = system
        self.store = store
        self.integrations = integrations or Integrations()
        self.outgoing = outgoing or Unreachable()
        self.programs = programs or NoPrograms()
        self.cookbook = cookbook or Cookbook()
        self.tally = Tally(system, store)
        self.revocations = Revocations()
        self._concerned = Concerned()
        self.absence = Absence(system)
        self.alone: Moment | None = None  # the last of those that no two actors have
        self.jobs = book_of(self)
        self.agents = system.family(partial(Agent, self), name="agents")
        self.orchestrators = system.family(partial(Orchestrator, self), name="orchestrators")
        self.leases = system.family(partial(MergeLease, self), name="leases")
        self.workspaces = system.family(partial(Workspace, self), name="workspaces")
        self.commands = system.family(partial(Command, self), name="commands")
        self.deliveries = system.family(partial(Deliveries, self), name="deliveries")
        self.pairs = system.family(partial(Pair, self), name="pairs")
        self.automations = system.family(partial(Automation, self), name="automations")
        self.connectors = system.family(partial(Connector, self), name="connectors", supervision=AT_ONCE)
        self.policies = system.family(partial(Policy, self), name="policies")
        self.recipes = system.family(partial(RecipeRun, self), name="recipes")
        self.config = system.family(partial(Configured, self), name="config")
        self.providers = system.family(partial(Provider, self), name="providers")
        self.keepers = system.family(partial(Keeper, self), name="jobs")

    @property
    def events(self) -> EventLog:
        return self.store.events

    def matcher(self, agent_id: str, after: int | None = None) -> Matcher:
        """Which events after that one, or from now on, a stream bound to this agent is sent."""
        place = self.events.last_id if after is None else after
        return Matcher(self.store, self._concerned, agent_id, place)

    def orders(self, agent_id: str) -> Callable[[LoggedEvent], bool]:
        """Which events a host is told whose identity this agent is."""
        return orders(self._concerned, agent_id)

    def adopt(self, command: wire.Command) -> None:
        """Hand a command whose row is durable to its own actor, if it has a life time to watch."""
        if command.ttl_ms is not None:
            self.commands[command.id].tell(Adopt())

    async def start(self) -> None:
        """Start the single actors, and wake whoever has a timer to keep."""
        self.activity = await self.system.spawn(ActivityLog, self, name="activity")
        self.callbacks = await self.system.spawn(Callbacks, self, name="callbacks")
        self.tokens = await self.system.spawn(Authority, self, name="tokens")
        self.denials = await self.system.spawn(Denials, self, name="denials")
        self.post_office = await self.system.spawn(PostOffice, self, name="post-office")
        self.switchboard = await self.system.spawn(Switchboard, self, name="switchboard", bounds=SWITCHBOARD)
        self.bus_sessions = await self.system.spawn(BusSessions, self, name="bus-sessions")
        await _wake(self.leases, _keys(self.store, "select repo_root from merge_leases"))
        await _wake(self.commands, adoptable(self.store))
        await _wake(
            self.orchestrators, _keys(self.store, "select id from orchestrators where status <> 'offline'")
        )
        await _wake(self.pairs, open_pairs(self.store))
        await _wake(self.recipes, unfinished(self.store))
        await _wake(self.policies, wakeful(self.store))
        await _wake(self.deliveries, _keys(self.store, WITH_SOMEBODY))
        await _wake(self.agents, _keys(self.store, "select id from agents where status <> 'offline'"))
        self.triggers = await self.system.spawn(Triggers, self, name="triggers")
        await _wake(self.automations, wakeable(self.store))
        self.maintenance = await self.system.spawn(Maintenance, self, name="maintenance")
        await _wake(self.keepers, keepers(self))

    async def stop(self) -> None:
        """Let what is queued be handled, then stop everybody; those who ask others first."""
        await self.connectors.stop()
        with trio.move_on_after(DRAIN_WITHIN):
            await self.system.idle()
        await self.system.stop(self.maintenance)
        await self.keepers.stop()
        await self.system.stop(self.triggers)
        await self.automations.stop()
        await self.pairs.stop()
        for family in (self.deliveries, self.commands, self.workspaces, self.leases, self.orchestrators):
            await family.stop()
        await self.agents.stop()
        await self.recipes.stop()
        await self.policies.stop()
        await self.config.stop()
        await self.providers.stop()
        for single in (self.bus_sessions, self.switchboard, self.post_office, self.callbacks, self.activity):
            await self.system.stop(single)
        await self.system.stop(self.denials)
        await self.system.stop(self.tokens)


@asynccontextmanager
async def open_fleet(
    system: System,
    store: Store,
    *,
    integrations: Integrations | None = None,
    outgoing: Outgoing | None = None,
    programs: Programs | None = None,
    cookbook: Cookbook | None = None,
) -> AsyncGenerator[Fleet]:
    """The fleet of `store`, as the last server left it. Stopped, with everything it decided, when the block ends.

    `integrations` are those that may report tasks; `outgoing` is the network by which they are called back. Without
    them there are none, and nobody is called. `programs` are those of connectors; without them there are none. `cookbook` has
    the recipes; without it they are the bundled ones.
    """
    fleet = Fleet(
        system, store, integrations=integrations, outgoing=outgoing, programs=programs, cookbook=cookbook
    )
    await fleet.start()
    try:
        yield fleet
    finally:
        with trio.move_on_after(DRAIN_WITHIN + STOP_WITHIN, shield=True):
            await fleet.stop()


def _keys(store: Store, sql: str) -> list[str]:
    return [key for (key,) in store.rows(sql)]


async def _wake(family: Family[str, Any], keys: Iterable[str]) -> None:
    """Start them; from then on their timers keep them awake."""
    for number, key in enumerate(keys):
        family.wake(key)
        if number % 100 == 0:
            await trio.lowlevel.checkpoint()
