"""Tokens of hosts and runners: at registration, for an agent about to start, renewed, and minted anew (21.9)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx2
import pytest
import trio
from rawhttp import serving
from tokenkit import as_, make, using

from relay.actors import open_system
from relay.fleet import Fleet, open_fleet
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.upstream import open_upstream
from relay.store import open_store

DAY = 86_400
RUNNER = {
    "role": "provider",
    "sub": "runner:a1",
    "scope": ["message:send", "message:read"],
    "constraints": {"agents": ["a1"], "orchestrators": ["o1"]},
    "ttlSeconds": 3_600,
}


@attrs.define
class World:
    """A server whose clock is set by the test, two hosts, and their tokens."""

    now: float
    api: httpx2.AsyncClient = attrs.field(init=False)
    fleet: Fleet = attrs.field(init=False)
    hosts: dict[str, str] = attrs.field(factory=dict)

    async def remint(self, token: Any, host: str = "o1", by: str | None = None) -> httpx2.Response:
        """What `by`, a host, hears when it shows the token at that of `host`."""
        path = f"/api/orchestrators/{host}/runner-token"
        body = token if isinstance(token, dict) else {"token": token}
        return await self.api.post(path, json=body, headers=using(self.hosts[by or host]))

    async def stands(self, token: str) -> bool:
        answer = await as_(self.api, token, "GET", "/api/messages?for=a1")
        assert answer.status_code in (200, 401)
        return answer.status_code == 200

    async def told(self) -> str:
        """All that the server keeps and tells: records, events, commands."""
        rows = []
        for name in ("activity", "events", "commands", "tokens", "agents", "orchestrators"):
            column = "data" if name == "events" else "record"
            rows += self.fleet.store.rows(f"select {column} from {name}")
        return "\n".join(str(row[0]) for row in rows)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(now=float(int(time.time())))
    async with (
        open_system(wall=lambda: world.now) as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
        open_upstream("root") as upstream,
        httpx2.AsyncClient(headers=using("root"), trust_env=False) as api,
    ):
        world.api, world.fleet = api, fleet
        edge = Edge(fleet, table(), Authenticator({"root": ROOT}), upstream, answer_within=10.0)
        async with serving(Guard(edge)) as port:
            api.base_url = httpx2.URL(f"http://127.0.0.1:{port}")
            for name in ("o1", "o3"):
                card = {"id": name, "hostname": name, "baseDir": "/srv"}
                told = (await api.post("/api/orchestrators", json=card)).json()
                world.hosts[name] = told["runtimeToken"]["token"]
            yield world


@pytest.mark.spec("W-116", "W-117", "ORC-50", "ORC-52", "W-I34", "W-I36", "W-I38")
async def test_an_expired_token_is_minted_anew_once(world: World) -> None:
    old = await make(world.api, **RUNNER)
    world.now = old["record"]["expiresAt"] + 3_600
    answer = await world.remint(old["token"])
    assert answer.status_code == 201, answer.text
    token, record = answer.json()["token"], answer.json()["record"]
    for member in ("sub", "role", "scope", "constraints", "family"):
        assert record[member] == old["record"][member]
    assert (record["profileId"], record["createdBy"]) == ("provider-agent", "orchestrator-remint:o1")
    assert await world.stands(token)
    before = (await world.api.get(f"/api/tokens/{old['record']['jti']}")).json()
    assert (before["revokedAt"] > 0, before["replacedBy"]) == (True, record["jti"])
    assert (await world.remint(old["token"])).status_code == 403
    (note,) = [
        each
        for each in (await world.api.get("/api/activity", params={"view": "security"})).json()
        if each["clientId"].startswith(f"server-runner-token-remint-{record['jti']}-")
    ]
    assert (note["icon"], note["body"], note["meta"]) == ("ti-key", "runner:a1", record["jti"])
    facts = note["metadata"]
    assert (facts["orchestratorId"], facts["jti"], facts["sub"]) == ("o1", record["jti"], "runner:a1")
    assert facts["authSub"] == "orchestrator:o1"


async def test_a_host_vouches_that_an_answer_was_lost(world: World) -> None:
    """What was replaced before is replaced again, and what nobody has had ends; not for others, and not after a revocation."""
    old = await make(world.api, **RUNNER)
    lost = (await world.remint(old["token"])).json()
    wish = {"token": old["token"], "lost": True}
    assert (await world.remint(wish, by="o3")).status_code == 403
    again = await world.remint(wish)
    assert again.status_code == 201, again.text
    assert not await world.stands(lost["token"])
    assert await world.stands(again.json()["token"])
    await world.api.post(f"/api/tokens/{again.json()['record']['jti']}/revoke")
    assert (await world.remint(wish)).status_code == 403


@pytest.mark.spec("W-118", "M-170", "ORC-51")
@pytest.mark.parametrize(
    ("ago", "status"), [(30 * DAY, 201), (30 * DAY + 1, 403), (29 * DAY, 201), (31 * DAY, 403)]
)
async def test_a_token_is_minted_anew_for_thirty_days(world: World, ago: int, status: int) -> None:
    old = await make(world.api, **RUNNER)
    host = (await make(world.api, role="admin"))["token"]
    world.hosts["admin"] = host
    world.now = old["record"]["expiresAt"] + ago
    answer = await world.remint(old["token"], by="admin")
    assert answer.status_code == status, answer.text


@pytest.mark.spec("W-119", "M-170")
async def test_one_that_has_not_expired_is_replaced_too(world: World) -> None:
    for asked in (RUNNER, {**RUNNER, "ttlSeconds": 1_000_000}):
        old = await make(world.api, **asked)
        assert (await world.remint(old["token"])).status_code == 201
        assert not await world.stands(old["token"])
    endless = await make(world.api, **{name: RUNNER[name] for name in RUNNER if name != "ttlSeconds"})
    answer = await world.remint(endless["token"])
    assert (answer.status_code, "expiresAt" in answer.json()["record"]) == (201, True)


@pytest.mark.spec("W-120", "W-I37", "M-170")
async def test_revoked_and_damaged_tokens_are_not_minted_anew(world: World) -> None:
    revoked = await make(world.api, **RUNNER)
    await world.api.post(f"/api/tokens/{revoked['record']['jti']}/revoke")
    token = (await make(world.api, **RUNNER))["token"]
    changed = token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:]
    for shown in (revoked["token"], changed, token.rpartition(".")[0], "x", "a.b.c", token + ".x"):
        answer = await world.remint(shown)
        assert answer.status_code == 403, shown
        assert answer.json()["error"]
    assert await world.stands(token)


@pytest.mark.spec("W-121", "W-122", "W-I38", "M-170")
@pytest.mark.parametrize(
    "change",
    [
        {"role": "integration"},
        {"sub": "agent:x"},
        {"constraints": {"agents": ["a1"], "orchestrators": ["o3"]}},
        {"constraints": {"agents": ["a1"]}},
    ],
)
async def test_tokens_of_others_are_not_minted_anew(world: World, change: dict[str, Any]) -> None:
    old = await make(world.api, **{**RUNNER, **change})
    assert (await world.remint(old["token"])).status_code == 403
    record = (await world.api.get(f"/api/tokens/{old['record']['jti']}")).json()
    assert "revokedAt" not in record


@pytest.mark.spec("W-123", "W-124", "ORC-50")
async def test_host_then_scope_then_body_then_token(world: World) -> None:
    token = (await make(world.api, **RUNNER))["token"]
    assert (await world.remint(token, by="o3")).status_code == 403
    assert (await world.remint({"token": 7}, by="o3")).status_code == 403
    world.hosts["zz"] = "root"
    assert (await world.remint({}, "zz")).status_code == 404
    for body in ({}, {"token": "x" * 8_193}, {"token": None}, {"token": ""}):
        assert (await world.remint(body)).status_code == 400, body
    for content in (b"{", b"[]", b"", b"null"):
        answer = await world.api.post("/api/orchestrators/o1/runner-token", content=content)
        assert answer.status_code == 400, content
    assert await world.stands(token)


@pytest.mark.spec("W-125", "W-I34", "W-I35")
async def test_of_twenty_at_once_one_gets_another(world: World) -> None:
    old = await make(world.api, **RUNNER)
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        answers.append(await world.remint(old["token"]))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert sorted(each.status_code for each in answers) == [201] + [403] * 19
    (made,) = [each.json() for each in answers if each.status_code == 201]
    assert await world.stands(made["token"])
    family = [each for each in (await world.api.get("/api/tokens")).json() if each["sub"] == "runner:a1"]
    assert len([each for each in family if "revokedAt" not in each]) == 1


@pytest.mark.spec("W-126", "W-I39")
async def test_no_token_is_in_what_is_kept_or_told(world: World) -> None:
    texts = [*world.hosts.values()]
    old = await make(world.api, **RUNNER)
    for shown in (old["token"], old["token"], old["token"] + "x", "a.b.c"):
        answer = await world.remint(shown)
        texts += [shown] if answer.status_code == 403 else [shown, answer.json()["token"]]
        assert answer.status_code == 201 or shown not in answer.text
    renewed = await as_(world.api, texts[3], "POST", "/api/runtime-tokens/renew")
    texts.append(renewed.json()["token"])
    kept = await world.told()
    for text in texts:
        assert text == "a.b.c" or text not in kept
        assert text == "a.b.c" or text.rpartition(".")[2] not in kept


@pytest.mark.spec("ORC-3")
async def test_a_host_gets_a_token_for_registering_and_uses_it(world: World) -> None:
    o1 = world.hosts["o1"]
    card = {"id": "o1", "hostname": "o1", "baseDir": "/srv"}
    record = (await world.api.get("/api/tokens", params={"sub": "orchestrator:o1"})).json()[0]
    assert record["constraints"] == {"agents": ["orchestrator-o1"], "orchestrators": ["o1"]}
    assert (await as_(world.api, o1, "POST", "/api/orchestrators/o1/heartbeat")).status_code == 200
    assert (await as_(world.api, o1, "POST", "/api/orchestrators/o3/heartbeat")).status_code == 403
    again = await as_(world.api, o1, "POST", "/api/orchestrators", card)
    assert (again.status_code, "runtimeToken" in again.json()) == (200, False)
    world.now += 16 * DAY
    later = await as_(world.api, o1, "POST", "/api/orchestrators", card)
    fresh = later.json()["runtimeToken"]
    assert fresh["record"]["family"] == record["family"]
    assert (await as_(world.api, o1, "POST", "/api/orchestrators/o1/heartbeat")).status_code == 401
    assert (
        await as_(world.api, fresh["token"], "POST", "/api/orchestrators/o1/heartbeat")
    ).status_code == 200


async def test_registering_anew_as_root_ends_what_was_given_before(world: World) -> None:
    before = world.hosts["o1"]
    card = {"id": "o1", "hostname": "o1", "baseDir": "/srv"}
    after = (await world.api.post("/api/orchestrators", json=card)).json()["runtimeToken"]["token"]
    assert (await as_(world.api, before, "POST", "/api/orchestrators/o1/heartbeat")).status_code == 401
    assert (await as_(world.api, after, "POST", "/api/orchestrators/o1/heartbeat")).status_code == 200


async def test_what_a_host_gets_ends_with_what_it_registered_with(world: World) -> None:
    own = await make(
        world.api,
        role="orchestrator",
        profileId="orchestrator",
        sub="orchestrator:o5",
        constraints={"agents": ["orchestrator-o5"], "orchestrators": ["o5"]},
    )
    card = {"id": "o5", "hostname": "o5", "baseDir": "/srv"}
    given = (await as_(world.api, own["token"], "POST", "/api/orchestrators", card)).json()["runtimeToken"]
    assert given["record"]["family"] == own["record"]["family"]
    await world.api.post(f"/api/tokens/{own['record']['jti']}/revoke")
    assert (
        await as_(world.api, given["token"], "POST", "/api/orchestrators/o5/heartbeat")
    ).status_code == 401


async def test_who_could_not_give_that_much_away_gets_nothing_for_registering(world: World) -> None:
    token = (await make(world.api, scope=["orchestrator:write"]))["token"]
    card = {"id": "o6", "hostname": "o6", "baseDir": "/srv"}
    answer = await as_(world.api, token, "POST", "/api/orchestrators", card)
    assert (answer.status_code, "runtimeToken" in answer.json()) == (201, False)


async def spawned(world: World, **params: Any) -> str:
    """A command to start an agent that o1 has claimed."""
    asked = {"provider": "claude", **params}
    made = (await world.api.post("/api/orchestrators/o1/spawn", json=asked)).json()["command"]["id"]
    claimed = await as_(world.api, world.hosts["o1"], "POST", f"/api/commands/{made}/claim")
    assert claimed.json()["claimed"]
    return str(made)


@pytest.mark.spec("W-I39", "W-I38")
async def test_a_host_gets_a_token_for_the_agent_it_starts(world: World) -> None:
    command = await spawned(world, policyName="p1")
    answer = await as_(
        world.api, world.hosts["o1"], "POST", f"/api/commands/{command}/runner-token", {"agentId": "a1"}
    )
    assert answer.status_code == 201, answer.text
    record = answer.json()["record"]
    assert (record["sub"], record["profileId"]) == ("runner:a1", "provider-agent")
    assert record["constraints"] == {"agents": ["a1"], "orchestrators": ["o1"], "policies": ["p1"]}
    token = answer.json()["token"]
    assert (await as_(world.api, token, "POST", "/api/agents", {"id": "a1"})).status_code == 201
    assert (await as_(world.api, token, "POST", "/api/agents", {"id": "a2"})).status_code == 403
    assert (await as_(world.api, token, "POST", "/api/tokens", {"role": "r"})).status_code == 403
    assert token not in (await world.api.get("/api/commands")).text


async def test_a_runner_may_no_more_than_whoever_asks_for_its_token(world: World) -> None:
    command = await spawned(world)
    few = await make(
        world.api,
        scope=["orchestrator:write", "message:read"],
        constraints={"agents": ["orchestrator-o1"], "orchestrators": ["o1"]},
    )
    path = f"/api/commands/{command}/runner-token"
    answer = await as_(world.api, few["token"], "POST", path, {"agentId": "a1"})
    assert answer.json()["record"]["scope"] == ["message:read"]


async def test_a_host_gets_no_token_for_what_it_has_not_to_start(world: World) -> None:
    command, named = await spawned(world), await spawned(world, agentId="a7")
    pending = (await world.api.post("/api/orchestrators/o1/spawn", json={"provider": "claude"})).json()
    other = {"type": "agent.shutdown", "source": "s", "target": "orchestrator-o1"}
    shutdown = (await world.api.post("/api/commands", json=other)).json()["id"]
    running = {"agents": [{"agentId": "a3", "provider": "claude"}]}
    await world.api.patch("/api/orchestrators/o3/agents", json=running)

    async def ask(command: str, agent: Any, by: str = "o1") -> int:
        path = f"/api/commands/{command}/runner-token"
        return (await as_(world.api, world.hosts[by], "POST", path, {"agentId": agent})).status_code

    assert await ask(command, "a1", by="o3") == 403
    assert await ask(command, None) == 400
    for agent in ("a3", "user", "system", "orchestrator-o3", "orchestrator-o1"):
        assert await ask(command, agent) == 403, agent
    assert await ask(named, "a1") == 403
    assert await ask(named, "a7") == 201
    assert await ask(pending["command"]["id"], "a1") == 409
    assert await ask(shutdown, "a1") == 422
    assert await ask("cmd_none", "a1") == 404
    ended = {"status": "failed", "error": "x", "token": 1}
    assert (await world.api.patch(f"/api/commands/{command}", json=ended)).status_code == 200
    assert await ask(command, "a1") == 409


@pytest.mark.spec("BUS-7")
async def test_a_runner_renews_its_token_and_the_old_one_is_none(world: World) -> None:
    command = await spawned(world)
    path = f"/api/commands/{command}/runner-token"
    first = (await as_(world.api, world.hosts["o1"], "POST", path, {"agentId": "a1"})).json()
    world.now += 20 * 3_600
    answer = await as_(world.api, first["token"], "POST", "/api/runtime-tokens/renew")
    assert answer.status_code == 201, answer.text
    record = answer.json()["record"]
    for member in ("sub", "role", "scope", "constraints", "profileId", "family"):
        assert record[member] == first["record"][member]
    assert record["expiresAt"] == int(world.now) + DAY
    assert not await world.stands(first["token"])
    assert await world.stands(answer.json()["token"])
    assert (await as_(world.api, first["token"], "POST", "/api/runtime-tokens/renew")).status_code == 401


async def test_only_tokens_that_are_meant_to_are_renewed(world: World) -> None:
    assert (await world.api.post("/api/runtime-tokens/renew")).status_code == 403
    plain = (await make(world.api, ttlSeconds=60))["token"]
    assert (await as_(world.api, plain, "POST", "/api/runtime-tokens/renew")).status_code == 409
    expired = await make(world.api, role="provider", profileId="provider-agent")
    world.now += 2 * DAY
    assert (await as_(world.api, expired["token"], "POST", "/api/runtime-tokens/renew")).status_code == 401


async def test_no_successor_outlives_whoever_made_the_first(world: World) -> None:
    maker = (await make(world.api, scope=["*"], ttlSeconds=10 * 3_600))["token"]
    asked = {"role": "provider", "profileId": "provider-agent", "ttlSeconds": 6 * 3_600}
    first = (await as_(world.api, maker, "POST", "/api/tokens", asked)).json()
    world.now += 5 * 3_600
    second = (await as_(world.api, first["token"], "POST", "/api/runtime-tokens/renew")).json()
    assert second["record"]["expiresAt"] == first["record"]["expiresAt"] + 4 * 3_600
    answer = await as_(world.api, second["token"], "POST", "/api/runtime-tokens/renew")
    assert answer.status_code == 409


async def test_the_root_token_is_exchanged_for_that_of_one_agent(world: World) -> None:
    path = "/api/runtime-tokens/interactive-runner"
    admin = (await make(world.api, role="admin"))["token"]
    for body in ({"agentId": "me"}, {}, [1]):
        assert (await as_(world.api, admin, "POST", path, body)).status_code == 403
    assert (await world.api.post(path, json={})).status_code == 400
    answer = await world.api.post(path, json={"agentId": "me"})
    record = answer.json()["record"]
    assert (answer.status_code, record["profileId"], record["sub"]) == (
        201,
        "provider-interactive",
        "runner:me",
    )
    assert record["constraints"] == {"agents": ["me"], "orchestrators": [], "policies": []}


@pytest.mark.spec("M-I34")
async def test_a_revocation_ends_all_of_a_family(world: World) -> None:
    first = await make(world.api, role="provider", profileId="provider-agent", sub="runner:a1")
    second = (await as_(world.api, first["token"], "POST", "/api/runtime-tokens/renew")).json()
    assert await world.stands(second["token"])
    stale = await world.api.post(f"/api/tokens/{first['record']['jti']}/revoke")
    assert (stale.status_code, second["record"]["jti"] in stale.json()["error"]) == (404, True)
    assert (await world.api.post(f"/api/tokens/{second['record']['jti']}/revoke")).status_code == 200
    assert not await world.stands(second["token"])
    assert (await world.remint(second["token"])).status_code == 403
