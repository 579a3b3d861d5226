"""Random histories of merges, settlements, decisions, silence and restarts, against a plain model of the rules."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings, strategies as st
from repositories import REPORTS, Hosts
from trio.testing import MockClock

from relay import wire
from relay.actors import open_system, virtual_wall
from relay.fleet import Conflict, Invalid, NotFound, maintenance, merges, open_fleet, workspaces
from relay.store import Store, open_store

REPOSITORIES = ("/home/u/r1", "/home/u/r2", "/home/u/r3")
WORKSPACES = {f"w{number}": REPOSITORIES[number % 3] for number in range(6)}
OPEN = ("active", "ready", "conflict", "review_requested", "merge_planned")
DECLARED = {
    "ready": "ready",
    "conflict-found": "conflict",
    "request-review": "review_requested",
    "merge-plan": "merge_planned",
    "abandon": "abandoned",
}
HOST_AWAY = 90.0
LIFE = merges.TERM - 60
GRACE = 30.0
AWAY = 0.7  # seconds a restart takes

names = st.sampled_from(sorted(WORKSPACES))
ends = st.sampled_from(["succeeded", "failed", "timed_out", "rejected", "canceled"])
results = st.sampled_from(["none", "merged", "conflict", "active", "merge_planned", "foreign", "malformed"])
steps = st.one_of(
    st.tuples(st.just("merge"), names),
    st.tuples(st.just("merge"), names),
    st.tuples(st.just("merge"), names),
    st.tuples(st.just("settle"), st.integers(0, 9), ends, results),
    st.tuples(st.just("settle"), st.integers(0, 9), ends, results),
    st.tuples(st.just("begin"), st.integers(0, 9)),
    st.tuples(st.just("begin"), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("act"), names, st.sampled_from(sorted(DECLARED))),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("report"), names),
    st.tuples(st.just("wait"), st.sampled_from([3.1, 61.7, 611.9, 2_611.3])),
    st.tuples(st.just("host")),
    st.tuples(st.just("leave")),
    st.tuples(st.just("restart")),
)


@attrs.define
class Sent:
    """A merge command, as the model knows it."""

    id: str
    workspace: str
    until: float
    begun: bool = False
    end: str | None = None


@attrs.define
class Model:
    """What must be, by the rules of 11, 12 and 18.1. Times are seconds of the virtual clock."""

    now: float = 0.0
    heard: float = 0.0
    there: bool = True
    rows: dict[str, str] = attrs.field(factory=lambda: dict.fromkeys(WORKSPACES, "active"))
    sent: list[Sent] = attrs.field(factory=list)
    leases: dict[str, tuple[Sent, float]] = attrs.field(factory=dict)
    tokens: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(REPOSITORIES, 0))

    def may_merge(self, name: str) -> type[Exception] | None:
        if name not in self.rows:
            return NotFound
        busy = WORKSPACES[name] in self.leases
        return Conflict if busy or not self.there or self.rows[name] not in OPEN else None

    def merged(self, name: str, command: wire.Command) -> None:
        sent = Sent(command.id, name, self.now + LIFE)
        self.sent.append(sent)
        self.rows[name] = "merge_planned"
        self.leases[WORKSPACES[name]] = (sent, self.now + merges.TERM)

    def ended(self, sent: Sent, end: str, said: str | None = None) -> None:
        sent.end = end
        status = self.rows.get(sent.workspace)
        if end == "succeeded" and said is not None and status is not None:
            self.rows[sent.workspace] = said
        elif end != "succeeded" and status == "merge_planned":
            self.rows[sent.workspace] = said if said == "conflict" else "review_requested"
        repository = WORKSPACES[sent.workspace]
        if repository in self.leases and self.leases[repository][0] is sent:
            del self.leases[repository]

    def passed(self, seconds: float) -> None:
        self.now += seconds
        self.there = self.there and self.now - self.heard < HOST_AWAY
        for sent in self.sent:
            if sent.end is None and sent.until <= self.now:
                self.ended(sent, "timed_out")
            elif sent.end is None and not sent.begun and not self.there:
                self.ended(sent, "failed")
        self.leases = {repo: held for repo, held in self.leases.items() if held[1] > self.now}

    def restarted(self, away: float) -> None:
        self.now += away
        self.heard = self.now
        self.leases = {repo: held for repo, held in self.leases.items() if held[1] > self.now}
        for sent in self.sent:
            if sent.end is None:
                sent.until = max(sent.until, self.now + GRACE)


class Run:
    """One history: every step is done to the fleet and to the model, then the two are compared."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.model = Model()

    async def step(self, name: str, *given: Any) -> None:
        before = self.hosts.trace()
        refusal = await getattr(self, f"_{name}")(*given)
        if refusal is not None:
            assert self.hosts.trace() == before

    def check(self) -> None:
        """W-I1, W-I6, W-I9, W-I15 and the rest of the model at this moment."""
        model, hosts = self.model, self.hosts
        assert {name: hosts.status(name) for name in WORKSPACES} == {
            name: model.rows.get(name) for name in WORKSPACES
        }
        leases = {repo: (held.workspace_id, held.command_id) for repo, held in hosts.leases().items()}
        assert leases == {repo: (sent.workspace, sent.id) for repo, (sent, _) in model.leases.items()}
        assert [(found.id, found.status.final) for found in hosts.commands()] == [
            (sent.id, sent.end is not None) for sent in model.sent
        ]
        for held in hosts.leases().values():
            assert held.token >= model.tokens[held.repo_root]
            model.tokens[held.repo_root] = held.token

    async def _merge(self, name: str) -> type[Exception] | None:
        refusal = self.model.may_merge(name)
        if refusal is not None:
            with pytest.raises(refusal):
                await self.hosts.act(name, "merge")
            return refusal
        command = await self.hosts.command(name, "merge")
        assert command.params["leaseToken"] > self.model.tokens[WORKSPACES[name]]
        self.model.merged(name, command)
        return None

    async def _settle(self, number: int, end: str, said: str) -> type[Exception] | None:
        sent = self._sent(number)
        if sent is None:
            return None
        command = wire.Command(id=sent.id, type="workspace.merge", source="system", target="o1")
        result = _result(sent.workspace, said)
        if sent.end is not None:
            refusal: type[Exception] | None = None if sent.end == end else Conflict
        else:
            refusal = Invalid if said == "malformed" else None
        if refusal is not None:
            with pytest.raises(refusal):
                await self.hosts.patch(command, end, result=result)
            return refusal
        if sent.end is not None:
            before = self.hosts.trace()
            await self.hosts.patch(command, end, result=result)
            assert self.hosts.trace() == before
            return None
        await self.hosts.patch(command, end, result=result)
        self.model.ended(sent, end, None if said in ("none", "foreign") else said)
        return None

    async def _begin(self, number: int) -> None:
        sent = self._sent(number)
        if sent is not None and sent.end is None:
            command = wire.Command(id=sent.id, type="workspace.merge", source="system", target="o1")
            await self.hosts.patch(command, "running")
            sent.begun = True

    async def _cancel(self, number: int) -> type[Exception] | None:
        sent = self._sent(number)
        if sent is None:
            return None
        command = wire.Command(id=sent.id, type="workspace.merge", source="system", target="o1")
        if sent.end is not None:
            with pytest.raises(NotFound):
                await self.hosts.cancel(command)
            return NotFound
        await self.hosts.cancel(command)
        self.model.ended(sent, "canceled")
        return None

    def _sent(self, number: int) -> Sent | None:
        """The last few are the ones that matter: 0 is the newest."""
        return self.model.sent[-1 - number] if number < len(self.model.sent) else None

    async def _act(self, name: str, action: str) -> type[Exception] | None:
        if name not in self.model.rows:
            with pytest.raises(NotFound):
                await self.hosts.act(name, action)
            return NotFound
        await self.hosts.act(name, action)
        self.model.rows[name] = DECLARED[action]
        return None

    async def _delete(self, name: str) -> type[Exception] | None:
        if self.model.rows.pop(name, None) is None:
            with pytest.raises(NotFound):
                await self.hosts.remove(name)
            return NotFound
        await self.hosts.remove(name)
        return None

    async def _report(self, name: str) -> None:
        await self.hosts.report(_report(name))
        self.model.rows.setdefault(name, "active")

    async def _wait(self, seconds: float) -> None:
        await trio.sleep(seconds)
        await self.hosts.fleet.maintenance.ask(maintenance.Reap())
        await trio.testing.wait_all_tasks_blocked()
        self.model.passed(seconds)

    async def _leave(self) -> None:
        await self.hosts.leave()
        await trio.testing.wait_all_tasks_blocked()
        self.model.there = False
        self.model.passed(0.0)

    async def _host(self) -> None:
        await self.hosts.online()
        self.model.heard, self.model.there = self.model.now, True


