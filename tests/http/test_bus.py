"""`GET /bus` on a whole server: what is said and told, and how connections begin and end."""

from __future__ import annotations

import socket as socket_module
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx2
import orjson
import pytest
import trio
import trio.testing
from busclient import Closed, Socket, bus, hello, upgrade
from rawhttp import Connection, connect, serving
from test_api_queue import with_fleet
from wsproto.events import CloseConnection, TextMessage

from relay.actors import open_system
from relay.fleet import open_fleet
from relay.fleet.bus_sessions import Save
from relay.http import Settings, feed, lean, serve
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator, Principal
from relay.http.bus import _bus, connection
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.hosting import Hosting
from relay.http.upstream import open_upstream
from relay.store import Owner, Write, open_store


class Server:
    """A running server, and how to stop it."""

    def __init__(self, ready: Any, stop: trio.Event) -> None:
        self.base_url, self.token = ready.base_url, ready.token
        self.port = int(ready.base_url.rpartition(":")[2])
        self.stop = stop
        self.ended = trio.Event()


@asynccontextmanager
async def running(home: Path, **hosting: Any) -> AsyncIterator[Server]:
    stop, ended = trio.Event(), trio.Event()
    settings = Settings(database=None, home=home, port=0, hosting=Hosting(**hosting))

    async def run(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await serve(settings, stop=stop, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        server = Server(await nursery.start(run), stop)
        server.ended = ended
        yield server
        stop.set()


@attrs.frozen
class Listening:
    """Where a client of the bus connects to, and with which token."""

    port: int | None
    token: str

    @classmethod
    def at(cls, api: httpx2.AsyncClient, token: str) -> Listening:
        return cls(api.base_url.port, token)


PROVIDER = {"role": "provider", "componentId": "runner-1", "agentId": "w", "instanceId": "i1"}


def message(**members: Any) -> dict[str, Any]:
    return {"from": "a1", "to": "w", "body": "x", **members}


@pytest.mark.spec("BUS-1", "BUS-2", "BUS-4", "O-61")
async def test_a_hello_is_answered_and_registers_the_agent(server: Any, api: httpx2.AsyncClient) -> None:
    given = {
        "machine": "m1",
        "tags": ["t"],
        "capabilities": ["c"],
        "label": "L",
        "meta": {"k": 1},
        "status": "idle",
    }
    async with bus(server, **PROVIDER, **given) as socket:
        welcome = socket.welcome
        assert (welcome["protocol"], welcome["agentId"], welcome["heartbeatMs"]) == (1, "w", 30_000)
        assert not welcome["resumed"]
        assert "reset" not in welcome
        agent = (await api.get("/api/agents/w")).json()
        assert agent == {**agent, **given, "kind": "provider", "instanceId": "i1"}
        assert (await socket.events(1))[0]["event"] == "agent.status"
        await api.post("/api/messages", json=message())
        (told,) = await socket.events(1)
        assert (told["type"], told["message"]["body"]) == ("message.new", "x")


# -- how connections begin


async def test_the_token_may_come_with_the_hello(server: Any) -> None:
    async with bus(server, token=False) as socket:
        assert (await hello(socket, token=server.token))["type"] == "welcome"


@pytest.mark.parametrize("given", [{}, {"token": "wrong"}, {"token": "wröng"}])
async def test_a_hello_without_a_valid_token_ends_the_connection(server: Any, given: dict[str, str]) -> None:
    async with bus(server, token=False) as socket:
        await socket.say("hello", role="dashboard", componentId="c", **given)
        assert (await socket.frame())["code"] == "unauthorized"
        assert (await socket.close()).code == 4401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x_agent_relay_token": "wrong"}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"sec_websocket_version": "12"}, 400),
    ],
)
async def test_who_may_not_connect_is_told_so_as_in_http(
    server: Any, headers: dict[str, str], status: int
) -> None:
    async with connect(server.port) as client:
        await client.send(upgrade(**headers))
        answer = await client.answer()
        assert answer.status == status
        assert answer.error


async def test_there_is_no_other_websocket(server: Any) -> None:
    async with connect(server.port) as client:
        await client.send(upgrade("/busses", x_agent_relay_token=server.token))
        assert (await client.answer()).status in (403, 404)


