"""Random histories over HTTP against a plain model of policies: what each says, how its agent is, and what its host is asked to do.

Persons write, start, stop, restart and delete policies; the host's commands succeed and fail; agents register, rightly or with an
earlier request, and go; the host goes and comes; the server starts again. After every step all policies are what the model says.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import httpx2
import orjson
import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from played import Played, Step
from trio.testing import MockClock

from relay.fleet.policies import Exited

NAMES = ("p", "q")
FAILURES = 2  # in a row, until a policy is left alone

names = st.sampled_from(NAMES)
OFTEN = {
    4: [st.tuples(st.just("start"), names), st.tuples(st.just("register"), names, st.booleans())],
    2: [
        st.tuples(st.just("stop"), names),
        st.tuples(st.just("settle"), names, st.booleans()),
        st.tuples(st.just("leave"), names),
        st.tuples(st.just("exit"), names, st.booleans()),
        st.tuples(st.just("write"), names, st.booleans()),
    ],
    1: [
        st.tuples(st.just("restart agent"), names),
        st.tuples(st.just("delete"), names),
        st.tuples(st.just("refuse"), names, st.sampled_from(["gemini", None, 7])),
        st.tuples(st.just("host"), st.booleans()),
        st.tuples(st.just("restart")),
    ],
}
steps = st.sampled_from(
    [step for times, kinds in OFTEN.items() for step in kinds for _ in range(times)]
).flatmap(lambda step: step)
PRELUDE = (("host", True), ("write", "p", True), ("write", "q", True))


@attrs.define
class Known:
    """A policy as the model knows it. `asked` is the command that it waits for."""

    live: bool = False
    version: int = 0
    status: str = "stopped"
    request: str | None = None
    earlier: str = "sp_earlier"
    agent: str | None = None
    failures: int = 0
    quarantined: bool = False
    asked: dict[str, Any] | None = None

    def failed(self) -> None:
        self.status, self.failures, self.asked = "failed", self.failures + 1, None
        self.quarantined = self.failures >= FAILURES

    def stopped(self) -> None:
        self.status, self.agent, self.asked = "stopped", None, None


class Play(Played):
    """A history of two policies and their host."""

    prelude = PRELUDE

    def __init__(self, database: Path) -> None:
        super().__init__(database)
        self.known = {name: Known() for name in NAMES}
        self.online = False

    # -- persons

    async def write(self, name: str, wrapped: bool) -> None:
        known = self.known[name]
        value = {
            "orchestratorId": "h1",
            "provider": "claude",
            "restart": {
                "mode": "always",
                "delayMs": 3_600_000,
                "maxDelayMs": 86_400_000,
                "quarantineAfter": FAILURES,
            },
        }
        answer = await self.api.put(f"/api/spawn-policy/{name}", json={"value": value} if wrapped else value)
        known.live, known.version = True, known.version + 1
        assert (answer.status_code, answer.json()["version"]) == (
            201 if known.version == 1 else 200,
            known.version,
        )
        assert answer.json()["value"] == {**value, "name": name}

    async def refuse(self, name: str, provider: object) -> None:
        value = {"orchestratorId": "h1", "provider": provider}
        assert (await self.api.put(f"/api/spawn-policy/{name}", json=value)).status_code == 400

    async def start(self, name: str) -> None:
        known, answer = self.known[name], await self.post(name, "start")
        if not known.live:
            assert answer.status_code == 404
        elif known.status in ("starting", "running") or not self.online:
            assert answer.status_code == 409, answer.text
        else:
            self.begun(known, self.command(answer, "agent.spawn"))

    async def restart_agent(self, name: str) -> None:
        known, answer = self.known[name], await self.post(name, "restart")
        if not known.live:
            assert answer.status_code == 404
        elif known.request is None:
            assert answer.status_code == (202 if self.online else 409)
            if self.online:
                self.begun(known, self.command(answer, "agent.spawn"))
        else:
            known.asked = self.command(answer, "agent.restart")
            assert known.asked["correlationId"] == known.request
            if known.quarantined:
                known.failures = 0
            known.status, known.quarantined = "starting", False

    async def stop(self, name: str) -> None:
        known, answer = self.known[name], await self.post(name, "stop")
        if known.live:
            self.stopping(known, answer, "manual-stop")
        else:
            assert answer.status_code == 404

    async def delete(self, name: str) -> None:
        known, answer = self.known[name], await self.api.delete(f"/api/spawn-policy/{name}")
        if known.live:
            self.stopping(known, answer, "policy-deleted")
            known.live, known.version = False, known.version + 1
        else:
            assert answer.status_code == 404

    async def post(self, name: str, verb: str) -> httpx2.Response:
        return await self.api.post(f"/api/spawn-policy/{name}/{verb}")

    def command(self, answer: httpx2.Response, kind: str) -> dict[str, Any]:
        assert answer.status_code == 202, answer.text
        command: dict[str, Any] = answer.json()["command"]
        assert (command["type"], command["target"]) == (kind, "orchestrator-h1")
        return command

    def begun(self, known: Known, command: dict[str, Any]) -> None:
        assert command["correlationId"] != known.request
        known.earlier, known.request = known.request or known.earlier, command["correlationId"]
        known.status, known.agent, known.asked = "starting", None, command
        known.failures, known.quarantined = 0, False

    def stopping(self, known: Known, answer: httpx2.Response, reason: str) -> None:
        known.asked = self.command(answer, "agent.shutdown")
        assert (known.asked["params"]["reason"], known.asked.get("correlationId")) == (reason, known.request)
        known.status, known.quarantined = "stopping", False

    # -- the host, and its agents

    async def host(self, there: bool) -> None:
        if there:
            card = {"id": "h1", "hostname": "h", "baseDir": "/base"}
            assert (await self.api.post("/api/orchestrators", json=card)).status_code in (200, 201)
        else:
            offline = {"status": "offline"}
            await self.api.patch("/api/agents/orchestrator-h1/status", json=offline)
        found = (await self.api.get("/api/orchestrators/h1")).json()
        self.online = found["status"] == "online"
        assert self.online or not there

    async def settle(self, name: str, well: bool) -> None:
        """What the host reports of the command that it was asked for last."""
        known = self.known[name]
        if known.asked is None:
            return
        told = {"status": "succeeded"} if well else {"status": "failed", "error": "it would not"}
        path = f"/api/commands/{known.asked['id']}"
        for body in ({"status": "accepted"}, told):
            answer = await self.api.patch(path, json=body)
            assert answer.status_code == 200, answer.text
        kind, known.asked = known.asked["type"], None
        if kind == "agent.shutdown" and well:
            known.stopped()
        elif kind != "agent.shutdown" and not well and known.status == "starting":
            self.fails(known)

    async def register(self, name: str, rightly: bool) -> None:
        known = self.known[name]
        request = known.request if rightly else known.earlier
        if request is None:
            return
        meta = {"policyName": name, "spawnRequestId": request}
        agent = f"{name}-{request[-6:]}"
        assert (await self.api.post("/api/agents", json={"id": agent, "meta": meta})).status_code in (
            200,
            201,
        )
        if request == known.request:
            known.agent = agent
            if known.status != "stopping":
                known.status, known.quarantined = "running", False

    async def leave(self, name: str) -> None:
        """The policy's agent goes offline."""
        known = self.known[name]
        if known.agent is None:
            return
        await self.api.patch(f"/api/agents/{known.agent}/status", json={"status": "offline"})
        if known.status == "running":
            self.fails(known)

    async def exit(self, name: str, rightly: bool) -> None:
        """The host says that a session has ended."""
        known = self.known[name]
        request = known.request if rightly else known.earlier
        gone = {
            "agentId": "whoever",
            "policyName": name,
            "spawnRequestId": request or "sp_none",
            "exitCode": 1,
        }
        roster = {"agents": [], "exitedAgents": [gone]}
        assert (await self.api.patch("/api/orchestrators/h1/agents", json=roster)).status_code == 200
        self.online = True
        if request != known.request or request is None:
            return
        if known.status == "stopping":
            known.stopped()
        elif known.status in ("starting", "running"):
            self.fails(known)

    def fails(self, known: Known) -> None:
        known.failed()
        known.quarantined = known.quarantined and known.live

    # -- looking

    async def compare(self) -> None:
        for name in NAMES:  # what came of the step for the policy is durable then
            await self.fleet.policies[name].ask(Exited("none", "this is nobody's request"))
        self.online = (await self.api.get("/api/orchestrators/h1")).json()["status"] == "online"
        reports = {
            each["state"]["policyName"]: each["state"]
            for each in (await self.api.get("/api/spawn-policies")).json()
        }
        assert set(reports) == {name for name, known in self.known.items() if known.live}
        for name, state in reports.items():
            known = self.known[name]
            seen = (
                state["status"],
                state.get("spawnRequestId"),
                state.get("agentId"),
                state["consecutiveFailures"],
            )
            assert seen == (known.status, known.request, known.agent, known.failures), name
            assert (state.get("quarantined") is True) == known.quarantined

    async def compare_everything(self) -> None:
        await self.compare()
        for name, known in self.known.items():
            versions = (await self.api.get(f"/api/config/spawn-policy/{name}/history?limit=500")).json()
            assert [each["version"] for each in versions] == [*range(known.version, 0, -1)]
            events = [
                event
                for event in await self.told("config.changed")
                if event["subject"] == f"spawn-policy:{name}"
            ]
            assert [event["data"]["version"] for event in events] == [*range(1, known.version + 1)]
        alarms = (await self.api.get("/api/health")).json()["alarms"]
        waiting = sum(known.quarantined for known in self.known.values())
        assert any("waits for a person" in alarm for alarm in alarms) == (waiting > 0)

    async def told(self, kind: str) -> list[dict[str, Any]]:
        sql = "select subject, data from events where type = ? order by id"
        return [
            {"subject": subject, "data": orjson.loads(data)}
            for subject, data in self.fleet.store.rows(sql, kind)
        ]


@pytest.mark.spec("M-185", "M-192", "M-I12", "M-I18", "M-I19", "M-I20", "M-I21", "POL-5", "POL-13", "POL-16")
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(steps, min_size=20, max_size=30))
def test_a_policy_is_what_the_model_says(history: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        trio.run(Play(Path(folder) / "relay.db").run, history, clock=MockClock())
