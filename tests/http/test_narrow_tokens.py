"""What a token for some of the fleet does not reach by detours: ids in bodies, what hangs together, lists, streams, the bus."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from busclient import bus
from test_bus_tokens import Listening
from tokenkit import as_, make

HOST = {"hostname": "h", "baseDir": "/srv"}
POLICY = {"orchestratorId": "h1", "provider": "claude", "cwd": "/srv"}


@pytest.fixture
async def fleet(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """Two agents, two hosts, two policies, two channels."""
    for name in ("a1", "a2"):
        await api.post("/api/agents", json={"id": name, "capabilities": [f"of-{name}"]})
    for name in ("c1", "c2"):
        await api.post("/api/agents", json={"id": name, "kind": "channel"})
    for name in ("h1", "h2"):
        await api.post("/api/orchestrators", json={**HOST, "id": name})
    for name in ("p1", "p2"):
        assert (await api.put(f"/api/spawn-policy/{name}", json=POLICY)).status_code == 201
    return api


async def token(api: httpx2.AsyncClient, **constraints: list[str]) -> str:
    """Of whoever may do everything within these constraints."""
    return str((await make(api, scope=["*"], constraints=constraints))["token"])


async def status(api: httpx2.AsyncClient, token: str, method: str, path: str, body: Any = None) -> int:
    return (await as_(api, token, method, path, body)).status_code


# -- mail and tasks


@pytest.mark.spec("AUTH-5", "MSG-26")
async def test_a_thread_is_not_read_by_whoever_replies_into_it(fleet: httpx2.AsyncClient) -> None:
    a1 = await token(fleet, agents=["a1"])
    secret = {"from": "a2", "to": "user", "body": "between us"}
    number = (await fleet.post("/api/messages", json=secret)).json()["id"]
    reply = {"from": "a1", "to": "a1", "body": "me, too", "replyTo": number}
    assert await status(fleet, a1, "POST", "/api/messages", reply) == 403
    own = {"from": "user", "to": "a1", "body": "for you"}
    asked = (await fleet.post("/api/messages", json=own)).json()["id"]
    answer = {"from": "a1", "to": "user", "body": "thanks", "replyTo": asked}
    assert await status(fleet, a1, "POST", "/api/messages", answer) == 201
    assert await status(fleet, a1, "POST", "/api/messages", {**answer, "replyTo": 99}) == 404
    async with bus(Listening(fleet.base_url.port or 0, a1), **PROVIDER) as socket:
        for message, ok in ((reply, False), (answer, True)):
            assert (await socket.ask("send", messages=[message]))["ok"] is ok


@pytest.mark.spec("AUTH-5")
async def test_nobody_says_of_the_mail_of_others_that_it_was_read(fleet: httpx2.AsyncClient) -> None:
    a1 = await token(fleet, agents=["a1"])
    numbers = {}
    for name in ("a1", "a2"):
        body = {"from": "user", "to": name, "body": "x"}
        numbers[name] = (await fleet.post("/api/messages", json=body)).json()["id"]
    for name, expected in (("a1", 200), ("a2", 403)):
        read = f"/api/messages/{numbers[name]}/read"
        assert await status(fleet, a1, "POST", read, {"agentId": "a1"}) == expected
    async with bus(Listening(fleet.base_url.port or 0, a1), **PROVIDER) as socket:
        for name, ok in (("a1", True), ("a2", False)):
            assert (await socket.ask("read", messageIds=[numbers[name]]))["ok"] is ok
    assert not (await fleet.get(f"/api/messages/{numbers['a2']}")).json().get("readBy")


@pytest.mark.spec("AUTH-5")
async def test_what_an_agent_was_given_stays_its_to_answer(fleet: httpx2.AsyncClient) -> None:
    a1 = await token(fleet, agents=["a1"])
    body = {"from": "user", "to": "cap:of-a1", "body": "x"}
    number = (await fleet.post("/api/messages", json=body)).json()["id"]
    handed = (await as_(fleet, a1, "POST", "/api/agents/a1/deliveries", {})).json()["deliveries"]
    assert [each["message"]["id"] for each in handed] == [number]
    await fleet.post("/api/agents", json={"id": "a1", "capabilities": []})
    answer = {"from": "a1", "to": "user", "body": "done", "replyTo": number}
    assert await status(fleet, a1, "POST", "/api/messages", answer) == 201


PROVIDER = {"role": "provider", "componentId": "c-a1", "agentId": "a1", "instanceId": "i1"}


async def task(api: httpx2.AsyncClient, target: str, key: str) -> int:
    event = {"type": "t", "target": target, "title": f"for {target}", "body": "secret", "dedupeKey": key}
    answer = await api.post("/api/integrations/events", json=event)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["task"]["id"])


@pytest.mark.spec("AUTH-5", "TSK-12")
async def test_tasks_of_others_are_nobody_elses(fleet: httpx2.AsyncClient) -> None:
    a1 = await token(fleet, agents=["a1"])
    own, other, pool = [await task(fleet, target, f"k-{target}") for target in ("a1", "a2", "cap:of-a1")]
    for number, expected in ((own, 200), (other, 403), (pool, 200)):
        assert await status(fleet, a1, "GET", f"/api/tasks/{number}") == expected
        assert await status(fleet, a1, "GET", f"/api/tasks/{number}/events") == expected
    for query in ("", "?limit=2", "?target=a2"):
        listed = (await as_(fleet, a1, "GET", f"/api/tasks{query}")).json()
        assert {each["id"] for each in listed} == (set() if query == "?target=a2" else {own, pool}), query
    assert await status(fleet, a1, "POST", f"/api/tasks/{other}/claim", {"agentId": "a1"}) == 403


@pytest.mark.spec("AUTH-5")
async def test_a_message_to_oneself_is_no_way_to_the_task_of_another(fleet: httpx2.AsyncClient) -> None:
    a1 = await token(fleet, agents=["a1"])
    own, other = await task(fleet, "a1", "k1"), await task(fleet, "a2", "k2")
    message = {"from": "a1", "to": "a1", "body": "x", "claimable": True}
    for number, expected in ((other, 403), (own, 201)):
        body = {**message, "payload": {"taskId": number}}
        assert await status(fleet, a1, "POST", "/api/messages", body) == expected
    assert (await fleet.get(f"/api/tasks/{other}")).json()["status"] == "open"


# -- policies


@pytest.mark.spec("AGT-3", "AUTH-5")
async def test_no_sign_of_life_makes_an_agent_that_of_a_policy(fleet: httpx2.AsyncClient) -> None:
    a1 = await token(fleet, agents=["a1"], policies=["p1"])
    for policy, expected in (("p1", 200), ("p2", 403)):
        body = {"meta": {"policyName": policy, "spawnRequestId": "sp"}}
        assert await status(fleet, a1, "POST", "/api/agents/a1/heartbeat", body) == expected
    async with bus(Listening(fleet.base_url.port or 0, a1), **PROVIDER) as socket:
        for kind in ("heartbeat", "status"):
            for policy, ok in (("p2", False), ("p1", True)):
                assert (await socket.ask(kind, meta={"policyName": policy}))["ok"] is ok, (kind, policy)
    assert (await fleet.get("/api/agents/a1")).json()["meta"]["policyName"] == "p1"


@pytest.mark.spec("AUTH-5")
async def test_lists_show_what_could_be_read_one_by_one(fleet: httpx2.AsyncClient) -> None:
    p1 = await token(fleet, policies=["p1"])
    for path in ("/api/spawn-policies", "/api/spawn-policies/health"):
        assert [each["state"]["policyName"] for each in (await as_(fleet, p1, "GET", path)).json()] == [
            "p1"
        ], path
    for path, expected in (
        ("/api/spawn-policy/p2", 403),
        ("/api/config/spawn-policy/p1", 200),
        ("/api/config/spawn-policy/p2", 403),
        ("/api/config/spawn-policy/p2/history", 403),
    ):
        assert await status(fleet, p1, "GET", path) == expected, path
    entries = (await as_(fleet, p1, "GET", "/api/config/spawn-policy")).json()
    assert [each["key"] for each in entries] == ["p1"]
    c1 = await token(fleet, channels=["c1"])
    for channel in ("c1", "c2"):
        binding = {"channelId": channel, "target": {"type": "agent", "id": "a1"}}
        assert (await fleet.post("/api/channel-bindings", json=binding)).status_code == 201
    assert [each["id"] for each in (await as_(fleet, c1, "GET", "/api/channels")).json()] == ["c1"]
    bound = (await as_(fleet, c1, "GET", "/api/channel-bindings")).json()
    assert [each["channelId"] for each in bound] == ["c1"]


# -- hosts


@pytest.mark.spec("AUTH-5", "CMD-14")
async def test_who_is_for_one_host_is_for_its_commands_only(fleet: httpx2.AsyncClient) -> None:
    h1 = await token(fleet, orchestrators=["h1"])
    made = {}
    for host in ("h1", "h2"):
        body = {"type": "t", "source": "s", "target": f"orchestrator-{host}"}
        made[host] = (await fleet.post("/api/commands", json=body)).json()["id"]
    for host, expected in (("h1", 200), ("h2", 403)):
        for method, path, body in (
            ("GET", "", None),
            ("POST", "/claim", None),
            ("PATCH", "", {"status": "running", "token": 1}),
        ):
            place = f"/api/commands/{made[host]}{path}"
            assert await status(fleet, h1, method, place, body) == expected, (method, place)
    for query, expected in (("", 403), ("?target=orchestrator-h2", 403), ("?target=orchestrator-h1", 200)):
        assert await status(fleet, h1, "GET", f"/api/commands{query}") == expected, query
    for path in ("messages?for=", "events?agentId=", "activity?agentId=", "agents/{}/timeline?x="):
        place = f"/api/{path}orchestrator-h2".format("orchestrator-h2")
        assert await status(fleet, h1, "GET", place) == 403, path
    card = {"id": "orchestrator-h2", "kind": "orchestrator"}
    assert await status(fleet, h1, "POST", "/api/agents", card) == 403
    assert (
        await status(fleet, h1, "PATCH", "/api/agents/orchestrator-h2/status", {"status": "offline"}) == 403
    )
    listening = Listening(fleet.base_url.port or 0, h1)
    async with bus(listening) as socket:
        await socket.say("hello", role="orchestrator", componentId="x", agentId="orchestrator-h2")
        assert (await socket.told("error"))["code"] == "forbidden"
    async with bus(listening, role="orchestrator", componentId="x", agentId="orchestrator-h1") as socket:
        update = {"commandId": made["h2"], "status": "succeeded"}
        assert (await socket.ask("command.update", **update))["ok"] is False
    assert (await fleet.get(f"/api/commands/{made['h2']}")).json()["status"] == "pending"


@pytest.mark.spec("AUTH-5")
@pytest.mark.parametrize(
    "constraints",
    [{"paths": ["/srv/one"]}, {"workspaces": ["w1"]}, {"policies": ["p1"]}, {"channels": ["c1"]}],
)
async def test_a_command_to_a_host_is_no_way_around_what_its_routes_check(
    fleet: httpx2.AsyncClient, constraints: dict[str, list[str]]
) -> None:
    who = await token(fleet, **constraints)
    asked = {"type": "agent.restart", "source": "s", "target": "orchestrator-h1"}
    body = {**asked, "params": {"restartSpawn": {"provider": "claude", "cwd": "/"}}}
    expected = 201 if constraints == {"channels": ["c1"]} else 403
    assert await status(fleet, who, "POST", "/api/commands", body) == expected


# -- what tells of everything


@pytest.mark.spec("AUTH-5", "SSE-3")
@pytest.mark.parametrize(
    "constraints",
    [
        {"orchestrators": ["h1"]},
        {"policies": ["p1"]},
        {"channels": ["c1"]},
        {"targets": ["a1"]},
        {"workspaces": ["w1"]},
        {"paths": ["/srv/one"]},
    ],
)
async def test_nobody_who_is_for_some_of_the_fleet_is_told_of_all_of_it(
    fleet: httpx2.AsyncClient, constraints: dict[str, list[str]]
) -> None:
    who = await token(fleet, **constraints)
    for path in ("/api/events", "/api/activity", "/api/messages", "/api/commands", "/api/pairs"):
        assert await status(fleet, who, "GET", path) == 403, path
    async with bus(Listening(fleet.base_url.port or 0, who)) as socket:
        await socket.say("hello", role="dashboard", componentId="x")
        assert (await socket.told("error"))["code"] == "forbidden"


@pytest.mark.spec("AUTH-5")
async def test_the_logs_of_sessions_are_those_of_the_agents_in_them(fleet: httpx2.AsyncClient) -> None:
    """422: the host could be asked, if it had an API."""
    sessions = [{"agentId": each, "provider": "claude", "sessionName": f"s-{each}"} for each in ("a1", "a2")]
    await fleet.patch("/api/orchestrators/h1/agents", json={"agents": sessions})
    a1, host = await token(fleet, agents=["a1"]), await token(fleet, agents=["orchestrator-h1"])
    for path, of_a1 in (("logs/s-a1", 422), ("logs/s-a2", 403), ("logs/s-a3", 403), ("sessions", 403)):
        place = f"/api/orchestrators/h1/{path}"
        assert await status(fleet, a1, "GET", place) == of_a1, path
        assert await status(fleet, host, "GET", place) == 422, path


@pytest.mark.spec("AUTH-5")
async def test_in_a_pair_nobody_says_more_than_elsewhere(fleet: httpx2.AsyncClient) -> None:
    pair = (await fleet.post("/api/pairs", json={"from": "a1", "to": "a2"})).json()["id"]
    await fleet.post(f"/api/pairs/{pair}/accept", json={"agentId": "a2"})
    said = {"from": "a1", "body": "x"}
    for targets, expected in ((["user"], 403), (["a2"], 201)):
        who = await token(fleet, agents=["a1"], targets=targets)
        assert await status(fleet, who, "POST", f"/api/pairs/{pair}/messages", said) == expected


@pytest.mark.spec("BUS-6")
async def test_the_place_of_a_component_is_that_of_whoever_has_it(fleet: httpx2.AsyncClient) -> None:
    """One that is for another agent neither goes on from there nor moves it."""
    port = fleet.base_url.port or 0
    a1, a2 = await token(fleet, agents=["a1"]), await token(fleet, agents=["a2"])
    async with bus(Listening(port, a1), **PROVIDER) as socket:
        place = socket.welcome["lastEventId"]
        await socket.ask("ack", eventId=place)
    await fleet.post("/api/messages", json={"from": "user", "to": "a1", "body": "missed"})
    stranger = {**PROVIDER, "agentId": "a2", "instanceId": "i2"}
    async with bus(Listening(port, a2), **stranger) as socket:
        assert socket.welcome["resumed"] is False
        await socket.ask("ack", eventId=socket.welcome["lastEventId"])
    async with bus(Listening(port, a1), **PROVIDER) as socket:
        assert (socket.welcome["resumed"], socket.welcome["lastEventId"]) == (True, place)


@pytest.mark.spec("ORC-12", "W-I38")
async def test_a_host_says_nothing_of_what_is_on_another(fleet: httpx2.AsyncClient) -> None:
    """Its roster may name what it likes: workspaces and sessions of another host that is there stay as they are."""
    h1 = await token(fleet, agents=["orchestrator-h1"], orchestrators=["h1"])
    place = {
        "id": "w2",
        "mode": "isolated",
        "repoRoot": "/srv/r",
        "worktreePath": "/srv/w",
        "sourceCwd": "/srv/r",
    }
    session = {"agentId": "a2", "provider": "claude", "workspace": place}
    assert (await fleet.patch("/api/orchestrators/h2/agents", json={"agents": [session]})).status_code == 200
    lie = {
        "agents": [{**session, "agentId": "a1"}],
        "exitedAgents": [{"agentId": "a2", "exitCode": 1}],
    }
    assert await status(fleet, h1, "PATCH", "/api/orchestrators/h1/agents", lie) == 200
    assert (await fleet.get("/api/workspaces/w2")).json()["agentId"] == "a2"
    assert (await fleet.get("/api/agents/a2")).json()["status"] != "offline"
    made = {
        "type": "agent.spawn",
        "source": "s",
        "target": "orchestrator-h1",
        "params": {"orchestratorId": "h2"},
    }
    command = (await fleet.post("/api/commands", json=made)).json()["id"]
    result = {"managedAgents": [{**session, "agentId": "a1"}]}
    ended = {"status": "succeeded", "result": result}
    assert await status(fleet, h1, "PATCH", f"/api/commands/{command}", ended) == 200
    assert (await fleet.get("/api/workspaces/w2")).json()["agentId"] == "a2"