def _report(name: str) -> wire.WorkspaceReport:
    return attrs.evolve(REPORTS["w1"], id=name, repo_root=WORKSPACES[name])


def _result(name: str, said: str) -> dict[str, Any] | None:
    if said == "none":
        return None
    if said == "malformed":
        return {"workspaceId": name, "status": "lost"}
    if said == "foreign":
        return {"workspaceId": "w9", "status": "merged"}
    return {"workspaceId": name, "status": said}


@pytest.mark.spec(
    "W-I1",
    "W-I2",
    "W-I3",
    "W-I5",
    "W-I6",
    "W-I7",
    "W-I8",
    "W-I9",
    "W-I10",
    "W-I12",
    "W-I15",
    "W-I16",
    "W-I49",
)
@given(history=st.lists(steps, min_size=5, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_history_follows_the_rules(history: list[Any]) -> None:
    async def scenario() -> None:
        async with open_system(wall=virtual_wall(), seed=1) as system, open_store(None, system) as store:
            async with open_fleet(system, store) as fleet:
                run = Run(Hosts(fleet))
                await run.step("host")
                for name in WORKSPACES:
                    await run.step("report", name)
            # A restart is the end of one block and the beginning of the next.
            parts: list[list[Any]] = [[]]
            for step in history:
                if step[0] == "restart":
                    parts.append([])
                else:
                    parts[-1].append(step)
            for part in parts:
                await trio.sleep(AWAY)
                async with open_fleet(system, store) as fleet:
                    run.hosts = Hosts(fleet)
                    run.model.restarted(AWAY)
                    run.check()
                    for step in part:
                        await run.step(*step)
                        run.check()
            _consistent(store, run.model)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


def _consistent(store: Store, model: Model) -> None:
    """What is only visible in the whole history: each end was announced once, and each merge audited once."""
    ended = [sent.id for sent in model.sent if sent.end is not None]
    rows = store.rows(
        "select subject from events where type like 'command.%'"
        " and type not in ('command.requested', 'command.running') order by subject"
    )
    assert [key for (key,) in rows] == sorted(ended)
    audits = store.rows("select 1 from activity where client_id like 'workspace-merge-w%'")
    assert len(audits) == len(model.sent)
    assert {row.id for row in workspaces.list_workspaces(store)} == set(model.rows)
