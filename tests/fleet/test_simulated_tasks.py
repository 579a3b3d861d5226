"""Tasks under every schedule: reports, rival claims on tasks and on their messages, renewals, ends, holders who leave and come
back, maintenance, crashes, commits that fail.

What is judged are the tables whenever something has changed, the history, the event log, and what clients were answered.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import attrs
import orjson
import pytest
import trio

from relay import wire
from relay.actors import ActorError, Refusal, Unavailable, open_system
from relay.fleet import Fleet, agents, messages, open_fleet, tasks
from relay.fleet._task_rules import HELD, MOVES, reports
from relay.store import Store, open_store
from relay.testing import Faults, Sim, simulate

TERM = messages.CLAIM_TERM
AGENTS = ("a1", "a2", "a3")
TARGETS = ("tag:t", "a1", "a2")
KEYS = (None, "k1", "k2")
S = wire.TaskStatus
SAID = (S.IN_PROGRESS, S.BLOCKED, S.IN_PROGRESS, S.DONE, S.FAILED, S.OPEN)
SLACK = 5.0  # seconds between the time of an event and that of what was known when it was decided on

# Claims whose task is somebody else's, or nobody's, or that end at another time.
DISAGREEING = """
select c.message_id, c.agent_id, c.expires_at, t.id, t.claimed_by, t.claim_expires_at
from message_claims c join messages m on m.id = c.message_id
join tasks t on t.id = json_extract(m.record, '$.payload.taskId')
where m.created_at >= t.created_at and (c.task_id is not t.id or c.agent_id is not t.claimed_by or c.expires_at is not t.claim_expires_at)
"""
# Tasks that are held while the message that hands them over is not.
ALONE = """
select t.id from tasks t join messages m on m.id = t.message_id
where t.status in ('claimed', 'in_progress', 'blocked') and t.claimed_by is not null
and not exists (select 1 from message_claims c where c.message_id = m.id)
"""

HANDED_OVER = """
select t.id from messages m join tasks t on t.id = json_extract(m.record, '$.payload.taskId')
where m.id = ? and m.created_at >= t.created_at
"""


@attrs.frozen
class Promise:
    """A claim as its holder was told of it; all in seconds of the wall clock."""

    agent: str
    asked: float
    answered: float
    until: float


@attrs.frozen
class Run:
    """A maintenance run: from which event on, and what it said that it opened."""

    since: int
    opened: tuple[int, ...]


class World:
    """Everybody who has to do with tasks."""

    def __init__(self, sim: Sim, fleet: Fleet, store: Store) -> None:
        self.sim = sim
        self.fleet = fleet
        self.store = store
        self.reported: dict[str, set[int]] = defaultdict(set)
        self.promises: dict[int, list[Promise]] = defaultdict(list)
        self.released: Counter[int] = Counter()
        self.runs: list[Run] = []
        self.refused = 0

    async def ask(self, ref: Any, message: Any) -> Any:
        """None when nobody knows what came of it, or it was refused."""
        try:
            return await ref.ask(message)
        except Refusal:
            self.refused += 1
        except (ActorError, Unavailable):
            pass
        finally:
            self.look()
        return None

    def look(self) -> None:
        assert self.store.rows(DISAGREEING) == [], "who holds a message holds its task, for the same time"
        assert self.store.rows(ALONE) == [], "who holds a task holds the message that hands it over"

    async def watch(self) -> None:
        """Look whenever something has happened."""
        last = 0
        while True:
            last = (await self.store.events.read_after(last, 500))[-1].id
            self.look()

    async def report(self) -> None:
        for _ in range(6):
            key = KEYS[self.sim.choose(len(KEYS))]
            event = wire.IntegrationEvent(
                title="x", target=TARGETS[self.sim.choose(len(TARGETS))], key=key,
                status=(None, None, None, S.CANCELED)[self.sim.choose(4)],
            )  # fmt: skip
            made = await self.ask(self.fleet.post_office, tasks.Ingest("ci", event))
            if made is not None and key is not None:
                self.reported[key].add(made.task.id)
            await self.sim.pause(TERM / 2)

    async def refer(self) -> None:
        """Messages of others that hand over the same tasks; now and then one is deleted."""
        for _ in range(4):
            await self.sim.pause(TERM / 2)
            asked = wire.SendMessage(
                from_="lead", to="tag:t", body="x", claimable=True, payload={"taskId": 1 + self.sim.choose(4)}
            )
            sent = await self.ask(self.fleet.post_office, messages.Send(asked))
            if sent is not None and self.sim.choose(4) == 0:
                await self.ask(self.fleet.post_office, messages.Delete(sent.message.id))

    async def register(self, name: str) -> None:
        card = wire.RegisterAgent(id=name, tags=["t"], status=wire.AgentStatus.IDLE)
        while await self.ask(self.fleet.agents[name], agents.Register(card)) is None:
            await trio.sleep(1)

    async def work(self, name: str) -> None:
        for _ in range(8):
            task = self.some("tasks")
            message = self.some("messages")
            for asked, about in (
                (tasks.ClaimTask(task, name), task),
                (messages.Claim(message, name), self.task_of(message)),
                (messages.Renew(message, name), self.task_of(message)),
            ):
                if self.sim.choose(2):
                    await self.hold(name, about, asked)
                    await self.sim.pause(TERM * 0.7)
            said = wire.SetTaskStatus(status=SAID[self.sim.choose(len(SAID))], agent_id=name)
            await self.ask(self.fleet.post_office, tasks.SetTaskStatus(task, said))
            await self.sim.pause(TERM * 0.3)
            await self.leave(name)

    async def leave(self, name: str) -> None:
        """Now and then; it comes back after a while."""
        how = (agents.SetStatus(wire.AgentStatus.OFFLINE), agents.Remove(), None, None)[self.sim.choose(4)]
        if how is not None:
            await self.ask(self.fleet.agents[name], how)
            await self.sim.pause(TERM * 0.6)
            await self.register(name)

    def some(self, table: str) -> int:
        known = [number for (number,) in self.store.rows(f"select id from {table} order by id")]
        return known[self.sim.choose(len(known))] if known else 1

    def task_of(self, message: int) -> int | None:
        """The task that the message hands over; one that was made later is none of its business."""
        row = self.store.row(HANDED_OVER, message)
        return row[0] if row else None

    async def hold(self, name: str, task: int | None, asked: Any) -> None:
        began = self.fleet.system.wall()
        answer = await self.ask(self.fleet.post_office, asked)
        if answer is not None and task is not None:
            now = self.fleet.system.wall()
            self.promises[task].append(Promise(name, began, now, answer.claim_expires_at))

    async def maintain(self) -> None:
        for _ in range(10):
            await self.sim.pause(TERM / 3)
            await self.run()

    async def run(self) -> None:
        since, opened = self.store.events.last_id, []
        while released := await self.ask(self.fleet.post_office, tasks.ReleaseExpired()):
            self.released.update(released.task_ids)
            if not (released.message_ids or released.task_ids):
                break
        while some := await self.ask(self.fleet.post_office, tasks.ReleaseOrphaned()):
            opened += some
        self.released.update(opened)
        self.runs.append(Run(since, tuple(opened)))


@attrs.frozen
class Entry:
    """An entry of a task's history; `at` in seconds."""

    at: float
    type: str
    status: S
    agent: str | None


