"""Mail for policies under every schedule: sends, registrations new and stale, agents that go and come back, deletions,
maintenance, crashes, commits that fail, servers that start again, clocks that jump.

What is judged is the event log, the tables, and what clients were answered.
"""

from __future__ import annotations

from typing import Any

import attrs
import orjson
import pytest
import trio
from policykit import add_host, put_policy, state

from relay import wire
from relay.actors import ActorError, Refusal, Unavailable, open_system
from relay.fleet import Conflict, Fleet, NotFound, _queue, agents, maintenance, messages, open_fleet, policies
from relay.fleet.policies import Start, Stop
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

POLICIES = ("P", "Q")
AGENTS = ("w1", "w2")
AGES = (None, 0, 5, 40)
TROUBLE = (ActorError, Unavailable, trio.TooSlowError)


@attrs.frozen
class Happened:
    """An event of the log; `at` in epoch milliseconds."""

    at: int
    type: str
    subject: str
    data: dict[str, Any]


class World:
    """Everybody who has to do with the queue."""

    def __init__(self, sim: Sim, store: Store) -> None:
        self.sim = sim
        self.store = store
        self.fleet: Fleet
        self.requests: dict[str, list[str]] = {policy: ["none"] for policy in POLICIES}
        self.tried: set[tuple[str, str, str]] = set()
        self.answered: dict[int, bytes] = {}
        self.keyed: dict[tuple[str, str], set[int]] = {}
        self.deleted: set[int] = set()
        self.reaped: list[int] = []

    async def ask(self, ref: Any, message: Any) -> Any:
        """None when nobody knows what came of it, or it was refused."""
        with trio.move_on_after(60):
            try:
                return await ref.ask(message)
            except (*TROUBLE, Refusal):
                return None

    def requested(self, policy: str) -> list[str]:
        """The spawn request that the policy waits for, if the world does not know it yet."""
        state = policies.find_policy_state(self.store, policy)
        request = state.spawn_request_id if state else None
        return [request] if request and request not in self.requests[policy] else []

    async def host(self) -> None:
        """What policies need to be started."""
        for _ in range(8):
            try:
                with trio.move_on_after(60):
                    await add_host(self.fleet)
                    for policy in POLICIES:
                        await put_policy(self.fleet, policy)
            except TROUBLE:
                pass
            await self.sim.pause(20)

    async def send(self, sender: str) -> None:
        for turn in range(5):
            policy = POLICIES[self.sim.choose(len(POLICIES))]
            key = f"k{turn % 3}" if self.sim.choose(3) else None
            asked = wire.SendMessage(
                from_=sender, to=f"policy:{policy}", body="x", idempotency_key=key,
                max_age_seconds=AGES[self.sim.choose(len(AGES))],
            )  # fmt: skip
            answers = await self.ask(self.fleet.post_office, messages.SendMany((asked,) * (1 + turn % 2)))
            for sent in answers or ():
                self._note(sender, key, sent)
            await self.sim.pause(15)

    def _note(self, sender: str, key: str | None, sent: messages.Sent) -> None:
        self.answered.setdefault(sent.message.id, sent.text)
        if key is not None:
            self.keyed.setdefault((sender, key), set()).add(sent.message.id)

    async def start_and_stop(self, policy: str) -> None:
        """Starts of the policy's agent, each with a request of its own; now and then it is being stopped."""
        for _ in range(4):
            await self.ask(self.fleet.policies[policy], Stop())
            if self.sim.choose(4):
                await self.ask(self.fleet.policies[policy], Start())
                self.requests[policy] += self.requested(policy)
            await self.sim.pause(30)

    async def take_part(self, name: str) -> None:
        """An agent that registers for a policy, with the present request or an earlier one, goes and comes back."""
        for _ in range(6):
            policy = POLICIES[self.sim.choose(len(POLICIES))]
            known = self.requests[policy]
            request = known[-1] if self.sim.choose(3) else known[self.sim.choose(len(known))]
            self.tried.add((policy, name, request))
            meta = {"policyName": policy, "spawnRequestId": request}
            card = wire.RegisterAgent(id=name, meta=meta)
            await self.ask(self.fleet.agents[name], agents.Register(card))
            await self.sim.pause(10)
            match self.sim.choose(5):
                case 0:
                    await self.ask(self.fleet.agents[name], agents.SetStatus(wire.AgentStatus.OFFLINE))
                    await self.sim.pause(10)
                    await self.ask(self.fleet.agents[name], agents.Heartbeat())
                case 1:
                    await self.ask(self.fleet.agents[name], agents.Remove())
            await self.sim.pause(10)

    async def delete(self) -> None:
        for _ in range(4):
            await self.sim.pause(20)
            if self.answered:
                number = sorted(self.answered)[self.sim.choose(len(self.answered))]
                try:
                    await self.fleet.post_office.ask(messages.Delete(number))
                except (*TROUBLE, NotFound):
                    continue
                self.deleted.add(number)

    async def maintain(self) -> None:
        for _ in range(4):
            await self.sim.pause(25)
            report = await self.ask(self.fleet.maintenance, maintenance.Reap())
            if report is not None:
                self.reaped += report.expired_queued_message_ids
            self.sim.jump_wall([0.0, 0.0, 60.0, -20.0][self.sim.choose(4)])

    async def live(self) -> None:
        """One life of the server."""
        async with (
            open_system() as system,
            open_fleet(system, self.store) as self.fleet,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self.host)
            for sender in ("s1", "s2"):
                nursery.start_soon(self.send, sender)
            for policy in POLICIES:
                nursery.start_soon(self.start_and_stop, policy)
            for name in AGENTS:
                nursery.start_soon(self.take_part, name)
            nursery.start_soon(self.delete)
            nursery.start_soon(self.maintain)


