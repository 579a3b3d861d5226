"""What is asked of hosts and passed on: directories, providers, sessions, versions, logs; and upgrades."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import trio
from hostkit import HostApi, babbling, endless, host_api, saying, silent, slow_body

from relay import __version__
from relay.http.host_tokens import host_token

CARD = {"id": "h1", "hostname": "h", "baseDir": "/base", "version": "0.12.0"}
PLAIN = ("providers", "sessions", "version", "logs/s")


@pytest.fixture
async def host() -> AsyncIterator[HostApi]:
    async with host_api() as host:
        yield host


async def register(api: httpx2.AsyncClient, host: HostApi | None = None, **members: Any) -> dict[str, Any]:
    where = {"apiUrl": host.url} if host is not None else {}
    answer = await api.post("/api/orchestrators", json={**CARD, **where, **members})
    assert answer.status_code in (200, 201), answer.text
    known: dict[str, Any] = answer.json()
    return known


async def goodbye(api: httpx2.AsyncClient) -> None:
    answer = await api.patch("/api/agents/orchestrator-h1/status", json={"status": "offline"})
    assert answer.status_code == 200
    with trio.fail_after(10):
        while (await api.get("/api/orchestrators/h1")).json()["status"] != "offline":
            await trio.sleep(0.01)


@pytest.mark.spec("M-160", "ORC-60")
@pytest.mark.parametrize("what", [*PLAIN, "directories"])
async def test_who_cannot_be_asked(api: httpx2.AsyncClient, host: HostApi, what: str) -> None:
    path = f"/api/orchestrators/h1/{what}"
    assert (await api.get(path)).status_code == 404
    await register(api)
    answer = await api.get(path)
    assert (answer.status_code, "no API" in answer.json()["error"]) == (422, True)
    await goodbye(api)
    assert "no API" in (await api.get(path)).json()["error"], "the address is looked at before the status"
    await register(api, host)
    await goodbye(api)
    answer = await api.get(path)
    assert (answer.status_code, "offline" in answer.json()["error"]) == (422, True)
    assert host.connections == 0


@pytest.mark.spec("ORC-62", "ORC-64", "ORC-65", "ORC-66")
@pytest.mark.parametrize("what", PLAIN)
async def test_what_the_host_says_is_passed_on(
    api: httpx2.AsyncClient, server: Any, host: HostApi, what: str
) -> None:
    token = (await register(api, host))["hostToken"]
    host.behaviour = saying(200, '{"sessions": []}', kind="application/json; charset=utf-8")
    headers = {"Authorization": "Bearer mine", "Cookie": "mine", "Forwarded": "for=me"}
    answer = await api.get(f"/api/orchestrators/h1/{what}?refresh=1&a=%20b&a=", headers=headers)
    assert (answer.status_code, answer.text) == (200, '{"sessions": []}')
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    [asked] = host.asked
    assert (asked.method, asked.target) == ("GET", f"/api/{what}?refresh=1&a=%20b&a=")
    assert asked.headers["x-agent-relay-token"] == token
    assert not {"authorization", "cookie", "forwarded"} & set(asked.headers)
    assert server.token not in str(asked)


@pytest.mark.spec("M-162", "ORC-64")
async def test_an_error_of_the_host_is_passed_on_too(api: httpx2.AsyncClient, host: HostApi) -> None:
    await register(api, host)
    host.behaviour = saying(418, "short and stout", kind="text/plain")
    answer = await api.get("/api/orchestrators/h1/version")
    assert (answer.status_code, answer.text) == (418, "short and stout")
    assert answer.headers["content-type"] == "text/plain"
    host.behaviour = saying(200, "[1]", kind=None)
    assert (await api.get("/api/orchestrators/h1/version")).headers["content-type"] == "application/json"


async def test_a_page_of_the_host_may_do_nothing_in_relays_name(
    api: httpx2.AsyncClient, host: HostApi
) -> None:
    await register(api, host)
    host.behaviour = saying(200, "<script>steal()</script>", kind="text/html", more="set-cookie: a=b\r\n")
    answer = await api.get("/api/orchestrators/h1/version")
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


@pytest.mark.spec("M-164", "ORC-62", "RTE-3")
async def test_the_name_of_a_session_stays_one_segment(api: httpx2.AsyncClient, host: HostApi) -> None:
    await register(api, host)
    await api.get("/api/orchestrators/h1/logs/s%2F1?lines=5")
    await api.get("/api/orchestrators/h1/logs/%2E%2E")
    await api.get("/api/orchestrators/h1/logs/a%3Fb%23c%0d%0ax")
    assert [asked.target for asked in host.asked] == [
        "/api/logs/s%2F1?lines=5",
        "/api/logs/%2E%2E",
        "/api/logs/a%3Fb%23c%0D%0Ax",
    ]


@pytest.mark.spec("M-161", "ORC-61", "ORC-62", "M-I44")
@pytest.mark.parametrize("behaviour", [silent, slow_body])
async def test_a_host_that_takes_too_long_is_502(
    api: httpx2.AsyncClient, host: HostApi, monkeypatch: pytest.MonkeyPatch, behaviour: Any
) -> None:
    from relay.http import hosts, upstream

    assert (hosts.DIRECTORIES_WITHIN, upstream.WITHIN) == (5.0, 10.0)
    monkeypatch.setattr("relay.http.upstream.WITHIN", 0.2)
    monkeypatch.setattr("relay.http.hosts.DIRECTORIES_WITHIN", 0.1)
    await register(api, host)
    host.behaviour = behaviour
    for what, limit in (("directories", "0.1"), ("version", "0.2")):
        answer = await api.get(f"/api/orchestrators/h1/{what}")
        assert (answer.status_code, f"within {limit} s" in answer.json()["error"]) == (502, True)


@pytest.mark.spec("M-I44")
async def test_while_a_host_is_waited_for_its_actor_and_everybody_else_go_on(
    api: httpx2.AsyncClient, host: HostApi
) -> None:
    await register(api, host)
    host.behaviour = silent
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api.get, "/api/orchestrators/h1/version")
        with trio.fail_after(10):
            while not host.asked:
                await trio.sleep(0.01)
            assert (await api.post("/api/orchestrators/h1/heartbeat", json={})).status_code == 200
            spawn = {"provider": "claude", "cwd": "/base"}
            assert (await api.post("/api/orchestrators/h1/spawn", json=spawn)).status_code == 202
        nursery.cancel_scope.cancel()


@pytest.mark.spec("ORC-62")
async def test_a_host_that_is_not_there_or_makes_no_sense_is_502(
    api: httpx2.AsyncClient, host: HostApi
) -> None:
    await register(api, host, apiUrl="http://127.0.0.1:1")
    assert (await api.get("/api/orchestrators/h1/sessions")).status_code == 502
    await register(api, host)
    for behaviour in (babbling, endless, saying(200, "x", more="content-encoding: gzip\r\n")):
        host.behaviour = behaviour
        answer = await api.get("/api/orchestrators/h1/sessions")
        assert (answer.status_code, list(answer.json())) == (502, ["error"])


@pytest.mark.spec("ORC-61", "ORC-66", "M-163")
async def test_directories_are_json_or_502(api: httpx2.AsyncClient, host: HostApi) -> None:
    await register(api, host)
    listing = '{"path": "/base/a b", "baseDir": "/base", "entries": []}'
    host.behaviour = saying(200, listing, kind="text/plain")
    path = "/api/orchestrators/h1/directories"
    answer = await api.get(path, params={"path": "/base/a b&c", "secret": "x"})
    assert (answer.status_code, answer.text) == (200, listing)
    assert answer.headers["content-type"] == "application/json"
    await api.get(path, params={"path": ""})
    await api.get(path)
    assert [each.target for each in host.asked] == [
        "/api/directories?path=%2Fbase%2Fa%20b%26c",
        "/api/directories",
        "/api/directories",
    ]
    host.behaviour = saying(400, '{"error": "no"}')
    refused = await api.get(path)
    assert (refused.status_code, refused.json()) == (400, {"error": "no"})
    for behaviour in (saying(200, "<html>"), saying(200, "data: {}\n\n", kind="text/event-stream")):
        host.behaviour = behaviour
        assert (await api.get(path)).status_code == 502


async def test_a_directory_is_made_by_the_host(api: httpx2.AsyncClient, host: HostApi) -> None:
    await register(api, host)
    host.behaviour = saying(201, '{"path": "/base/new"}')
    path = "/api/orchestrators/h1/directories"
    answer = await api.post(path, json={"path": "/base", "name": "new"})
    assert (answer.status_code, answer.json()) == (201, {"path": "/base/new"})
    [asked] = host.asked
    assert (asked.method, asked.target, asked.body) == (
        "POST",
        "/api/directories",
        b'{"path":"/base","name":"new"}',
    )
    for body in (b"[]", b"{", b""):
        assert (await api.post(path, content=body)).status_code == 400
    assert len(host.asked) == 1


@pytest.mark.spec("M-165", "ORC-63", "O-44", "H-09")
async def test_a_stream_of_the_host_is_passed_on_as_it_comes(
    api: httpx2.AsyncClient, host: HostApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts come when they are sent, long after the limit of the call is over."""
    send, heard = trio.open_memory_channel[bytes](1)
    gone = trio.Event()

    async def streaming(stream: trio.abc.Stream) -> None:
        await stream.send_all(
            b"HTTP/1.1 203 x\r\ncontent-type: text/event-stream; x=y\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        async for part in heard:
            await stream.send_all(b"%x\r\n%s\r\n" % (len(part), part))
        assert await stream.receive_some() == b""
        gone.set()

    monkeypatch.setattr("relay.http.upstream.WITHIN", 0.3)
    await register(api, host)
    host.behaviour = streaming
    await send.send(b"data: 0\n\n")
    async with api.stream("GET", "/api/orchestrators/h1/logs/s?stream=1") as answer:
        assert answer.status_code == 203
        assert answer.headers["content-type"] == "text/event-stream; x=y"
        parts = answer.aiter_raw()
        assert await anext(parts) == b"data: 0\n\n"
        for text in (b"data: 1\n\n", b"data: 2\n\n"):
            await send.send(text)
            assert await anext(parts) == text
        await trio.sleep(0.4)
        await send.send(b"late\n\n")
        assert await anext(parts) == b"late\n\n"
    await send.aclose()
    with trio.fail_after(10):
        await gone.wait()


async def test_a_stream_ends_with_its_host(api: httpx2.AsyncClient, host: HostApi) -> None:
    async def cut(stream: trio.abc.Stream) -> None:
        head = b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        await stream.send_all(head + b"3\r\nx\n\n\r\n")

    await register(api, host)
    host.behaviour = cut
    async with api.stream("GET", "/api/orchestrators/h1/logs/s") as answer:
        assert [part async for part in answer.aiter_raw()] == [b"x\n\n"]


async def test_hosts_are_told_tokens_of_their_own(api: httpx2.AsyncClient, server: Any) -> None:
    first = await register(api)
    second = await register(api, id="h2")
    again = await register(api)
    assert first["hostToken"] == again["hostToken"] != second["hostToken"]
    assert first["hostToken"] == host_token((server.home / "host-key").read_text().strip(), "h1")
    assert (server.home / "host-key").stat().st_mode & 0o077 == 0
    for path in ("/api/orchestrators", "/api/orchestrators/h1", "/api/activity", "/api/agents"):
        assert first["hostToken"] not in (await api.get(path)).text
    used = await api.get("/api/orchestrators", headers={"X-Agent-Relay-Token": first["hostToken"]})
    assert used.status_code == 401, "it opens nothing of relay's"


# -- upgrades


async def upgrade(api: httpx2.AsyncClient, host: str = "h1", **body: Any) -> httpx2.Response:
    return await api.post(f"/api/orchestrators/{host}/actions", json={"action": "upgrade", **body})


@pytest.mark.spec("M-167", "W-36", "W-37", "W-38", "W-39", "W-40", "W-42", "ORC-43", "W-I33")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"targetVersion": "0.13.0"}, 202),
        ({"targetVersion": "0.12.0-rc.1"}, 202),
        ({"targetVersion": "0.11.9"}, 409),
        ({"targetVersion": "0.11.9", "force": "true"}, 409),
        ({"targetVersion": "0.11.9", "force": True}, 202),
        ({"targetVersion": "0.13.0", "providers": ["codex", "bogus"]}, 202),
        ({"targetVersion": "0.13.0", "providers": ["bogus"]}, 400),
        ({"targetVersion": "0.13.0", "providers": []}, 400),
        ({"targetVersion": "0.13.0", "providers": "codex"}, 400),
        ({"targetVersion": "0.13.0", "providers": [1]}, 400),
        ({"targetVersion": "v0.13.0"}, 400),
        ({"targetVersion": "0.13"}, 400),
        ({"targetVersion": "0.13.0+x"}, 400),
        ({"targetVersion": "0.13.0; rm -rf /"}, 400),
        ({"targetVersion": "٠.13.0"}, 400),
        ({"targetVersion": "latest"}, 400),
        ({"targetVersion": 13}, 400),
        ({"targetVersion": "0.13.0-" + "x" * 80}, 400),
    ],
)
async def test_upgrades_are_asked_for(api: httpx2.AsyncClient, body: Any, status: int) -> None:
    await register(api)
    answer = await upgrade(api, **body)
    assert answer.status_code == status, answer.text
    host = (await api.get("/api/orchestrators/h1")).json()
    if status != 202:
        assert "upgrade" not in host
        assert (await api.get("/api/commands")).json() == []
        return
    made = answer.json()
    assert (made["ok"], made["action"], made["targetVersion"]) == (True, "upgrade", body["targetVersion"])
    assert made["command"]["ttlMs"] == 600_000
    assert (host["upgrade"]["status"], host["upgrade"]["fromVersion"]) == ("pending", "0.12.0")
    assert host["upgrade"]["providers"] == [
        part for part in body.get("providers", ["orchestrator"]) if part != "bogus"
    ]
    assert host["upgrade"]["requestedAt"] == made["command"]["params"]["requestedAt"]


