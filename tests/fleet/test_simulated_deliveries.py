"""The delivery ladder under every schedule: takers that are paused, killed and late, crashes, restarts, clocks that jump.

What is compared at the end is what takers were handed and answered, what the rows hold, and what the event log tells.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import attrs
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Conflict, Fleet, agents, deliveries, messages, open_fleet
from relay.fleet._delivery_rows import load
from relay.fleet._delivery_rules import DONE, LONGEST_PAUSE, MOST_ATTEMPTS, VISIBLE
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

AGENTS = ("a1", "a2")
OUTCOMES = (
    wire.Outcome.CONFIRMED,
    wire.Outcome.CONFIRMED,
    wire.Outcome.CONFIRMED,
    wire.Outcome.BUSY,
    wire.Outcome.REFUSED,
    wire.Outcome.DIED,
    wire.Outcome.RETURNED,
)
ALLOWED = {
    "handed": {None, "returned", "redelivered"},
    "returned": {"handed"},
    "confirmed": {"handed", "returned", "redelivered", "dead", "expired"},
    "dead": {"handed"},
    "expired": {None, "returned", "redelivered"},
    "redelivered": {"dead"},
    "replied": {"handed", "returned", "redelivered", "dead", "expired", "confirmed"},
}
"""Which event about one message and one agent may follow which."""

Pair = tuple[str, int]


@attrs.define
class Notes:
    """What takers saw, over all lives of the server."""

    given: dict[Pair, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    """Tokens in the order in which they were handed out."""
    evidence: dict[Pair, set[str]] = attrs.field(factory=lambda: defaultdict(set))
    """What was said with confirmations that may have counted."""
    failures: Counter[Pair] = attrs.field(factory=Counter)
    """Refusals and deaths that may have counted."""
    sent: list[int] = attrs.field(factory=list)
    claimable: set[int] = attrs.field(factory=set)
    queued: list[int] = attrs.field(factory=list)
    stale: int = 0
    late: int = 0
    lives: int = 0
    redelivered: int = 0


class Fleets:
    """Senders and takers of one life of the server."""

    def __init__(self, sim: Sim, fleet: Fleet, notes: Notes) -> None:
        self.sim = sim
        self.fleet = fleet
        self.notes = notes

    async def persistently(self, ask: Any, message: Any) -> Any:
        while True:
            try:
                return await ask(message)
            except (ActorError, Unavailable):
                await trio.sleep(1)

    async def send(self, count: int) -> None:
        for number in range(count):
            way = self.sim.choose(4)
            key = f"{self.notes.lives}/{number}"
            asked = wire.SendMessage(
                from_="b1",
                to=("a1", "tag:t", "tag:t", "policy:p")[way],
                body="x",
                claimable=way == 2,
                idempotency_key=key,
                max_age_seconds=60,
            )
            sent = await self.persistently(
                self.fleet.post_office.ask, messages.SendMany((asked,), even_offline=True)
            )
            stored = sent[0].message.id
            (self.notes.queued if way == 3 else self.notes.sent).append(stored)
            if way == 2:
                self.notes.claimable.add(stored)
            await self.sim.pause(30)

    async def register(self, agent: str) -> str:
        """A new life of its runner begins."""
        self.notes.lives += 1
        instance = f"{agent}/{self.notes.lives}"
        card = wire.RegisterAgent(id=agent, instance_id=instance, tags=["t"], status=wire.AgentStatus.IDLE)
        await self.persistently(self.fleet.agents[agent].ask, agents.Register(card))
        return instance

    async def beat(self, agent: str, instance: str) -> None:
        while True:
            await trio.sleep(20)
            try:
                await self.fleet.agents[agent].ask(agents.Heartbeat(instance=instance))
            except (ActorError, Unavailable, Conflict):
                pass

    async def run(self, agent: str, lives: int, ghosts: trio.Nursery) -> None:
        """A runner that is killed now and then, and whose last words come late."""
        for _ in range(lives):
            instance = await self.register(agent)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.beat, agent, instance)
                for _ in range(4):
                    handed = await self.take(agent, instance)
                    if self.sim.choose(3) == 0:
                        handed += await self.take(agent, instance, more=True)
                    if not handed:
                        await self.sim.pause(10)
                    elif self.sim.choose(4) == 0:
                        nursery.cancel_scope.cancel()  # killed with messages in hand
                        ghosts.start_soon(self.speak_late, agent, handed)
                        break
                    else:
                        await self.sim.pause(VISIBLE * 2)
                        for each in handed:
                            await self.settle(agent, each, OUTCOMES[self.sim.choose(len(OUTCOMES))])
                nursery.cancel_scope.cancel()
            await self.sim.pause(200)

    async def take(
        self, agent: str, instance: str, limit: int = 3, *, lossy: bool = True, more: bool = False
    ) -> tuple[wire.HandOver, ...]:
        """As a runner does that settles what it has before it takes more, or that wants `more`; an answer may be lost."""
        asked = deliveries.Take(instance=instance, limit=limit, holding=None if more else frozenset())
        try:
            handed = (await self.fleet.deliveries[agent].ask(asked)).deliveries
        except (ActorError, Unavailable):
            return ()
        for each in handed:
            tokens = self.notes.given[agent, each.message_id]
            assert not tokens or each.token > tokens[-1], "every hand-over has a token of its own"
            tokens.append(each.token)
        return () if lossy and self.sim.choose(8) == 0 else handed

    async def speak_late(self, agent: str, handed: tuple[wire.HandOver, ...]) -> None:
        await self.sim.pause(VISIBLE * 4)
        for each in handed:
            self.notes.late += 1
            await self.settle(agent, each, OUTCOMES[self.sim.choose(len(OUTCOMES))])

    async def settle(self, agent: str, handed: wire.HandOver, outcome: wire.Outcome) -> None:
        key = (agent, handed.message_id)
        said = f"token {handed.token}"
        ack = wire.Ack(
            message_id=handed.message_id, token=handed.token, outcome=outcome, evidence=said, error=said
        )
        superseded = self.notes.given[key][-1] != handed.token
        if not superseded and outcome is wire.Outcome.CONFIRMED:
            self.notes.evidence[key].add(said)
        if not superseded and outcome in (wire.Outcome.REFUSED, wire.Outcome.DIED):
            self.notes.failures[key] += 1
        before = load(self.fleet.store, "agent_id = ? and message_id = ?", *key) if superseded else None
        try:
            (result,) = await self.fleet.deliveries[agent].ask(deliveries.Ack((ack,)))
        except (ActorError, Unavailable):
            return
        if superseded:
            self.notes.stale += 1
            assert (result.ok, result.error) == (False, "stale"), (key, before, result)

    async def read_and_reply(self) -> None:
        """What runners of the contract do, and agents that answer."""
        for _ in range(3):
            await self.sim.pause(100)
            for letter in deliveries.dead_letters(self.fleet.store):
                await self.redeliver(letter)
            if not self.notes.sent:
                continue
            number = self.notes.sent[self.sim.choose(len(self.notes.sent))]
            if number in self.notes.claimable:
                continue
            if self.sim.choose(2):
                await self.persistently(self.fleet.post_office.ask, messages.MarkRead(number, "a1"))
                self.notes.evidence["a1", number].add("read")
            else:
                reply = wire.SendMessage(
                    from_="a1", to="b1", body="y", reply_to=number, idempotency_key=f"re {number}"
                )
                await self.persistently(self.fleet.post_office.ask, messages.Send(reply))

    async def redeliver(self, letter: wire.Progress) -> None:
        try:
            await self.fleet.deliveries[letter.agent_id].ask(deliveries.Redeliver(letter.message_id))
            self.notes.redelivered += 1
        except (ActorError, Unavailable, Conflict):
            pass

    async def drain(self) -> None:
        """Healthy runners take and confirm all that there is; what is dead is left."""
        for agent in AGENTS:
            instance = await self.register(agent)
            quiet = 0.0
            while quiet < 2 * LONGEST_PAUSE:
                handed = await self.take(agent, instance, limit=100, lossy=False)
                for each in handed:
                    await self.settle(agent, each, wire.Outcome.CONFIRMED)
                await trio.sleep(10)
                quiet = 0.0 if handed else quiet + 10
        while any(messages.delivery(self.fleet.store, n).expired_at is None for n in self.notes.queued):
            await self.persistently(self.fleet.post_office.ask, messages.ExpireQueued())
            await trio.sleep(120)
        await self.fleet.system.idle()


def check(notes: Notes, store: Store) -> None:
    rows = {(row.agent_id, row.message_id): row for row in load(store, "1 = 1")}
    for number in notes.sent:
        progress = deliveries.message_progress(store, number)
        ends = [each for each in progress if each.rung in DONE or each.rung is wire.Rung.DEAD]
        if number in notes.claimable:
            assert ends, f"{number} is lost"
        else:
            assert len(ends) == len(progress) > 0, f"{number} is lost: {progress}"
    for number in notes.queued:
        assert messages.get_message(store, number).delivery_status is wire.DeliveryStatus.EXPIRED
    for key, row in rows.items():
        if row.rung is wire.Rung.CONFIRMED:
            # A crash between read mark and row leaves the read mark as the evidence.
            assert notes.evidence[key] and row.evidence in notes.evidence[key] | {"read"}, (key, row)
            assert key in set(store.rows("select agent_id, message_id from message_reads"))
        if row.rung is wire.Rung.DEAD:
            assert notes.failures[key] >= 2, "only refusals and deaths make a dead letter"
        assert 0 <= row.attempt <= min(MOST_ATTEMPTS, notes.failures[key] + 1)
    check_log(store)


def check_log(store: Store) -> None:
    """The events about one message and agent follow each other as the moves do: nobody holds what somebody holds."""
    last: dict[Pair, str | None] = defaultdict(lambda: None)
    for event in Log(store).events():
        group, _, name = event["type"].partition(".")
        if group == "delivery":
            for number in event["data"]["messageIds"]:
                key = (event["data"]["agentId"], number)
                assert last[key] in ALLOWED[name], (key, last[key], name)
                last[key] = name


@simulate(
    runs=40,
    faults=Faults(
        crash=0.01,
        delay=0.02,
        named={"store.commit": 0.02},
        most=6,
        only=("deliveries/*", "post-office"),
    ),
)
async def test_a_message_has_one_taker_at_a_time_and_ends_by_evidence(sim: Sim) -> None:
    notes = Notes()
    sim.sometimes(lambda: notes.stale > 0, "an acknowledgement was stale")
    sim.sometimes(lambda: notes.late > 0, "an acknowledgement came late")
    sim.sometimes(lambda: notes.redelivered > 0, "a dead message was redelivered")
    async with open_system() as system, open_store(None, system) as store:
        for _ in range(2):
            async with open_fleet(system, store) as fleet:
                people = Fleets(sim, fleet, notes)
                for agent in AGENTS:
                    await people.register(agent)
                async with trio.open_nursery() as ghosts, trio.open_nursery() as nursery:
                    nursery.start_soon(people.send, 5)
                    nursery.start_soon(people.read_and_reply)
                    for agent in AGENTS:
                        nursery.start_soon(people.run, agent, 2, ghosts)
                    await sim.pause(100)
                    sim.jump_wall([0.0, 3600.0, -300.0][sim.choose(3)])
        async with open_fleet(system, store) as fleet:
            people = Fleets(sim, fleet, notes)
            await people.drain()
            check(notes, store)