class Judge:
    """Goes through the log once, and knows at each event what was so."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.accepted: list[int] = []
        self.queued: dict[int, dict[str, Any]] = {}
        self.resolved: dict[int, str] = {}
        self.ended: set[int] = set()
        self.deleted: set[int] = set()
        self.states: dict[str, dict[str, Any]] = {}
        self.changed: dict[str, int] = {}
        self.releasing: list[int] = []
        self.released: set[int] = set()

    def judge(self) -> None:
        rows = self.world.store.rows("select at, type, subject, data from events order by id")
        for at, kind, subject, data in rows:
            if kind == "activity.created":
                continue
            event = Happened(at, kind, subject, orjson.loads(data))
            if self.releasing:
                assert (kind, event.data.get("id")) == ("message.new", self.releasing.pop(0)), "M-I10"
                self._resolved(event.data, self.released_to)
                continue
            getattr(self, "on_" + kind.replace(".", "_"), lambda event: None)(event)
        assert not self.releasing
        self._compare_rows()

    def on_policy_state_changed(self, event: Happened) -> None:
        state, name = event.data, event.subject
        before = self.states.get(name, {})
        if state["status"] == "starting":
            assert state["spawnRequestId"] != before.get("spawnRequestId")
        else:
            assert state.get("spawnRequestId") == before.get("spawnRequestId"), "M-I12"
        if state["status"] == "running":
            assert (name, state["agentId"], state["spawnRequestId"]) in self.world.tried, "M-I12"
            assert before["status"] != "stopping", "H-01"
        self.states[name], self.changed[name] = state, event.at

    def on_message_queued(self, event: Happened) -> None:
        self._accept(event.data)
        assert event.data.get("resolvedToAgent") is None
        self.queued[event.data["id"]] = event.data

    def on_message_new(self, event: Happened) -> None:
        """One that did not wait."""
        message = event.data
        self._accept(message)
        left = [
            n for n, other in self.queued.items() if other["to"] == message["to"] and _alive(other, event.at)
        ]
        assert not left, ("M-I9", message["id"], left)
        self._resolved(message, None)

    def _accept(self, message: dict[str, Any]) -> None:
        assert not self.accepted or message["id"] > self.accepted[-1], "M-I2"
        self.accepted.append(message["id"])

    def _resolved(self, message: dict[str, Any], expected: str | None) -> None:
        number, agent_id = message["id"], message["resolvedToAgent"]
        assert expected in (None, agent_id)
        assert number not in self.resolved, ("M-I8", "M-I11", number)
        assert message["deliveryStatus"] == "available"
        self.resolved[number] = agent_id

    def on_message_available(self, event: Happened) -> None:
        policy, numbers = event.data["policyName"], event.data["messageIds"]
        assert event.subject == f"policy:{policy}"
        assert 0 < len(numbers) == event.data["count"] <= _queue.AT_ONCE
        assert numbers == sorted(set(numbers)), "M-I10"
        self.released_to = event.data["agentId"]
        state = self.states[policy]
        served = (state["status"], state.get("agentId")) == ("running", self.released_to)
        # A state that is on its way to the disk counts from when it is there.
        assert served or self.changed[policy] >= event.at, "M-I12"
        for number in numbers:
            assert self.queued.pop(number)["to"] == f"policy:{policy}", "M-I7"
        self.releasing = list(numbers)
        self.released.update(numbers)

    def on_message_expired(self, event: Happened) -> None:
        message = self.queued.pop(event.data["id"], None)
        assert message is not None, "M-I7"
        assert not message.get("maxAgeSeconds", 1) or not _alive(message, event.at), "M-I13"
        assert event.data["deliveryStatus"] == "expired"
        self.ended.add(event.data["id"])

    def on_message_deleted(self, event: Happened) -> None:
        number = event.data["messageId"]
        assert number not in self.deleted
        self.deleted.add(number)
        self.queued.pop(number, None)

    def _compare_rows(self) -> None:
        rows = self.world.store.rows("select id, delivery, resolved_to from messages order by id")
        assert [number for number, _, _ in rows] == [n for n in self.accepted if n not in self.deleted]
        for number, status, agent_id in rows:
            assert agent_id == self.resolved.get(number), "M-I9"
            assert status == ("available" if agent_id else "expired" if number in self.ended else "queued")
        assert self.world.answered.keys() <= set(self.accepted)
        assert self.world.deleted <= self.deleted
        assert set(self.world.reaped) <= self.ended
        assert len(self.world.reaped) == len(set(self.world.reaped)), "M-I26"


def _alive(message: dict[str, Any], at: int) -> bool:
    """Whether it could still be released then; life times grow when the server is away, and that is left out here."""
    age = message.get("maxAgeSeconds", 86_400)
    return age == 0 or at < message["createdAt"] + 1000 * age


@pytest.mark.spec("M-I1", "M-I2", "M-I7", "M-I8", "M-I9", "M-I10", "M-I11", "M-I12", "M-I13", "M-089")
@simulate(
    runs=80,
    faults=Faults(
        crash=0.01,
        delay=0.02,
        named={"store.commit": 0.02},
        most=6,
        only=("post-office", "policies/*", "agents/*"),
    ),
)
async def test_mail_for_a_policy_takes_one_way(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store:
        world = World(sim, store)
        judge = Judge(world)
        sim.sometimes(lambda: bool(judge.released), "mail was released")
        sim.sometimes(lambda: bool(judge.ended), "mail expired")
        sim.sometimes(lambda: len(judge.resolved) > len(judge.released), "mail went out at once")
        sim.sometimes(lambda: bool(judge.deleted - judge.resolved.keys()), "mail that waited was deleted")
        for _ in range(2):
            await world.live()
        judge.judge()
        for key, numbers in world.keyed.items():
            kept = numbers - judge.deleted
            assert len(kept) <= 1, ("M-I1", key)


@pytest.mark.spec("M-I9")
@simulate(
    runs=40,
    faults=Faults(
        crash=0.02,
        delay=0.02,
        named={"store.commit": 0.03},
        most=6,
        only=("post-office", "policies/*", "agents/*"),
    ),
)
async def test_mail_that_an_agent_is_there_for_does_not_wait(sim: Sim) -> None:
    """Whatever went wrong on the way, in the end a policy with an agent has an empty queue: also when the server is killed as
    soon as the agent is there, or back, and has not got round to the mail."""
    async with open_system() as system, open_store(None, system) as store:
        agent = Agent(sim)
        sim.sometimes(
            lambda: agent.cut, "the server was killed while mail waited for an agent that was there"
        )
        with trio.CancelScope() as server:
            async with open_system() as life, trio.open_nursery() as nursery:
                fleet = Fleet(life, store)
                await fleet.start()
                await agent.prepare(fleet)
                nursery.start_soon(agent.get_mail, fleet)
                if sim.choose(2):
                    nursery.start_soon(agent.kill, fleet, server)
                await agent.come_and_go(fleet)
                server.cancel()  # whoever is stopped orderly has done all that there was to do
        async with open_system() as life, open_fleet(life, store) as fleet:
            if not served(store):
                await agent.register(fleet)
            with trio.fail_after(2 * maintenance.EVERY + 10):
                while waits(store):
                    await trio.sleep(1)


def served(store: Store) -> bool:
    """Whether there is somebody whom mail for P can be given."""
    return store.row(_queue.SERVED, "P") is not None


def waits(store: Store) -> bool:
    """Whether there is any mail in a queue."""
    return store.row("select 1 from messages where delivery = 'queued'") is not None


class Agent:
    """That of the policy P: it registers, goes, and comes back. `cut`: the server was killed when mail should have gone to it."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.cut = False
        self._request: str | None = None

    async def prepare(self, fleet: Fleet) -> None:
        """It is being started."""
        for make in (add_host, put_policy):
            while True:
                try:
                    await make(fleet)
                    break
                except TROUBLE:
                    await trio.sleep(1)
        await self._persistently(fleet.policies["P"], Start())
        self._request = state(fleet).spawn_request_id

    async def get_mail(self, fleet: Fleet) -> None:
        for _ in range(4):
            asked = wire.SendMessage(from_="s", to="policy:P", body="x")
            await self._persistently(fleet.post_office, messages.Send(asked))
            await self.sim.pause(3)

    async def register(self, fleet: Fleet) -> None:
        card = wire.RegisterAgent(id="w", meta={"policyName": "P", "spawnRequestId": self._request})
        await self._persistently(fleet.agents["w"], agents.Register(card))

    async def come_and_go(self, fleet: Fleet) -> None:
        await self.sim.pause(3)
        await self.register(fleet)
        for step in (agents.SetStatus(wire.AgentStatus.OFFLINE), agents.Heartbeat()):
            await self.sim.pause(3)
            await self._persistently(fleet.agents["w"], step)

    async def kill(self, fleet: Fleet, server: trio.CancelScope) -> None:
        """End the server as soon as it could give mail to the agent, and has not."""
        while not (waits(fleet.store) and served(fleet.store)):
            await fleet.events.read_after(fleet.events.last_id)
        self.cut = True
        server.cancel()

    async def _persistently(self, ref: Any, message: Any) -> None:
        while True:
            try:
                await ref.ask(message)
                return
            except TROUBLE:
                await trio.sleep(1)
            except Conflict:
                return  # it was done, and the answer was lost