@pytest.mark.spec("W-37")
async def test_without_a_version_that_of_the_server_is_meant(api: httpx2.AsyncClient) -> None:
    await register(api, version=None)
    answer = await upgrade(api)
    assert (answer.status_code, answer.json()["targetVersion"]) == (202, __version__)


@pytest.mark.spec("W-43", "W-51", "ORC-40")
async def test_the_scope_is_checked_after_host_and_action_and_before_the_members(
    limited_to: Callable[..., Any],
) -> None:
    async with limited_to("orchestrator:read") as (root, nobody):
        await register(root)
        assert (await upgrade(nobody, "h9")).status_code == 404
        path = "/api/orchestrators/h1/actions"
        for body in ([], {}, {"action": "reboot"}, {"action": ["upgrade"]}):
            assert (await nobody.post(path, json=body)).status_code == 400
        assert (await upgrade(nobody, targetVersion="latest")).status_code == 403
        assert (await upgrade(nobody)).status_code == 403
        assert (await nobody.post(path, json={"action": "restart"})).status_code == 403
        assert "upgrade" not in (await root.get("/api/orchestrators/h1")).json()
        assert (await root.get("/api/commands")).json() == []


@pytest.mark.spec("M-168", "W-44", "W-49")
async def test_the_host_settles_it_by_its_version(api: httpx2.AsyncClient) -> None:
    await register(api)
    command = (await upgrade(api, targetVersion="0.13.0")).json()["command"]
    path = "/api/orchestrators/h1/heartbeat"
    for _ in range(2):
        assert (await api.post(path, json={"version": "0.13.0"})).json() == {"ok": True}
        settled = (await api.get("/api/orchestrators/h1")).json()["upgrade"]
        done = (await api.get(f"/api/commands/{command['id']}")).json()
        assert (settled["status"], done["status"]) == ("succeeded", "succeeded")
        assert done["result"] == {"version": "0.13.0", "fromVersion": "0.12.0"}
    assert (await api.post("/api/orchestrators/h9/heartbeat", json={})).status_code == 404