async def test_the_first_frame_must_be_a_hello(server: Any) -> None:
    async with bus(server) as socket:
        await socket.say("ping", id="1")
        assert (await socket.frame()) == {
            "type": "error", "code": "invalid", "error": "the first frame must be a hello", "id": "1",
        }  # fmt: skip
        assert await hello(socket)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"role": "king"}, "role"),
        ({"role": "provider"}, "agentId"),
        ({"componentId": " "}, "componentId"),
        ({"componentId": "x" * 241}, "componentId"),
        ({"instanceId": "x" * 161}, "instanceId"),
        ({"protocol": 2}, "protocol"),
        ({"after": -1}, "after"),
        ({"meta": {"k": "x" * 65_536}}, "meta"),
        ({"tags": "t"}, "tags"),
    ],
)
async def test_a_hello_that_is_wrong_is_refused_with_a_reason_and_may_be_said_again(
    server: Any, members: dict[str, Any], named: str
) -> None:
    async with bus(server) as socket:
        await socket.say("hello", **{"role": "dashboard", "componentId": "c", **members})
        error = await socket.frame()
        assert (error["type"], error["code"]) == ("error", "invalid")
        assert named in error["error"]
        longest = {"componentId": "x" * 240, "instanceId": "x" * 160}
        assert await hello(socket, **longest)


async def test_a_second_hello_is_refused(server: Any) -> None:
    async with bus(server, **PROVIDER) as socket:
        await socket.say("hello", **PROVIDER)
        assert (await socket.told("error"))["code"] == "conflict"


