"""Pairs under every schedule: rival answers, members who go and come, expiry, crashes, commits that fail, restarts.

What is compared at the end is what the tables hold with what the event log tells.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import (
    Conflict,
    Fleet,
    Forbidden,
    Invalid,
    NotFound,
    Unprocessable,
    agents,
    open_fleet,
    pairs,
)
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

S = wire.PairStatus
A = wire.AgentStatus
NO = (Conflict, Forbidden, Invalid, NotFound, Unprocessable)
TROUBLE = (ActorError, Unavailable, trio.TooSlowError)
AGENTS = ("a1", "a2", "a3")
LIFE = 60  # seconds


class Agents:
    """Those who invite, answer, talk, part, go and come back."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.refused = 0

    async def once(self, ask: Any, message: Any) -> Any:
        """What comes of it; None if it was refused, or is unknown."""
        try:
            return await ask(message)
        except NO:
            self.refused += 1
        except TROUBLE:
            pass
        return None

    async def register(self, name: str) -> None:
        card = wire.RegisterAgent(id=name)
        while await self.once(self.fleet.agents[name].ask, agents.Register(card)) is None:
            await trio.sleep(1)

    async def invite(self, name: str) -> None:
        for _ in range(2):
            to = AGENTS[self.sim.choose(len(AGENTS))]
            asked = wire.ProposePair(from_=name, to=to, ttl_seconds=LIFE)
            ref = self.fleet.pairs[self.fleet.system.new_id("pair")]
            await self.once(ref.ask, pairs.Propose(asked))
            await self.sim.pause(LIFE / 2)

    async def live(self, name: str) -> None:
        for number in range(8):
            await self.sim.pause(LIFE / 4)
            known = pairs.list_pairs(self.fleet.store)
            if not known:
                continue
            pair = known[self.sim.choose(len(known))]
            said = wire.PairMessage(from_=name, body=f"{number}")
            options: tuple[Any, ...] = (
                pairs.Accept(name),
                pairs.Accept(name),
                pairs.Reject(name),
                pairs.End(name),
                pairs.Say(said),
                pairs.Say(said),
                pairs.Expire(),
            )
            await self.once(self.fleet.pairs[pair.id].ask, options[self.sim.choose(len(options))])

    async def come_and_go(self, name: str) -> None:
        for _ in range(2):
            await self.sim.pause(LIFE / 2)
            ways = (agents.SetStatus(A.OFFLINE), agents.Remove())
            await self.once(self.fleet.agents[name].ask, ways[self.sim.choose(2)])
            await self.sim.pause(LIFE / 4)
            if self.sim.choose(2):
                await self.register(name)


def check(store: Store) -> None:
    log = Log(store)
    status: dict[str, S] = {}
    paths: dict[str, list[S]] = {}
    for event in log.events():
        if event["type"].startswith("pair."):
            key, now = event["subject"], S(event["data"]["status"])
            assert (event["type"] == "pair.created") == (key not in paths)
            paths.setdefault(key, []).append(now)
            status[key] = now
        elif event["type"] == "message.new" and event["data"]["kind"] == "pair":
            payload = event["data"]["payload"]
            if "pairStatus" not in payload:
                assert status[payload["pairId"]] is S.ACTIVE, "nothing is said in a pair that is not active"
    rows = {pair.id: pair for pair in pairs.list_pairs(store, limit=500)}
    assert {key: path[-1] for key, path in paths.items()} == {key: pair.status for key, pair in rows.items()}
    for path in paths.values():
        assert path[0] is S.PENDING
        for before, after in pairwise(path):
            assert after in pairs.MOVES[before].values(), path
    sql = "select record ->> '$.payload.pairId', id from messages where record ->> '$.payload.pairStatus' = 'pending'"
    sent = store.rows(sql)
    invitations = dict(sent)
    assert len(sent) == len(invitations), "no pair has two invitations"
    for key, pair in rows.items():
        assert pair.message_id is None or pair.message_id == invitations[key]
        if pair.status in (S.PENDING, S.EXPIRED):
            assert key in invitations, "whoever could have answered was asked"
    audits = Counter(record["clientId"] for record in log.audits("server-pair-"))
    assert audits == Counter(f"server-pair-{key}-{now}" for key, path in paths.items() for now in path)
    present = {agent.id for agent in agents.list_agents(store) if agent.status is not A.OFFLINE}
    for pair in rows.values():
        if pair.status is S.ACTIVE:
            assert {pair.from_, pair.to} <= present, "an active pair has both its members"


@pytest.mark.spec("PAR-1", "PAR-2", "PAR-3", "PAR-4", "PAR-5", "PAR-6")
@simulate(
    runs=60,
    faults=Faults(
        crash=0.03, delay=0.03, named={"store.commit": 0.03}, most=6, only=("pairs/*", "post-office")
    ),
)
async def test_pairs_move_by_their_table_and_only_active_ones_talk(sim: Sim) -> None:
    seen: Counter[S] = Counter()
    for now in (S.ENDED, S.REJECTED, S.EXPIRED):
        sim.sometimes(lambda now=now: seen[now] > 0, f"a pair was {now}")
    async with open_system() as system, open_store(None, system) as store:
        for life in range(2):
            async with open_fleet(system, store) as fleet:
                people = Agents(sim, fleet)
                for name in AGENTS:
                    await people.register(name)
                async with trio.open_nursery() as nursery:
                    for name in AGENTS:
                        nursery.start_soon(people.invite, name)
                        nursery.start_soon(people.live, name)
                    nursery.start_soon(people.come_and_go, AGENTS[sim.choose(len(AGENTS))])
                if life:
                    await trio.sleep(LIFE)
        check(store)
        seen.update(pair.status for pair in pairs.list_pairs(store))