def histories(store: Store) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = defaultdict(list)
    for task, at, record in store.rows("select task_id, at, record from task_events order by id"):
        entry = orjson.loads(record)
        found[task].append(Entry(at / 1000, entry["type"], S(entry["status"]), entry.get("agentId")))
    return found


def check(world: World) -> None:
    store = world.store
    known = histories(store)
    for task, history in known.items():
        _follows_the_table(history)
        _is_taken_from_nobody(history, world.promises[task])
    told = Counter(number for (number,) in store.rows("select subject from events where type like 'task.%'"))
    assert told == Counter({str(task): len(history) for task, history in known.items()})
    keys = store.rows("select key from tasks where key is not null")
    assert len(keys) == len(set(keys))
    assert all(len(numbers) == 1 for numbers in world.reported.values())
    released = Counter(
        task for task, history in known.items() for entry in history if entry.type == "released"
    )
    assert world.released <= released, "what was opened is reported once"
    _is_opened_by_a_later_run(world)
    _is_left_to_whoever_is_back(store)


def _follows_the_table(history: list[Entry]) -> None:
    assert history[0].type == "created"
    for before, after in pairwise(history):
        match after.type:
            case "updated":
                known = S.OPEN if before.status.final else before.status
                fits = after.status is before.status or reports(after.status) in MOVES[known]
            case "status":
                fits = reports(after.status) in MOVES[before.status] and not before.status.final
            case "claimed":
                fits = not before.status.final and after.status in HELD
            case "released":
                fits = before.status in HELD | {S.ORPHANED} and after.status is S.OPEN
            case "orphaned":
                fits = before.status in HELD and after.status is S.ORPHANED
            case _:
                fits = False
        assert fits, (before, after)