async def test_a_host_tells_what_it_is_made_of(api: httpx2.AsyncClient) -> None:
    told = {
        "package": {"name": "relay", "version": "1"},
        "contracts": {"orchestratorProtocol": 1},
        "capabilities": {"selfUpgrade": True},
        "providerStatus": [{"name": "claude", "available": True}],
        "providerCatalog": [{"name": "claude", "models": ["m"]}],
    }
    known = await register(api, **told)
    assert {name: known[name] for name in told} == told
    beat = {"package": {"name": "relay", "version": "2"}, "providers": ["codex"], "providerStatus": []}
    assert (await api.post("/api/orchestrators/h1/heartbeat", json=beat)).status_code == 200
    known = (await api.get("/api/orchestrators/h1")).json()
    assert known["package"] == {"name": "relay", "version": "2"}
    assert (known["providers"], known["providerStatus"]) == (["codex"], [])
    assert known["capabilities"] == {"selfUpgrade": True}, "what is not said keeps its value"
    for wrong in ({"package": []}, {"providerStatus": {}}, {"providerCatalog": [1]}, {"providers": ["x"]}):
        answer = await api.post("/api/orchestrators/h1/heartbeat", json=wrong)
        assert (answer.status_code, next(iter(wrong)) in answer.json()["error"]) == (400, True)


