"""Random histories of tasks over HTTP, on real sockets and a real database, against a plain model of what a task is.

Integrations report and report again; agents claim tasks, or the messages that hand them over, renew, tell of their work,
leave and come back; messages are deleted, time passes and the server starts again. After every step each task is what the
model says, and whoever claims a message of a task holds that task, too.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import httpx2
import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from played import Played, Step
from trio.testing import MockClock

from relay.fleet import messages

TERM, GRACE = 900.0, 300.0
AGENTS = ("a1", "a2", "a3")
TAGGED = ("a1", "a2")
HELD = ("claimed", "in_progress", "blocked")
ENDS = ("done", "failed", "canceled")
MAY_BECOME = {
    "open": {"claimed", "in_progress"},
    "claimed": {"open", "in_progress"},
    "in_progress": {"open", "blocked"},
    "blocked": {"open", "in_progress"},
    "orphaned": {"open", "claimed", "in_progress", "blocked"},
}

agents = st.sampled_from(AGENTS)
picks = st.integers(0, 4)
OFTEN = {
    4: [
        st.tuples(
            st.just("report"),
            st.sampled_from(["a1", "tag:t", "tag:t", "broadcast"]),
            st.sampled_from([None, "k1", "k2"]),
            st.sampled_from([None, None, None, "in_progress", "done", "blocked"]),
        ),
        st.tuples(st.just("claim"), agents, picks),
        st.tuples(st.just("claim message"), agents, picks),
        st.tuples(
            st.just("say"), agents, picks, st.sampled_from(["claimed", "in_progress", "blocked", *ENDS])
        ),
    ],
    2: [
        st.tuples(st.just("renew message"), agents, picks),
        st.tuples(st.just("leave"), agents),
        st.tuples(st.just("wait"), st.sampled_from([7.3, 311.9, 611.7, 911.3])),
    ],
    1: [
        st.tuples(st.just("come back"), agents),
        st.tuples(st.just("remove"), agents),
        st.tuples(st.just("decide"), picks, st.sampled_from(["open", "done", "canceled"])),
        st.tuples(st.just("delete message"), picks),
        st.tuples(st.just("restart")),
    ],
}
steps = st.sampled_from(
    [step for times, kinds in OFTEN.items() for step in kinds for _ in range(times)]
).flatmap(lambda step: step)


@attrs.define
class Task:
    """A task as the model knows it; `messages` are those that hand it over, and `held` the claimed ones of them."""

    id: int
    target: str
    status: str
    holder: str | None = None
    until: float = 0.0
    orphaned_at: float = 0.0
    orphaned_from: str | None = None
    messages: list[int] = attrs.field(factory=list)
    held: set[int] = attrs.field(factory=set)
    history: list[tuple[str, str]] = attrs.field(factory=list)

    def held_by(self, now: float) -> str | None:
        return self.holder if self.status in HELD and self.until > now else None

    def move(self, status: str) -> None:
        """To a status that somebody reports. Only what is held has a holder, and messages that are claimed."""
        self.status, self.orphaned_from = status, None
        if status not in HELD:
            self.holder, self.until, self.held = None, 0.0, set()

    def reaches(self, name: str) -> bool:
        return self.target in (name, "broadcast") or (self.target == "tag:t" and name in TAGGED)


class Play(Played):
    """A history of tasks."""

    prelude = tuple(("come back", name) for name in AGENTS)

    def __init__(self, database: Path) -> None:
        super().__init__(database)
        self.here: dict[str, bool] = {}
        self.tasks: dict[int, Task] = {}
        self.keys: dict[str, int] = {}
        self.deleted: set[int] = set()

    async def post(self, path: str, **document: Any) -> httpx2.Response:
        return await self.api.post(f"/api/{path}", json=document)

    # -- agents

    async def come_back(self, name: str) -> None:
        """Registered, if it was not, and not offline. What it has left stays orphaned until it says more."""
        document = {"id": name, "tags": ["t"] if name in TAGGED else []}
        assert (await self.post("agents", **document)).status_code in (200, 201)
        self.here[name] = True

    async def leave(self, name: str) -> None:
        if name in self.here:
            answer = await self.api.patch(f"/api/agents/{name}/status", json={"status": "offline"})
            assert answer.status_code == 200
            self.here[name] = False
            self.orphan(name)

    async def remove(self, name: str) -> None:
        known = self.here.pop(name, None) is not None
        assert (await self.api.delete(f"/api/agents/{name}")).status_code == (200 if known else 404)
        self.orphan(name)

    def orphan(self, name: str) -> None:
        for task in self.tasks.values():
            if task.holder == name and task.status in HELD:
                task.orphaned_from, task.orphaned_at = task.status, trio.current_time()
                task.status = "orphaned"
                task.history.append(("orphaned", "orphaned"))

    # -- integrations, and whoever runs relay

    async def report(self, target: str, key: str | None, status: str | None) -> None:
        task = self.tasks[self.keys[key]] if key in self.keys else None
        more = {name: value for name, value in {"key": key, "status": status}.items() if value}
        answer = await self.post("integrations/events", title="x", target=target, **more)
        before = task.status if task else None
        if not self.may_report(before, status):
            assert answer.status_code == 400, answer.text
            return
        assert answer.status_code == (200 if task else 201), answer.text
        said = answer.json()
        fresh = task is None or before in ENDS or task.target != target or not task.messages
        if task is None:
            task = self.tasks[said["task"]["id"]] = Task(said["task"]["id"], target, status or "open")
            self.keys |= {key: task.id} if key else {}
        elif before == "orphaned" and status in HELD:
            task.orphaned_from = status  # its holder is gone all the same
        elif status != before and (status or before in ENDS):
            task.move(status or "open")
        task.target = target
        task.history.append(("created" if before is None else "updated", task.status))
        assert ("message" in said) == (fresh and task.status not in ENDS)
        if "message" in said:
            task.messages.append(said["message"]["id"])
            task.held |= {said["message"]["id"]} if task.status in HELD and task.holder else set()

    def may_report(self, before: str | None, status: str | None) -> bool:
        if status is None or status == before:
            return True
        known = "open" if before is None or before in ENDS else before
        return status in ENDS or status == known or status in MAY_BECOME[known] - {"claimed"}

    async def decide(self, pick: int, status: str) -> None:
        """Whoever runs relay may always say."""
        task = self.pick(pick)
        if task is None:
            return
        answer = await self.post(f"tasks/{task.id}/status", status=status)
        if task.status in ENDS:
            assert answer.status_code == (200 if status == task.status else 409)
            return
        assert answer.status_code == 200, answer.text
        task.move(status)
        task.history.append(("status", status))

    # -- those who do the work

    async def claim(self, name: str, pick: int) -> None:
        task = await self.picked_by(name, pick)
        if task is None:
            return
        answer = await self.post(f"tasks/{task.id}/claim", agentId=name)
        if task.holder != name and not task.reaches(name):
            assert answer.status_code == 403, answer.text
        elif self.take(task, name, answer):
            assert answer.json()["task"]["claimedBy"] == name

    async def claim_message(self, name: str, pick: int) -> None:
        task = await self.picked_by(name, pick)
        if task is None or not task.messages:
            return
        number = task.messages[pick % len(task.messages)]
        to = (await self.api.get(f"/api/messages/{number}")).json().get("to")
        answer = await self.post(f"messages/{number}/claim", agentId=name)
        if number in self.deleted:
            assert answer.status_code == 404
        elif not Task(0, to, "open").reaches(name):
            assert answer.status_code == 403, answer.text
        else:
            self.take(task, name, answer, number)

    async def renew_message(self, name: str, pick: int) -> None:
        task = await self.picked_by(name, pick)
        if task is None or not task.messages:
            return
        number = task.messages[pick % len(task.messages)]
        answer = await self.post(f"messages/{number}/claim/renew", agentId=name)
        if number in self.deleted:
            assert answer.status_code == 404
        elif number not in task.held or task.holder != name:
            assert answer.status_code == 409, answer.text
        else:
            self.take(task, name, answer, number)

    async def say(self, name: str, pick: int, status: str) -> None:
        task = await self.picked_by(name, pick)
        if task is None:
            return
        answer = await self.post(f"tasks/{task.id}/status", status=status, agentId=name)
        now = trio.current_time()
        if task.status in ENDS:
            assert answer.status_code == (200 if status == task.status else 409)
            return
        holding = task.holder if task.status == "orphaned" else task.held_by(now)
        allowed = status in ENDS or status == task.status or status in MAY_BECOME[task.status]
        if not allowed or holding not in (None, name):
            assert answer.status_code == 409, answer.text
            return
        assert answer.status_code == 200, answer.text
        if status in HELD and (status == "claimed" or task.held_by(now) != name):
            self.holds(task, name, answer.json()["claimExpiresAt"] / 1000)
        task.move(status)
        task.history.append(("status", status))

    def take(self, task: Task, name: str, answer: httpx2.Response, *messages: int) -> bool:
        """A claim that the agent may make; whether it is the first one to."""
        now = trio.current_time()
        other = task.holder if task.status == "orphaned" else task.held_by(now)
        if task.status in ENDS or other not in (None, name):
            assert answer.status_code == 409, answer.text
            return False
        assert answer.status_code == 200, answer.text
        news = task.held_by(now) != name
        self.holds(task, name, answer.json()["claimExpiresAt"] / 1000, *messages)
        if news:
            task.history.append(("claimed", task.status))
        return True

    def holds(self, task: Task, name: str, until: float, *messages: int) -> None:
        """What it was when the agent left it, or claimed: with its last message, and those it held before."""
        mine = task.holder == name
        task.status = (task.orphaned_from or task.status) if mine else "claimed"
        task.held = ((task.held if mine else set()) | set(task.messages[-1:]) | set(messages)) - self.deleted
        task.holder, task.orphaned_from, task.until = name, None, self.clock(until)
        assert abs(task.until - trio.current_time() - TERM) < 1.0

    async def delete_message(self, pick: int) -> None:
        task = self.pick(pick)
        if task is not None and task.messages:
            number = task.messages[pick % len(task.messages)]
            known = number not in self.deleted
            assert (await self.api.delete(f"/api/messages/{number}")).status_code == (200 if known else 404)
            self.deleted.add(number)
            task.held.discard(number)

    async def wait(self, seconds: float) -> None:
        await self.pass_time(seconds)
        assert (await self.post("system/reap")).status_code == 200
        now = trio.current_time()
        for task in self.tasks.values():
            grace = task.orphaned_at + GRACE <= now and not self.here.get(task.holder or "", False)
            if (task.status in HELD and task.holder and task.until <= now) or (
                task.status == "orphaned" and (task.until <= now or grace)
            ):
                task.move("open")
                task.history.append(("released", "open"))
        again = (await self.post("system/reap")).json()
        assert not any(found for name, found in again.items() if name != "ok")

    # -- looking

    async def beats(self) -> None:
        for name, here in self.here.items():
            if here:
                assert (await self.post(f"agents/{name}/heartbeat")).status_code == 200

    def pick(self, number: int) -> Task | None:
        known = list(self.tasks.values())
        return known[-1 - number % len(known)] if known else None

    async def picked_by(self, name: str, number: int) -> Task | None:
        """Whoever works is there."""
        if not self.here.get(name):
            await self.come_back(name)
        return self.pick(number)

    def clock(self, wall: float) -> float:
        """The instant of the system's clock."""
        return wall - self.fleet.system.wall() + self.fleet.system.now()

    async def compare(self) -> None:
        await self.fleet.post_office.ask(messages.SendMany(()))  # what it was told before is durable
        seen = {task["id"]: task for task in (await self.api.get("/api/tasks?limit=500")).json()}
        assert set(seen) == set(self.tasks)
        for number, task in self.tasks.items():
            found = seen[number]
            assert (found["status"], found.get("claimedBy")) == (task.status, task.holder)
            assert found["target"] == task.target
            assert abs(self.clock(found.get("claimExpiresAt", 0) / 1000) - task.until) < 1 or not task.holder
        await self.compare_claims()

    async def compare_claims(self) -> None:
        """M-I6: who holds a message of a task holds the task, for the same time."""
        answer = await self.api.get("/api/messages?limit=500")
        seen = {message["id"]: message for message in answer.json()}
        for task in self.tasks.values():
            assert self.deleted.isdisjoint(seen)
            there = [number for number in task.messages if number not in self.deleted]
            claimed = {number for number in there if "claimedBy" in seen[number]}
            assert claimed == task.held
            for number in claimed:
                assert seen[number]["claimedBy"] == task.holder
                assert abs(self.clock(seen[number]["claimExpiresAt"] / 1000) - task.until) < 1

    async def compare_everything(self) -> None:
        for number, task in self.tasks.items():
            events = (await self.api.get(f"/api/tasks/{number}/events")).json()
            assert [(event["type"], event["status"]) for event in events] == task.history


@pytest.mark.spec("M-I6", "M-I25", "M-I39", "TSK-6", "TSK-7", "TSK-9", "TSK-10", "TSK-13", "O-35")
@settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a history takes a second: shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(steps, min_size=30, max_size=50))
def test_a_task_is_what_the_model_says(history: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        trio.run(Play(Path(folder) / "relay.db").run, history, clock=MockClock())