def _is_taken_from_nobody(history: list[Entry], promises: list[Promise]) -> None:
    """As long as a claim was promised, its holder alone ends it, or the source of the task; or it is gone."""
    for before, after in pairwise(history):
        for promise in promises if before.status in HELD else ():
            if _takes(after, promise.agent) and promise.answered <= after.at < promise.until - 0.1:
                meanwhile = [entry for entry in history if promise.asked < entry.at < after.at]
                assert any(_ends(entry, promise.agent) for entry in meanwhile), (promise, after)


def _takes(entry: Entry, holder: str) -> bool:
    """Whether somebody else has the task from then on, or nobody, without a word of its holder."""
    if entry.type == "released":
        return entry.agent == holder
    return entry.type in ("claimed", "status") and entry.agent != holder


def _ends(entry: Entry, holder: str) -> bool:
    return entry.status not in HELD or (entry.type in ("claimed", "status") and entry.agent != holder)


def _is_opened_by_a_later_run(world: World) -> None:
    """What is orphaned while a run goes on is not opened by it (M-I40)."""
    rows = world.store.rows(
        "select id, cast(subject as integer), data from events where type = 'task.updated'"
    )
    orphaned = [(number, task) for number, task, data in rows if orjson.loads(data)["status"] == "orphaned"]
    for run, after in zip(world.runs, [*world.runs[1:], None], strict=True):
        end = after.since if after is not None else world.store.events.last_id
        during = {task for number, task in orphaned if run.since < number <= end}
        times = Counter(task for number, task in orphaned if number <= run.since)
        assert all(times[task] for task in set(run.opened) & during), (run, during)


def _is_left_to_whoever_is_back(store: Store) -> None:
    """No orphaned task is opened while its former holder is there and its claim lasts (M-I39)."""
    there: dict[str, float] = {}
    before: dict[int, dict[str, Any]] = {}
    for at, kind, subject, text in store.rows("select at, type, subject, data from events order by id"):
        data = orjson.loads(text)
        if kind == "agent.removed" or (kind == "agent.status" and data["status"] == "offline"):
            there.pop(subject, None)
        elif kind == "agent.status":
            there.setdefault(subject, at)
        elif kind == "task.updated":
            was = before.get(data["id"], {})
            if was.get("status") == "orphaned" and data["status"] == "open" and "claimedBy" in was:
                back = there.get(was["claimedBy"], at) < at - SLACK * 1000
                assert not back or at >= was["claimExpiresAt"] or _given_back(store, data), (was, data)
            before[data["id"]] = data


def _given_back(store: Store, task: dict[str, Any]) -> bool:
    """Whether somebody who may has said so, and not maintenance."""
    row = store.row(
        "select record from task_events where task_id = ? and at = ? order by id desc",
        task["id"],
        task["updatedAt"],
    )
    return row is not None and orjson.loads(row[0])["type"] != "released"


@pytest.mark.spec("M-I3", "M-I5", "M-I6", "M-I26", "M-I38", "M-I39", "M-I40")
@simulate(
    runs=40,
    faults=Faults(
        crash=0.02, delay=0.02, named={"store.commit": 0.02}, most=6, only=("post-office", "agents/*")
    ),
)
async def test_a_task_and_its_messages_have_one_holder_who_loses_them_only_to_time(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        await system.stop(fleet.maintenance)
        fleet.absence.look((), again_in=math.inf)
        world = World(sim, fleet, store)
        sim.sometimes(lambda: world.refused > 3, "claims were refused")
        sim.sometimes(lambda: any(run.opened for run in world.runs), "an orphaned task was opened")
        sim.sometimes(lambda: bool(world.released), "a claim that was over was released")
        for name in AGENTS:
            await world.register(name)
        async with trio.open_nursery() as watching:
            watching.start_soon(world.watch)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.report)
                nursery.start_soon(world.refer)
                nursery.start_soon(world.maintain)
                for name in AGENTS:
                    nursery.start_soon(world.work, name)
            watching.cancel_scope.cancel()
        await trio.sleep(2 * TERM)
        for _ in range(3):
            await world.run()
        check(world)
        held = "select count(*) from tasks where claimed_by is not null or status = 'orphaned'"
        assert store.row(held) == store.row("select count(*) from message_claims") == (0,)
