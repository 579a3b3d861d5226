"""Channels under every schedule: agents come and go, bindings are replaced, events repeated, actors crash, commits fail.

What is compared is what clients were answered, what the tables hold, and what the event log tells. Channel `fixed` keeps
its three bindings, so that any other number of messages for one of its events is a part of a fan-out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Conflict, Fleet, Invalid, NotFound, agents, channels, open_fleet
from relay.fleet._pool_rules import eligible
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

AGENTS = ("a1", "a2", "a3")
POOLS = ("p", "q")
STATUSES = [*wire.AgentStatus]
FIXED = ("tag:t", "pool:p", "policy:P")
MOVING = ("pool:p", "pool:q", "a1", "tag:t")
KEYS = (None, "k1", "k2")
FAULTS = Faults(
    crash=0.02,
    delay=0.02,
    longest=2.0,
    named={"store.commit": 0.03},
    most=6,
    only=("switchboard", "post-office"),
)


class World:
    """Agents, an operator, and what the channels lead to; they repeat what was not answered, as clients do."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.log = Log(fleet.store)
        self.answers: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.events = 0
        self.refused = 0
        self.repeated = 0
        self.replaced = 0
        self.moved = 0

    def one_of(self, *choices: Any) -> Any:
        return choices[self.sim.choose(len(choices))]

    async def persistently(self, ask: Any, message: Any) -> Any:
        while True:
            try:
                return await ask(message)
            except (ActorError, Unavailable):
                await trio.sleep(1)

    async def set_up(self) -> None:
        for name in ("fixed", "moving"):
            await self.register(name, kind=wire.AgentKind.CHANNEL)
        for name in AGENTS:
            await self.register(name, tags=["t", "p"], capabilities=["q"], status=wire.AgentStatus.IDLE)
        for target in FIXED:
            await self.bind("fixed", target, wire.BindingMode.BROADCAST)

    async def register(self, name: str, **card: Any) -> None:
        asked = agents.Register(wire.RegisterAgent(id=name, **card))
        await self.persistently(self.fleet.agents[name].ask, asked)

    async def bind(self, channel: str, target: str, mode: wire.BindingMode) -> None:
        asked = wire.NewBinding(channel_id=channel, target=wire.target_at(target), mode=mode)
        bound = await self.persistently(self.fleet.switchboard.ask, channels.Bind(asked))
        self.replaced += bound.new and channel == "moving"

    async def live(self, name: str) -> None:
        """An agent that is now here, now there, and now in another pool."""
        for _ in range(6):
            await self.sim.pause(5)
            match self.sim.choose(4):
                case 0:
                    await self.register(name, tags=["t", *self.one_of([], ["p"])])
                case 1:
                    await self.gone(name)
                case _:
                    await self.gone(name, agents.SetStatus(self.one_of(*STATUSES)))

    async def gone(self, name: str, message: Any = None) -> None:
        try:
            await self.persistently(self.fleet.agents[name].ask, message or agents.Remove())
        except NotFound:
            pass

    async def operate(self) -> None:
        for _ in range(5):
            await self.sim.pause(6)
            if self.sim.choose(4):
                await self.bind("moving", self.one_of(*MOVING), self.one_of(*wire.BindingMode))
                continue
            for binding in channels.list_bindings(self.fleet.store, "moving")[:1]:
                try:
                    await self.persistently(self.fleet.switchboard.ask, channels.Unbind(binding.id))
                except NotFound:
                    pass  # it was the answer that got lost

    async def happen(self, channel: str) -> None:
        for _ in range(5):
            await self.sim.pause(6)
            key = self.one_of(*KEYS)
            self.events += 1
            event = wire.ChannelEvent(body=f"event {self.events}", idempotency_key=key)
            try:
                await self._post(channels.Inbound(channel, event), key)
            except (Conflict, Invalid):
                self.refused += 1

    async def _post(self, event: channels.Inbound, key: str | None) -> None:
        if key is None:
            try:
                await self.fleet.switchboard.ask(event)
            except (ActorError, Unavailable):
                pass  # a repeat would be another event
            return
        sent = await self.persistently(self.fleet.switchboard.ask, event)
        self.repeated += not sent.created
        for each in sent.messages:
            assert each.idempotency_key is not None
            self.answers[each.from_, each.idempotency_key].add(each.id)