async def test_who_says_no_hello_is_cut_off(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELLO_WITHIN", 0.05)
    async with bus(server) as socket:
        assert (await socket.close()).told == (4408, "there was no hello in time")


async def test_connections_are_counted_and_forgotten(server: Any, api: httpx2.AsyncClient) -> None:
    async def count() -> int:
        return int((await api.get("/api/health")).json()["counts"]["busConnections"])

    async with bus(server, **PROVIDER), bus(server, role="dashboard", componentId="d"):
        assert await count() == 2
    with trio.fail_after(10):
        while await count():
            await trio.lowlevel.checkpoint()


async def test_there_are_no_more_connections_than_may_be(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bus, "MOST_CONNECTIONS", 1)
    async with bus(server), connect(server.port) as client:
        await client.send(upgrade())
        answer = await client.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")


# -- what a client may say


async def test_those_without_a_token_do_not_keep_out_those_who_have_one(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bus, "MOST_STRANGERS", 1)
    async with bus(server, token=False) as stranger:
        async with bus(server, role="dashboard"), connect(server.port) as refused:
            await refused.send(upgrade())
            assert b" 503 " in await refused.until(b"\r\n\r\n")
        await hello(stranger, token=server.token)
        async with bus(server, token=False) as other:
            await hello(other, token=server.token)


@pytest.mark.parametrize(("size", "waiting"), [(1, 16), (400_000, 2), (2_000_000, 1)])
async def test_what_waits_to_be_read_is_bounded_in_frames_and_bytes(size: int, waiting: int) -> None:
    inbox = lean._Inbox()

    async def put() -> None:
        for _ in range(20):
            await inbox.put({"type": "websocket.receive", "bytes": None, "text": "x" * size})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        await trio.testing.wait_all_tasks_blocked()
        assert len(inbox._messages) == waiting
        for _ in range(20):
            await inbox.receive()
        assert not inbox._bytes


@pytest.mark.spec("MSG-13", "M-I1")
async def test_the_messages_of_a_frame_are_sent_each_for_itself(server: Any, api: httpx2.AsyncClient) -> None:
    await api.post("/api/agents", json={"id": "gone", "status": "offline"})
    async with bus(server, **PROVIDER) as socket:
        asked = [
            message(to="a2", body="1", idempotencyKey="k"),
            message(to="a2", body=""),
            message(to="a2", body="1 again", idempotencyKey="k"),
            message(to="gone"),
            "no message",
            message(to="a2", body="2"),
        ]
        result = await socket.ask("send", messages=asked)
        assert not result["ok"]
        outcomes = result["results"]
        assert [outcome["status"] for outcome in outcomes] == [201, 400, 200, 422, 400, 201]
        assert [outcome["ok"] for outcome in outcomes] == [True, False, True, False, False, True]
        assert outcomes[0]["message"]["id"] == outcomes[2]["message"]["id"]
        assert "body" in outcomes[1]["error"]
        assert outcomes[3]["error"] == "gone is offline"
        stored = (await api.get("/api/messages", params={"for": "a2"})).json()
        assert [each["body"] for each in stored] == ["1", "2"] if stored else True
        for outcome in (outcomes[0], outcomes[5]):
            number = outcome["message"]["id"]
            assert (await api.get(f"/api/messages/{number}")).json() == {**outcome["message"], "readBy": []}


async def test_frames_that_are_here_together_are_answered_in_order(server: Any) -> None:
    async with bus(server, **PROVIDER) as socket:
        whole = b""
        for number in range(40):
            frame = {"type": "send", "id": str(number), "messages": [message(to="a2", body=str(number))]}
            whole += socket.protocol.send(TextMessage(data=orjson.dumps(frame).decode()))
            whole += socket.protocol.send(
                TextMessage(data=orjson.dumps({"type": "ping", "id": str(number)}).decode())
            )
        await socket.raw(whole)
        ids = []
        for number in range(40):
            result = await socket.told("result")
            assert result["id"] == str(number)
            ids.append(result["results"][0]["message"]["id"])
            assert (await socket.told("pong"))["id"] == str(number)
        assert ids == sorted(ids)


async def test_messages_of_several_frames_are_stored_together(
    server: Any, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bus(server, **PROVIDER) as socket:
        texts = [
            orjson.dumps({"type": "send", "id": str(number), "messages": [message(to="a2")] * 50}).decode()
            for number in range(25)
        ]
        await socket.raw(b"".join(socket.protocol.send(TextMessage(data=text)) for text in texts))
        results = [await socket.told("result") for _ in texts]
        assert [result["id"] for result in results] == [str(number) for number in range(25)]
        assert all(result["ok"] and len(result["results"]) == 50 for result in results)


@pytest.mark.parametrize(("count", "fits"), [(0, True), (100, True), (101, False)])
async def test_a_frame_has_at_most_100_messages(server: Any, count: int, fits: bool) -> None:
    async with bus(server, **PROVIDER) as socket:
        await socket.say("send", id="s", messages=[message(to="a2")] * count)
        while (frame := await socket.frame())["type"] not in ("result", "error"):
            pass
        assert (frame["type"], frame["id"]) == ("result" if fits else "error", "s")
        assert fits or "messages" in frame["error"]


@pytest.mark.spec("M-I3", "MSG-27", "MSG-28")
async def test_messages_are_claimed_renewed_and_read(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER) as socket:
        numbers = [
            (await api.post("/api/messages", json=message(to=to, claimable=to == "w"))).json()["id"]
            for to in ("w", "w", "a2")
        ]
        await api.post("/api/agents", json={"id": "v", "tags": []})
        claimed = await socket.ask("claim", messageIds=[*numbers, 999_999])
        assert [outcome["status"] for outcome in claimed["results"]] == [200, 200, 409, 404]
        assert claimed["results"][0]["claimExpiresAt"] > 0
        held = (await api.get(f"/api/messages/{numbers[0]}")).json()
        assert held["claimedBy"] == "w"
        renewed = await socket.ask("renew", messageIds=numbers)
        assert [outcome["status"] for outcome in renewed["results"]] == [200, 200, 409]
        other = await socket.ask("renew", messageIds=numbers[:1], agentId="v")
        assert [outcome["status"] for outcome in other["results"]] == [409]
        read = await socket.ask("read", messageIds=[numbers[0], 999_999])
        assert [outcome["status"] for outcome in read["results"]] == [200, 404]
        assert (await api.get(f"/api/messages/{numbers[0]}")).json()["readBy"] == ["w"]


async def test_a_dashboard_says_which_agent_it_means(server: Any, api: httpx2.AsyncClient) -> None:
    number = (await api.post("/api/messages", json=message())).json()["id"]
    async with bus(server, role="dashboard", componentId="d") as socket:
        refused = await socket.ask("read", messageIds=[number])
        assert refused["results"][0]["status"] == 400
        assert "agentId" in refused["results"][0]["error"]
        assert (await socket.ask("read", messageIds=[number], agentId="user"))["ok"]
        assert (await socket.ask("heartbeat"))["ok"]


@pytest.mark.spec("BUS-3", "BUS-5")
async def test_a_status_is_one_change_of_the_agent(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER, ready=True, status="busy", meta={"a": 1}) as socket:
        await socket.events(1)
        await socket.say("status", agentStatus="idle", ready=False, meta={"lifecycleAction": "shutting-down"})
        (told,) = await socket.events(1)
        agent = told["data"]
        assert (agent["status"], agent["ready"]) == ("idle", False)
        assert agent["meta"] == {"a": 1, "lifecycleAction": "shutting-down"}
        await socket.say("status", meta={"b": 2})
        (told,) = await socket.events(1)
        assert told["data"] == {
            **agent,
            "meta": {**agent["meta"], "b": 2},
            "lastSeen": told["data"]["lastSeen"],
        }


@pytest.mark.spec("BUS-3", "AGT-16", "O-10")
async def test_a_heartbeat_brings_the_agent_back(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER, status="idle") as socket:
        await api.patch("/api/agents/w/status", json={"status": "offline"})
        result = await socket.ask("heartbeat", meta={"load": 3})
        assert result["ok"]
        agent = (await api.get("/api/agents/w")).json()
        assert (agent["status"], agent["meta"]) == ("idle", {"load": 3})


async def test_whatever_a_client_says_is_a_sign_of_life(
    server: Any, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONTACT", 0.0)
    async with bus(server, **PROVIDER, status="idle") as socket:
        await socket.events(1)
        await api.patch("/api/agents/w/status", json={"status": "offline"})
        assert (await socket.events(1))[0]["data"]["status"] == "offline"
        await socket.say("pong")
        assert (await socket.events(1))[0]["data"]["status"] == "idle"


@pytest.mark.spec("BUS-3", "CMD-7")
async def test_commands_are_told_and_reported_on(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER) as socket:
        made = (
            await api.post(
                "/api/commands", json={"type": "x", "source": "s", "target": "w", "params": {"p": 1}}
            )
        ).json()
        command = await socket.told("command")
        assert (command["commandId"], command["commandType"], command["params"]) == (
            made["id"],
            "x",
            {"p": 1},
        )
        assert command["command"] == made
        await socket.say("command.update", commandId=made["id"], status="running")
        assert (await socket.events(1))[0]["event"] == "command.running"
        result = await socket.ask("command.update", commandId=made["id"], status="succeeded", result={"r": 2})
        assert result["results"][0]["command"]["result"] == {"r": 2}
        late = await socket.ask("command.update", commandId=made["id"], status="failed")
        assert late["results"][0]["status"] == 409
        await socket.say("command.update", commandId="cmd_nobody", status="failed")
        assert (await socket.told("error"))["code"] == "not_found"


# -- what a client is told


@pytest.mark.spec("BUS-8", "M-I30", "M-238")
async def test_the_role_decides_what_is_told(server: Any, api: httpx2.AsyncClient) -> None:
    host = {"role": "orchestrator", "componentId": "o", "agentId": "orchestrator-h1"}
    async with (
        bus(server, role="dashboard", componentId="d") as all_,
        bus(server, **PROVIDER, tags=["t"]) as provider,
        bus(server, **host) as orchestrator,
    ):
        for to in ("tag:t", "a2", "w", "broadcast"):
            await api.post("/api/messages", json=message(to=to, body=to))
        for target in ("a2", "tag:t"):
            await api.post("/api/integrations/events", json={"title": target, "target": target})
        for target in ("a2", "w", "orchestrator-h1"):
            await api.post("/api/commands", json={"type": target, "source": "s", "target": target})
        heard = await provider.events(7)
        assert [each["type"] for each in heard] == ["event", *["message.new"] * 4, "event", "command"]
        assert [each["message"]["to"] for each in heard[1:5]] == ["tag:t", "w", "broadcast", "tag:t"]
        assert (heard[5]["event"], heard[5]["data"]["target"]) == ("task.created", "tag:t")
        own, command = await orchestrator.events(2)
        assert (own["event"], own["subject"]) == ("agent.status", "orchestrator-h1")
        assert command["commandType"] == "orchestrator-h1"
        commands = []
        while len(commands) < 3:
            commands += [
                each for each in await all_.events_of_one_frame() if each.get("event") == "command.requested"
            ]
        assert [each["data"]["command"]["type"] for each in commands] == ["a2", "w", "orchestrator-h1"]


async def test_who_may_only_listen_may_say_that_it_is_there(limited_to: Any) -> None:
    async with limited_to("event:read") as (root, _):
        server = Listening.at(root, "limited")
        async with bus(server, role="dashboard") as socket:
            assert (await socket.ask("heartbeat"))["ok"]
        async with bus(server) as socket:
            await socket.say("hello", **PROVIDER)
            assert (await socket.told("error"))["code"] == "forbidden"


@pytest.mark.spec("BUS-6")
async def test_a_client_that_has_nothing_to_confirm_keeps_its_place() -> None:
    async with with_fleet() as (fleet, api), bus(Listening.at(api, "root"), role="dashboard") as socket:
        fleet.bus_sessions.tell(Save())
        await fleet.system.idle()
        deleted = trio.Event()
        forget = Write("delete from bus_sessions", (), 1)
        fleet.store.stage((forget,), (), Owner(), lambda error: deleted.set())
        await deleted.wait()
        await socket.ask("heartbeat")
        with trio.fail_after(10):
            while (row := fleet.store.row("select acked_event from bus_sessions")) is None:
                await trio.sleep(0.01)
        assert row == (socket.welcome["lastEventId"],)


async def test_events_come_in_the_order_in_which_they_happened(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, role="dashboard", componentId="d") as socket, bus(server, **PROVIDER) as sender:
        await sender.say(
            "send", id="1", messages=[message(to="a2", body=str(number)) for number in range(100)]
        )
        heard = []
        while len([each for each in heard if each["type"] == "message.new"]) < 100:
            heard += await socket.events_of_one_frame()
        ids = [each["eventId"] for each in heard]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        bodies = [each["message"]["body"] for each in heard if each["type"] == "message.new"]
        assert bodies == [str(number) for number in range(100)]


async def test_silence_is_broken_by_pings(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.bus, "HEARTBEAT", 0.05)
    async with bus(server, role="dashboard", componentId="d") as socket:
        for _ in range(2):
            ping = await socket.frame()
            assert ping == {"type": "ping", "eventId": socket.welcome["lastEventId"]}


# -- how clients come back


async def test_a_client_that_comes_back_is_told_what_it_missed(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER) as socket:
        await api.post("/api/messages", json=message(body="0"))
        seen = (await socket.events(2))[-1]
    for number in range(1, 30):
        await api.post("/api/messages", json=message(body=str(number)))
    async with bus(server, **PROVIDER, after=seen["eventId"]) as socket:
        assert socket.welcome["resumed"]
        assert socket.welcome["lastEventId"] == seen["eventId"]
        heard = await socket.messages(29)
        assert [each["body"] for each in heard] == [str(number) for number in range(1, 30)]


@pytest.mark.spec("BUS-6", "O-61")
async def test_what_is_not_acknowledged_is_told_again(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER) as socket:
        assert not socket.welcome["resumed"]
        for number in range(4):
            await api.post("/api/messages", json=message(body=str(number)))
        heard = [each for each in await socket.events(5) if each["type"] == "message.new"]
        assert (await socket.ask("ack", eventId=heard[1]["eventId"]))["ok"]
        await socket.ask("ack", eventId=heard[0]["eventId"])  # it does not go back
    await api.post("/api/messages", json=message(body="4"))
    async with bus(server, **PROVIDER) as socket:
        assert socket.welcome["resumed"]
        assert [each["body"] for each in await socket.messages(3)] == ["2", "3", "4"]
    async with bus(server, **{**PROVIDER, "componentId": "another"}) as socket:
        assert not socket.welcome["resumed"]


async def test_only_what_there_is_can_be_acknowledged(server: Any) -> None:
    async with bus(server, **PROVIDER) as socket:
        result = await socket.ask("ack", eventId=10_000)
        assert result["results"][0]["status"] == 400


@pytest.mark.parametrize("after", [10_000, 0])
async def test_a_client_whose_place_is_gone_starts_over(
    server: Any, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    await api.post("/api/messages", json=message())
    if after == 0:
        monkeypatch.setattr(feed.Feed, "lost", property(lambda self: self.cursor == 0))
    async with bus(server, **PROVIDER, after=after) as socket:
        assert socket.welcome["reset"]
        assert not socket.welcome["resumed"]
        await api.post("/api/messages", json=message(body="next"))
        assert (await socket.messages(1))[0]["body"] == "next"


# -- how connections end


async def test_the_newest_connection_of_an_agent_is_its_only_one(
    server: Any, api: httpx2.AsyncClient
) -> None:
    async with bus(server, **PROVIDER) as old, bus(server, **{**PROVIDER, "instanceId": "i2"}) as new:
        assert (await old.told("error"))["code"] == "superseded"
        assert (await old.close()).code == 4409
        assert (await new.ask("heartbeat"))["ok"]
        assert (await api.get("/api/agents/w")).json()["instanceId"] == "i2"


@pytest.mark.spec("AGT-20", "O-08")
async def test_of_connections_that_come_at_the_same_time_the_one_with_the_agents_session_stays(
    server: Any, api: httpx2.AsyncClient
) -> None:
    for attempt in range(30):
        agent = f"w{attempt}"
        async with bus(server) as one, bus(server) as other:
            for instance, socket in ((f"{agent}-1", one), (f"{agent}-2", other)):
                await socket.say("hello", **{**PROVIDER, "agentId": agent, "instanceId": instance})
            ends: dict[str, int | None] = {}

            async def live(instance: str, socket: Socket, ends: dict[str, int | None] = ends) -> None:
                try:
                    await socket.told("welcome")
                    await socket.ask("heartbeat")
                except Closed as closed:
                    ends[instance] = closed.code

            async with trio.open_nursery() as nursery:
                nursery.start_soon(live, f"{agent}-1", one)
                nursery.start_soon(live, f"{agent}-2", other)
            owner = (await api.get(f"/api/agents/{agent}")).json()["instanceId"]
            assert owner not in ends, attempt
            stays = one if owner == f"{agent}-1" else other
            assert (await stays.ask("heartbeat"))["ok"], attempt


@pytest.mark.spec("BUS-7")
async def test_a_client_that_reconnects_takes_the_place_of_itself(server: Any) -> None:
    async with bus(server, **PROVIDER) as old, bus(server, **PROVIDER) as new:
        assert (await old.close()).code == 4409
        assert (await new.ask("heartbeat"))["ok"]


@pytest.mark.spec("AGT-20")
@pytest.mark.parametrize("frame", [{"kind": "heartbeat"}, {"kind": "status", "ready": True}])
async def test_a_session_that_was_taken_over_elsewhere_ends(
    server: Any, api: httpx2.AsyncClient, frame: dict[str, Any]
) -> None:
    async with bus(server, **PROVIDER) as socket:
        await api.post("/api/agents", json={"id": "w", "instanceId": "i2"})
        await socket.say(**frame)
        assert (await socket.told("error"))["code"] == "instance_mismatch"
        assert (await socket.close()).code == 4409


async def test_who_has_no_valid_token_any_more_is_told_nothing_more() -> None:
    limited = Principal("limited", frozenset({"event:read"}))
    other = Principal("other", frozenset({"event:read"}))
    known = Authenticator({"root": ROOT, "limited": limited, "other": other})
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
        open_upstream("root") as upstream,
    ):
        edge = Edge(fleet, table(), known, upstream, answer_within=10.0)
        async with (
            serving(Guard(edge)) as port,
            bus(Listening(port, "limited"), role="dashboard") as socket,
            bus(Listening(port, "other"), role="dashboard", componentId="c2") as stays,
            connect(port) as stream,
            connect(port) as going,
        ):
            head = "GET /api/events HTTP/1.1\r\nHost: localhost\r\nX-Agent-Relay-Token: {}\r\n\r\n"
            for token, connection in (("limited", stream), ("other", going)):
                await connection.send(head.format(token).encode())
                await connection.until(b": relay")
            known.replace({"root": ROOT, "other": attrs.evolve(other), "new": attrs.evolve(limited)})
            edge.end_strangers()
            assert (await socket.close()).code == 4401
            await stream.until(b"0\r\n\r\n")
            assert (await stays.ask("heartbeat"))["ok"]
            assert edge.streams == 1


@pytest.mark.spec("AGT-18")
async def test_the_connection_of_a_deleted_agent_ends(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER) as socket:
        await api.delete("/api/agents/w")
        await socket.say("heartbeat")
        assert (await socket.told("error"))["code"] == "not_found"
        assert (await socket.close()).code == 4404


async def test_a_silent_client_is_cut_off(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE", 0.05)
    async with bus(server, **PROVIDER) as socket:
        assert (await socket.close()).code == 4408


async def test_malformed_frames_are_answered_and_end_the_connection_when_there_are_many(server: Any) -> None:
    async with bus(server, **PROVIDER) as socket, bus(server, role="dashboard", componentId="d") as other:
        for number in range(20):  # a newer client may say what this server does not know
            await socket.say("fly", id=str(number))
            error = await socket.told("error")
            assert (error["code"], error["id"]) == ("unknown_type", str(number))
        for text, code in (("{", "malformed"), ("[]", "malformed"), ('{"type":1}', "malformed")):
            await socket.text(text)
            assert (await socket.told("error"))["code"] == code
        await socket.bytes(b"x")
        assert (await socket.told("error"))["code"] == "malformed"
        await socket.say("claim", id="c", messageIds=[1, "2", -3])
        error = await socket.told("error")
        assert (error["code"], error["id"]) == ("invalid", "c")
        assert "messageIds[1]" in error["error"]
        assert "messageIds[2]" in error["error"]
        assert (await socket.close()).told == (4400, "too many malformed frames")
        assert (await other.ask("heartbeat"))["ok"]


async def test_a_frame_that_is_too_long_ends_the_connection(server: Any) -> None:
    async with bus(server, **PROVIDER) as socket:
        room = 1_048_576 - len('{"type":"ping","x":""}')
        await socket.text('{"type":"ping","x":"%s"}' % ("x" * room))
        assert (await socket.told("pong")) == {"type": "pong"}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.text, '{"type":"ping","x":"%s"}' % ("x" * (room + 1)))
            assert (await socket.told("error"))["code"] == "too_large"
            assert (await socket.close()).code == 1009


@pytest.mark.parametrize(
    "sent", [b"\x83\x80abcd", b"\x01\x03abc", b"GET / HTTP/1.1\r\n\r\n", b"\x81\x82\0\0\0\0\xff\xff"]
)
async def test_what_is_no_websocket_frame_ends_the_connection(server: Any, sent: bytes) -> None:
    async with bus(server, **PROVIDER) as socket, bus(server, role="dashboard", componentId="d") as other:
        await socket.raw(sent)
        assert (await socket.close()).code in (1002, 1007, None)
        assert (await other.ask("heartbeat"))["ok"]


async def test_compression_is_not_agreed_to(server: Any) -> None:
    async with connect(server.port) as client:
        await client.send(upgrade(sec_websocket_extensions="permessage-deflate"))
        head = await client.until(b"\r\n\r\n")
        assert b" 101 " in head
        assert b"extensions" not in head.lower()


@pytest.mark.parametrize("lean", [True, False])
async def test_the_server_says_so_when_it_stops(tmp_path: Any, lean: bool) -> None:
    async with running(tmp_path, grace=60.0, lean=lean) as server:
        async with bus(server, **PROVIDER) as socket, bus(server) as silent:
            server.stop.set()
            for each in (socket, silent):
                assert (await each.close()).told == (1001, "the server is stopping")
                await each.raw(each.protocol.send(CloseConnection(1001)))
            with trio.fail_after(10):
                await server.ended.wait()


@pytest.mark.spec("M-I31", "EVT-3")
async def test_a_client_that_never_reads_delays_nobody_and_is_cut_off(tmp_path: Any) -> None:
    async with running(tmp_path, grace=0.5, stalled=1.0) as server:
        with socket_module.socket() as deaf:
            deaf.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 4096)
            await trio.to_thread.run_sync(deaf.connect, ("127.0.0.1", server.port))
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(deaf.dup()))
            await stream.send_all(upgrade(x_agent_relay_token=server.token))
            client = Connection(stream)
            await client.until(b"\r\n\r\n")
            slow = Socket(stream, b"")
            await hello(slow, componentId="deaf")
            async with (
                bus(server, role="dashboard", componentId="d") as other,
                bus(server, **PROVIDER) as sender,
            ):
                for number in range(40):  # 8 MB: more than all buffers on the way take
                    asked = [message(to="a2", body=f"{number} " + "x" * 50_000)] * 4
                    assert (await sender.ask("send", messages=asked))["ok"]
                    heard = await other.messages(4)
                    assert all(each["body"].startswith(f"{number} ") for each in heard)
                headers = {"X-Agent-Relay-Token": server.token}
                async with httpx2.AsyncClient(base_url=server.base_url, headers=headers) as api:
                    with trio.fail_after(10):
                        while (await api.get("/api/health")).json()["counts"]["busConnections"] > 2:
                            await trio.sleep(0.01)
            stream.socket.close()


@pytest.mark.spec("M-240", "O-63")
async def test_what_came_while_a_client_was_away_reaches_it_once(
    server: Any, api: httpx2.AsyncClient
) -> None:
    async with bus(server, **PROVIDER):
        pass
    before = [
        (await api.post("/api/messages", json=message(body=f"before {n}"))).json()["id"] for n in range(5)
    ]
    async with trio.open_nursery() as nursery:
        during: list[int] = []

        async def keep_sending() -> None:
            for number in range(20):
                sent = await api.post("/api/messages", json=message(body=f"during {number}"))
                during.append(sent.json()["id"])

        nursery.start_soon(keep_sending)
        async with bus(server, **{**PROVIDER, "componentId": "a fresh one"}) as socket:
            polled = (await api.get("/api/messages", params={"for": "w", "unread": "1", "limit": 500})).json()
            heard = {each["id"] for each in polled}
            while len(heard) < 25:
                told = [
                    each["message"]["id"] for each in await socket.events_of_one_frame() if "message" in each
                ]
                heard |= {number for number in told if number not in heard}
    assert heard == {*before, *during}


@pytest.mark.spec("TSK-4", "R-30")
async def test_a_task_is_reported_on(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER) as socket:
        made = (await api.post("/api/integrations/events", json={"title": "t", "target": "w"})).json()["task"]
        await socket.told("event")
        await socket.say("task.status", taskId=made["id"], status="in_progress")
        while (told := (await socket.events_of_one_frame())[-1]).get("event") != "task.updated":
            pass
        assert (told["data"]["status"], told["data"]["claimedBy"]) == ("in_progress", "w")
        result = await socket.ask("task.status", taskId=made["id"], status="done", metadata={"k": 1})
        assert result["results"][0]["task"]["status"] == "done"
        late = await socket.ask("task.status", taskId=made["id"], status="failed")
        assert late["results"][0]["status"] == 409
        unknown = await socket.ask("task.status", taskId=999, status="done")
        assert unknown["results"][0]["status"] == 404


async def test_messages_are_taken_and_settled(server: Any, api: httpx2.AsyncClient) -> None:
    async with bus(server, **PROVIDER) as socket:
        numbers = [(await api.post("/api/messages", json=message(body=body))).json()["id"] for body in "ab"]
        taken = (await socket.ask("delivery.take", limit=2))["results"]
        assert [each["delivery"]["messageId"] for each in taken] == numbers
        assert (await socket.ask("delivery.take"))["results"] == []
        acks = [
            {"messageId": numbers[0], "token": taken[0]["delivery"]["token"], "outcome": "confirmed"},
            {"messageId": numbers[1], "token": taken[1]["delivery"]["token"] + 7, "outcome": "confirmed"},
            {"messageId": 999, "token": 1, "outcome": "confirmed"},
        ]
        settled = await socket.ask("delivery.ack", acks=acks)
        assert [outcome["status"] for outcome in settled["results"]] == [200, 409, 404]
        assert settled["results"][0]["rung"] == "confirmed"


@pytest.mark.spec("BUS-2", "AGT-3", "M-083", "M-090", "M-I8")
async def test_an_agent_that_serves_a_policy_is_given_its_mail(tmp_path: Any) -> None:
    async with with_fleet() as (_, api):
        server = Listening.at(api, "root")
        numbers = [
            (await api.post("/api/messages", json=message(to="policy:P"))).json()["id"] for _ in range(3)
        ]
        await api.post("/api/orchestrators", json={"id": "h1", "hostname": "h", "baseDir": "/base"})
        await api.put("/api/spawn-policy/P", json={"orchestratorId": "h1", "provider": "claude"})
        started = (await api.post("/api/spawn-policy/P/start")).json()["command"]
        meta = {"policyName": "P", "spawnRequestId": started["correlationId"]}
        async with bus(server, **PROVIDER, meta=meta) as socket:
            heard = await socket.events(5)
            assert [each.get("event", each["type"]) for each in heard] == [
                "message.available", *["message.new"] * 3, "agent.status",
            ]  # fmt: skip
            assert [each["message"]["id"] for each in heard[1:4]] == numbers
            assert all(each["message"]["resolvedToAgent"] == "w" for each in heard[1:4])