@pytest.mark.spec("ORC-10", "ORC-11")
async def test_the_roster_has_all_its_members(api: httpx2.AsyncClient) -> None:
    await register(api)
    agent = {
        "agentId": "a1",
        "provider": "claude",
        "model": "m",
        "effort": "high",
        "profile": "p",
        "workspaceMode": "isolated",
        "lifecycle": "persistent",
        "sessionName": "s",
        "tmuxSession": "s",
        "supervisor": "systemd",
        "systemdUnit": "u.service",
        "terminalSession": "t",
        "terminalAvailable": True,
        "cwd": "/base",
        "label": "l",
        "approvalMode": "guarded",
        "policyName": "P",
        "spawnRequestId": "r1",
        "automationRunId": "run1",
        "pid": 7,
        "startedAt": 1_700_000_000_000,
    }
    waiting = {
        "provider": "codex",
        "spawnRequestId": "r2",
        "reason": "memory",
        "freeMemMb": 10,
        "queuedAt": 5,
    }
    path = "/api/orchestrators/h1/agents"
    answer = await api.patch(path, json={"agents": [agent], "queuedSpawns": [waiting]})
    assert answer.json()["managedAgents"] == [agent]
    assert answer.json()["queuedSpawns"] == [waiting]
    assert (await api.patch(path, json={"agents": [agent]})).json()["queuedSpawns"] == []


