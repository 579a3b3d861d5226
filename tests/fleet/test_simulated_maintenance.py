"""Maintenance under every schedule: agents that come and go, claims that are renewed or not, crashes, commits that fail,
and a wall clock that jumps. Nobody is lost who was heard of, nothing ends before its time, and each end is told once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Conflict, Fleet, agents, commands, maintenance, messages, open_fleet
from relay.fleet._agent_rules import OFFLINE_AFTER
from relay.fleet._contact import HELD_UP
from relay.store import LoggedEvent, open_store
from relay.testing import Faults, Sim, simulate

A = wire.AgentStatus
AGENTS = ("a1", "a2", "a3")
LIFE = 240.0  # seconds that a command and a queued message live
JUMPS = (150.0, -150.0, 0.0)
LATEST = 10.0  # seconds by which a fault delays an actor
EMPTY = wire.Reaped()
FAULTS = Faults(
    crash=0.01,
    delay=0.01,
    longest=LATEST,
    named={"store.commit": 0.01},
    most=6,
    only=("agents/*", "commands/*", "post-office", "maintenance"),
)


class People:
    """Agents that beat and claim, whoever asks for runs, and a witness of all events.

    Instants are those of the server's own clock, as whoever asked or saw something would read it.
    """

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.heard: dict[str, list[tuple[float, float]]] = defaultdict(list)  # asked, answered
        self.held: dict[int, float] = {}
        self.born: dict[str, float] = {}
        self.reported: Counter[object] = Counter()
        self.seen: Counter[tuple[str, object]] = Counter()
        self.lost = 0

    @property
    def now(self) -> float:
        return self.fleet.system.now()

    async def ask(self, ref: Any, message: Any) -> Any:
        while True:
            try:
                return await ref.ask(message)
            except (ActorError, Unavailable):
                await trio.sleep(1)

    async def beat(self, name: str) -> None:
        for _ in range(8):
            asked = self.now
            await self.ask(self.fleet.agents[name], agents.Heartbeat())
            self.heard[name].append((asked, self.now))
            await trio.sleep([20.0, 100.0, 220.0][self.sim.choose(3)])

    async def claim(self, name: str) -> None:
        for _ in range(4):
            asked = wire.SendMessage(
                from_="user", to=name, kind=wire.MessageKind.SYSTEM, body="x", claimable=True
            )
            number = (await self.ask(self.fleet.post_office, messages.Send(asked))).message.id
            begun = self.now
            try:
                await self.ask(self.fleet.post_office, messages.Claim(number, name))
            except Conflict:
                continue
            self.held[number] = begun
            await self.sim.pause(LIFE)

    async def begin(self) -> None:
        """Commands and mail for a policy that nobody serves."""
        for _ in range(4):
            asked = wire.NewCommand(type="t", source="s", target="x", ttl_ms=round(LIFE * 1000))
            begun = self.now
            command = await self.ask(
                self.fleet.commands[self.fleet.system.new_id("cmd")], commands.Create(asked)
            )
            self.born[command.id] = begun
            mail = wire.SendMessage(from_="user", to="policy:p", body="x", max_age_seconds=round(LIFE))
            begun = self.now
            sent = await self.ask(self.fleet.post_office, messages.Send(mail))
            self.born[str(sent.message.id)] = begun
            await self.sim.pause(LIFE)

    async def reap(self) -> wire.Reaped | None:
        try:
            report = await self.fleet.maintenance.ask(maintenance.Reap())
        except (ActorError, Unavailable, trio.TooSlowError):
            return None
        self.reported.update(("lost", name) for name in report.reaped_agent_ids)
        self.reported.update(
            ("message.claim.released", str(number)) for number in report.released_message_ids
        )
        self.reported.update(("message.expired", str(number)) for number in report.expired_queued_message_ids)
        self.reported.update(("command.timed_out", key) for key in report.expired_command_ids)
        return report

    async def keep(self) -> None:
        for _ in range(6):
            await self.sim.pause(120)
            await self.reap()

    async def witness(self) -> None:
        """Judges every end at the moment it is seen; what was answered `LATEST` seconds before came before it."""
        cursor = 0
        while True:
            for event in await self.fleet.events.read_after(cursor, 100):
                cursor = event.id
                self.judge(event)

    def judge(self, event: LoggedEvent) -> None:
        self.seen[event.type, event.subject] += 1
        subject = str(event.subject)
        if event.type == "agent.status" and b'"status":"offline"' in event.data:
            self.lost += 1
            self.seen["lost", subject] += 1
            before = [asked for asked, answered in self.heard[subject] if answered < self.now - LATEST]
            assert all(asked + OFFLINE_AFTER <= self.now for asked in before), f"{subject} was heard of"
        elif event.type == "message.claim.released":
            self.old(self.held.get(int(subject)), messages.CLAIM_TERM, subject)
        elif event.type in ("message.expired", "command.timed_out"):
            self.old(self.born.get(subject), LIFE, subject)

    def old(self, begun: float | None, term: float, what: str) -> None:
        """A wall clock that is right to a few seconds is taken at its word."""
        assert begun is None or begun + term <= self.now + HELD_UP, f"{what} ended after {self.now - begun} s"

    async def quiet(self) -> None:
        """Everything that can end has ended: two runs find nothing."""
        await trio.sleep(messages.CLAIM_TERM + 3 * max(JUMPS) + 4 * maintenance.EVERY)
        while await self.reap() is None:
            pass
        while (last := await self.reap()) is None:
            pass
        assert last == EMPTY


@pytest.mark.spec("M-I5", "M-I13", "M-I25", "M-I26", "M-I27", "M-I16", "M-231", "M-139")
@simulate(runs=30, faults=FAULTS)
async def test_nothing_ends_before_its_time_and_each_end_is_told_once(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        people = People(sim, fleet)
        sim.sometimes(lambda: people.lost > 0, "somebody was lost")
        sim.sometimes(lambda: people.reported.total() > 0, "a run that was asked for found something")
        for name in AGENTS:
            await people.ask(fleet.agents[name], agents.Register(wire.RegisterAgent(id=name)))
        async with trio.open_nursery() as watching:
            watching.start_soon(people.witness)
            async with trio.open_nursery() as nursery:
                for name in AGENTS:
                    nursery.start_soon(people.beat, name)
                    nursery.start_soon(people.claim, name)
                nursery.start_soon(people.begin)
                for _ in range(2):
                    nursery.start_soon(people.keep)
                for _ in range(2):
                    await sim.pause(400)
                    sim.jump_wall(JUMPS[sim.choose(len(JUMPS))])
            await people.quiet()
            watching.cancel_scope.cancel()
        for what, times in people.reported.items():
            assert times <= people.seen[what], f"{what} was reported {times} times"
        once = ("message.claim.released", "message.expired", "command.timed_out")
        assert all(times == 1 for (kind, _), times in people.seen.items() if kind in once)
        assert {agent.status for agent in agents.list_agents(store)} == {A.OFFLINE}
        assert {
            ("command.timed_out", key) for key in people.born if key.startswith("cmd")
        } <= people.seen.keys()
        assert {("message.claim.released", str(number)) for number in people.held} <= people.seen.keys()
        lost = Log(store).audits("server-agent-")
        assert len([record for record in lost if record.get("icon") == "ti-heart-off"]) == people.lost
