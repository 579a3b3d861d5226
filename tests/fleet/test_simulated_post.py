"""The post office under every schedule: repeated sends, rival claims, crashes, commits that fail, clocks that jump.

What is compared at the end is what clients were answered, what the tables hold, and what the event log tells.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import attrs
import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Conflict, Fleet, agents, messages, open_fleet
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

TERM = messages.CLAIM_TERM
AGENTS = ("a1", "a2", "a3")
KEYS = (None, "k1", "k2")


@attrs.define
class Held:
    """A claim as its holder was told of it: from when it asked, in seconds."""

    agent: str
    asked: float
    until: float


class Clients:
    """Those who send, claim and read; they repeat what was not answered, as clients do."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.answers: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.sent: list[int] = []
        self.held: dict[int, list[Held]] = defaultdict(list)
        self.marked: set[tuple[int, str]] = set()
        self.repeated = 0
        self.refused = 0

    async def persistently(self, ask: Any, message: Any) -> Any:
        while True:
            try:
                return await ask(message)
            except (ActorError, Unavailable):
                await trio.sleep(1)

    async def send(self, sender: str) -> None:
        for _ in range(4):
            key = KEYS[self.sim.choose(len(KEYS))]
            asked = wire.SendMessage(from_=sender, to="tag:t", body="x", idempotency_key=key, claimable=True)
            if key is None:
                await self._send_once(asked)
                continue
            sent = await self.persistently(self.fleet.post_office.ask, messages.Send(asked))
            self.answers[sender, key].add(sent.message.id)
            self.repeated += not sent.new
            await self.sim.pause(2)

    async def _send_once(self, asked: wire.SendMessage) -> None:
        """Without a key a repeat would be a second message."""
        try:
            self.sent.append((await self.fleet.post_office.ask(messages.Send(asked))).message.id)
        except (ActorError, Unavailable):
            pass

    async def work(self, agent: str) -> None:
        for _ in range(6):
            await self.sim.pause(TERM)
            known = [number for (number,) in self.fleet.store.rows("select id from messages order by id")]
            if not known:
                await trio.sleep(1)
                continue
            number = known[self.sim.choose(len(known))]
            await self._claim(agent, number)
            await self.persistently(self.fleet.post_office.ask, messages.MarkRead(number, agent))
            self.marked.add((number, agent))

    async def _claim(self, agent: str, number: int) -> None:
        for asked in (messages.Claim(number, agent), messages.Renew(number, agent)):
            began = self.fleet.system.now()
            try:
                await self.fleet.post_office.ask(asked)
            except Conflict:
                self.refused += 1
            except (ActorError, Unavailable):
                pass
            else:
                self.held[number].append(Held(agent, began, self.fleet.system.now() + TERM))
            await self.sim.pause(TERM * 0.8)


def check(clients: Clients, store: Store) -> None:
    log = Log(store)
    told = [event["data"]["id"] for event in log.events("message.new")]
    stored = [number for (number,) in store.rows("select id from messages order by id")]
    assert told == stored, "every message is announced once, in the order of ids"
    assert set(clients.sent) <= set(stored)
    assert len(clients.sent) == len(set(clients.sent))
    keyed = Counter(
        store.rows("select sender, idempotency_key from messages where idempotency_key is not null")
    )
    assert set(keyed.values()) <= {1}
    assert all(len(numbers) == 1 for numbers in clients.answers.values())
    assert clients.answers.keys() == keyed.keys()
    audits = Counter(record["clientId"] for record in log.audits("server-message-"))
    assert audits == Counter(f"server-message-{number}" for number in stored)
    assert clients.marked <= set(store.rows("select message_id, agent_id from message_reads"))


@pytest.mark.spec("M-I1", "M-I2", "M-I32", "M-I42")
@simulate(
    runs=60,
    faults=Faults(crash=0.02, delay=0.02, named={"store.commit": 0.03}, most=6, only=("post-office",)),
)
async def test_a_message_is_stored_once_and_what_was_answered_is_there(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        await system.stop(fleet.maintenance)
        await fleet.keepers.stop()
        fleet.absence.look((), again_in=math.inf)  # nothing is missed
        clients = Clients(sim, fleet)
        sim.sometimes(lambda: clients.repeated > 0, "a send was recognised as a repeat")
        for name in AGENTS:
            card = wire.RegisterAgent(id=name, tags=["t"])
            await clients.persistently(fleet.agents[name].ask, agents.Register(card))
        async with trio.open_nursery() as nursery:
            for sender in ("s1", "s1", "s2"):
                nursery.start_soon(clients.send, sender)
            for name in AGENTS:
                nursery.start_soon(clients.work, name)
            for _ in range(2):
                await sim.pause(10)
                sim.jump_wall([0.0, 30.0, -30.0][sim.choose(3)])
        check(clients, store)


@pytest.mark.spec("M-I3", "M-I4")
@simulate(
    runs=60,
    faults=Faults(crash=0.02, delay=0.02, named={"store.commit": 0.03}, most=6, only=("post-office",)),
)
async def test_a_claim_has_one_holder_at_a_time(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        await system.stop(fleet.maintenance)
        await fleet.keepers.stop()
        fleet.absence.look((), again_in=math.inf)  # nothing is missed
        clients = Clients(sim, fleet)
        sim.sometimes(lambda: clients.refused > 0, "a claim was refused")
        sim.sometimes(lambda: any(len({held.agent for held in all_}) > 1 for all_ in clients.held.values()),
                      "a claim went on to another")  # fmt: skip
        for name in AGENTS:
            card = wire.RegisterAgent(id=name, tags=["t"])
            await clients.persistently(fleet.agents[name].ask, agents.Register(card))
        await clients.send("s1")
        async with trio.open_nursery() as nursery:
            for name in AGENTS:
                nursery.start_soon(clients.work, name)
        for all_ in clients.held.values():
            for one in all_:
                for other in all_:
                    apart = one.asked >= other.until or other.asked >= one.until
                    assert one.agent == other.agent or apart, (one, other)