# -- tokens that are for some hosts only


async def token(api: httpx2.AsyncClient, *scope: str, **constraints: list[str]) -> dict[str, str]:
    made = await api.post(
        "/api/tokens", json={"role": "operator", "scope": list(scope), "constraints": constraints}
    )
    assert made.status_code == 201, made.text
    return {"X-Agent-Relay-Token": made.json()["token"]}


@pytest.mark.spec("W-51")
async def test_who_is_for_another_host_neither_upgrades_nor_asks_this_one(
    api: httpx2.AsyncClient, host: HostApi
) -> None:
    await register(api, host)
    await register(api, host, id="h3")
    headers = await token(api, "command:write", "orchestrator:read", orchestrators=["h3"])
    body = {"action": "upgrade", "targetVersion": "0.13.0"}
    refused = await api.post("/api/orchestrators/h1/actions", json=body, headers=headers)
    assert refused.status_code == 403
    assert "upgrade" not in (await api.get("/api/orchestrators/h1")).json()
    for what in (*PLAIN, "directories"):
        answer = await api.get(f"/api/orchestrators/h1/{what}", headers=headers)
        assert answer.status_code == 403, what
    assert host.connections == 0
    assert (await api.post("/api/orchestrators/h3/actions", json=body, headers=headers)).status_code == 202
    assert (await api.get("/api/orchestrators/h3/version", headers=headers)).status_code == 200


async def test_who_is_for_some_paths_sees_and_makes_no_folders_elsewhere(
    api: httpx2.AsyncClient, host: HostApi
) -> None:
    await register(api, host)
    headers = await token(api, "orchestrator:read", "orchestrator:write", paths=["/base/mine"])
    path = "/api/orchestrators/h1/directories"
    for asked, status in (
        ("/base/mine", 200),
        ("mine/below", 200),
        ("/base", 403),
        ("", 403),
        ("/base/mine/../yours", 403),
        ("mine/../yours", 403),
    ):
        answer = await api.get(path, params={"path": asked}, headers=headers)
        assert answer.status_code == status, asked
    for asked, status in (("/base/mine", 200), ("/base", 403), (7, 403)):
        answer = await api.post(path, json={"path": asked, "name": "new"}, headers=headers)
        assert answer.status_code == status, asked


async def test_no_token_of_an_agent_answers_questions_or_opens_terminals(api: httpx2.AsyncClient) -> None:
    """Whatever else it may do to that agent."""
    await api.post("/api/agents", json={"id": "a1", "meta": {"runnerManaged": True}})
    headers = await token(api, "agent:write", agents=["a1"])
    body = {"approvalId": "q1", "decision": "approve"}
    answer = await api.post("/api/agents/a1/permission-decision", json=body, headers=headers)
    assert answer.status_code == 403
    assert (await api.post("/api/agents/a1/terminal-session", headers=headers)).status_code == 403
    assert (await api.delete("/api/agents/a1/terminal-session/s", headers=headers)).status_code == 403
    assert (await api.get("/api/commands")).json() == []
    person = await token(api, "agent:write", agents=["a1", "user"])
    answer = await api.post("/api/agents/a1/permission-decision", json=body, headers=person)
    assert answer.status_code == 202