def right(store: Store) -> bool:
    """Every slot is held by one that may, no agent holds two of a pool, and none is empty that could be held."""
    slots = [each for each in channels.list_bindings(store) if each.target.type is wire.TargetType.POOL]
    cards = {card.id: card for card in agents.list_agents(store)}
    taken = [(slot.target.id, slot.pool_agent_id) for slot in slots if slot.pool_agent_id]
    fit = all(eligible(cards.get(str(name)), str(pool)) for pool, name in taken)
    free = {
        pool
        for pool in POOLS
        for card in cards.values()
        if eligible(card, pool) and (pool, card.id) not in taken
    }
    full = all(slot.pool_agent_id or slot.target.id not in free for slot in slots)
    return fit and full and len(taken) == len(set(taken))


def check(world: World, store: Store) -> None:
    rows = store.rows(
        "select sender, record ->> 'body', idempotency_key, record ->> 'to', record ->> 'kind' from messages"
    )
    fan_outs: Counter[str] = Counter(body for sender, body, *_ in rows if sender == "fixed")
    assert set(fan_outs.values()) <= {len(FIXED)}, "all of an event was stored, or nothing"
    keyed = Counter((sender, key) for sender, _, key, *_ in rows if key is not None)
    assert set(keyed.values()) <= {1}, "a binding and a key are one message"
    assert all(len(numbers) == 1 for numbers in world.answers.values())
    assert world.answers.keys() <= keyed.keys()
    known = {*AGENTS, "tag:t", "policy:P"}
    assert {to for *_, to, _ in rows} <= known, "no message went where a slot was empty"
    assert {kind for *_, kind in rows} <= {"channel.event"}
    told = [event["data"]["id"] for event in world.log.events("message.new", "message.queued")]
    assert told == [number for (number,) in store.rows("select id from messages order by id")]


def check_moves(world: World, store: Store) -> None:
    """What was announced of each binding's slot is a chain that ends with who holds it (M-I24)."""
    last: dict[str, str | None] = {}
    for event in world.log.events("pool.binding.changed"):
        change = event["data"]
        assert change["previousAgentId"] == last.get(change["bindingId"])
        assert change["newAgentId"] != change["previousAgentId"]
        last[change["bindingId"]] = change["newAgentId"]
        world.moved += 1
    for binding in channels.list_bindings(store):
        assert binding.pool_agent_id == last.get(binding.id)


@pytest.mark.spec("M-I23", "M-I24", "M-I36", "CHN-21", "CHN-22", "H-04", "H-05")
@simulate(runs=60, faults=FAULTS)
async def test_slots_follow_the_agents_and_an_event_reaches_all_bindings_or_none(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        world = World(sim, fleet)
        sim.sometimes(lambda: world.refused > 0, "an event was refused")
        sim.sometimes(lambda: world.repeated > 0, "an event was recognised as a repeat")
        sim.sometimes(lambda: world.moved > 4, "slots went from one to another")
        sim.sometimes(lambda: world.replaced > 2, "bindings were replaced")
        await world.set_up()
        async with trio.open_nursery() as nursery:
            for name in AGENTS:
                nursery.start_soon(world.live, name)
            nursery.start_soon(world.operate)
            for channel in ("fixed", "fixed", "moving"):
                nursery.start_soon(world.happen, channel)
        for name in AGENTS:
            await world.gone(name, agents.SetStatus(world.one_of(*STATUSES)))
        with trio.fail_after(8):  # much less than what maintenance waits for
            while not right(store):
                await trio.sleep(0.1)
        await world.persistently(fleet.switchboard.ask, channels.Reevaluate())
        assert right(store)
        assert await world.persistently(fleet.switchboard.ask, channels.Reevaluate()) == ()
        check(world, store)
        check_moves(world, store)
