"""`/api/integrations` on a whole server: who may report what, how often, and who hears of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
import trio
from busclient import bus, hello
from rawhttp import eventually
from receiving import Behaviour, answering, closing, endless, receiving, redirecting, silent

from relay.http import IntegrationsUnusable, Settings, serve
from relay.http.hosting import Hosting

SECRETS = {name: f"secret-of-{name}-which-is-long" for name in ("ci", "cd", "reader")}
Api = httpx2.AsyncClient
Start = Callable[..., AbstractAsyncContextManager["Site"]]


class Site:
    """A server with agents, and a client of it for each integration and for root."""

    def __init__(self, url: str, root: str, hangups: trio.MemorySendChannel[int]) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.hangups = hangups
        self.clients = {name: self._client(secret) for name, secret in {**SECRETS, "root": root}.items()}

    def _client(self, token: str) -> Api:
        return Api(base_url=self.url, headers={"X-Agent-Relay-Token": token}, trust_env=False)

    async def report(self, name: str = "ci", **members: Any) -> httpx2.Response:
        body = {"title": "build broke", "target": "a1", **members}
        return await self.clients[name].post("/api/integrations/events", json=body)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.clients["root"].request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def tasks(self) -> list[Any]:
        return list(await self.ask("GET", "/api/tasks"))

    async def bind(self, channel: str, *targets: str) -> list[str]:
        """The ids of the bindings of a channel that is made for them."""
        await self.ask("POST", "/api/agents", {"id": channel, "kind": "channel"})
        made = []
        for target in targets:
            body = {"channelId": channel, "target": target, "mode": "broadcast"}
            made.append((await self.ask("POST", "/api/channel-bindings", body))["id"])
        return made

    async def aclose(self) -> None:
        for client in self.clients.values():
            await client.aclose()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a server with these integrations: names with members."""
    monkeypatch.delenv("AGENT_RELAY_TOKEN", raising=False)

    @asynccontextmanager
    async def started(per_minute: int | None = None, **integrations: dict[str, Any]) -> AsyncIterator[Site]:
        if per_minute is not None:
            monkeypatch.setenv("INTEGRATION_RATE_LIMIT_PER_MINUTE", str(per_minute))
        configure(tmp_path, **integrations)
        async with _serving(tmp_path) as site:
            for name in ("a1", "a2"):
                await site.ask("POST", "/api/agents", {"id": name, "tags": ["t"]})
            yield site

    return started


@asynccontextmanager
async def _serving(home: Path) -> AsyncIterator[Site]:
    stop = trio.Event()
    hang_up, hangups = trio.open_memory_channel[int](10)
    settings = Settings(database=home / "relay.db", home=home, port=0, hosting=Hosting(grace=0.5))
    async with trio.open_nursery() as nursery:
        ready = await nursery.start(partial(serve, settings, stop=stop, hangups=hangups))
        site = Site(ready.base_url, ready.token, hang_up)
        try:
            yield site
        finally:
            await site.aclose()
            stop.set()


def configure(home: Path, **integrations: dict[str, Any]) -> None:
    document = [{"name": name, "secret": SECRETS[name], **members} for name, members in integrations.items()]
    path = home / "integrations.json"
    path.write_text(json.dumps(document))
    path.chmod(0o600)


def called_back(url: str, **members: Any) -> dict[str, Any]:
    return {"callbackUrl": url, "callbackAllow": ["127.0.0.1"], **members}


# Who may call


@pytest.mark.spec("INT-2")
async def test_the_list_has_everything_but_secrets(start: Start) -> None:
    url = "https://hooks.example/x"
    async with start(
        ci={"targets": ["a1"], "callbackUrl": url + "?token=sesame"}, cd={"channels": ["c"]}
    ) as site:
        assert await site.ask("GET", "/api/integrations") == [
            {"name": "cd", "targets": [], "channels": ["c"], "scopes": ["integration:write"]},
            {
                "name": "ci",
                "targets": ["a1"],
                "channels": [],
                "scopes": ["integration:write"],
                "callbackUrl": url,
            },
        ]
        assert (await site.clients["ci"].get("/api/integrations")).status_code == 403


@pytest.mark.spec("AUTH-3", "AUTH-4")
async def test_a_credential_and_a_scope_are_needed(start: Start) -> None:
    async with start(ci={}, reader={"scopes": ["task:read"]}) as site:
        assert (await site.report("cd")).status_code == 401
        assert (await site.report("reader")).status_code == 403
        assert (await site.clients["reader"].get("/api/tasks")).status_code == 200
        assert (await site.clients["ci"].get("/api/tasks")).status_code == 403
        assert await site.tasks() == []


@pytest.mark.spec("M-111", "M-I37", "O-07")
async def test_the_source_is_who_calls_and_not_who_the_body_names(start: Start) -> None:
    async with start(ci={}) as site:
        answer = await site.report(source="other", body="log", metadata={"n": 1})
        assert answer.status_code == 201
        made = answer.json()
        assert made["created"] is True
        assert made["task"]["source"] == "ci"
        assert made["message"]["to"] == made["task"]["target"] == "a1"
        assert await site.tasks() == [made["task"]]
        root = (await site.report("root", source="ci")).json()
        assert root["task"]["source"] == "root"


@pytest.mark.spec("INT-7", "O-07", "O-35")
@pytest.mark.parametrize("name", ["key", "externalId", "idempotencyKey"])
async def test_the_same_key_is_the_same_task(start: Start, name: str) -> None:
    async with start(ci={}, cd={}) as site:
        first = (await site.report(**{name: "k"})).json()
        again = await site.report(title="still broken", **{name: "k"})
        assert (again.status_code, again.json()["created"]) == (200, False)
        assert again.json()["task"]["id"] == first["task"]["id"]
        assert again.json()["task"]["title"] == "still broken"
        assert (await site.report("cd", **{name: "k"})).status_code == 201
        assert (await site.report()).json()["task"]["id"] != (await site.report()).json()["task"]["id"]


@pytest.mark.spec("M-110", "INT-6")
async def test_a_target_that_is_not_listed_is_403(start: Start) -> None:
    async with start(ci={"targets": ["a1", "tag:t"]}) as site:
        assert (await site.report(target="a2")).status_code == 403
        assert (await site.report(target="broadcast")).status_code == 403
        assert await site.tasks() == []
        assert (await site.report(target="tag:t")).status_code == 201


@pytest.mark.spec("INT-6")
async def test_a_channel_that_is_not_listed_is_403(start: Start) -> None:
    async with start(ci={"channels": ["c"]}) as site:
        assert (await site.report(channel="d")).status_code == 403
        assert (await site.report(channel="c")).status_code == 201
        assert (await site.report()).status_code == 201


@pytest.mark.spec("AUTH-5", "INT-1", "M-I29")
async def test_what_it_may_name_is_the_same_for_all_that_it_may_do(start: Start) -> None:
    scopes = ["message:send", "channel:write", "pair:write", "event:read"]
    limits = {"targets": ["a1", "channel:c"], "channels": ["c"], "scopes": scopes}
    async with start(ci=limits, cd={"scopes": scopes}) as site:
        await site.bind("c", "a1")
        await site.bind("d", "a1")
        for name in ("ci", "cd"):
            await site.ask("POST", "/api/agents", {"id": name})
        question = (await site.ask("POST", "/api/messages", {"from": "a2", "to": "a1", "body": "x"}))["id"]

        async def statuses(path: str, **body: Any) -> list[int]:
            """What the integrations are answered: the one with limits, and the one without."""
            made = [await site.clients[name].post(path, json={**body, **own(name)}) for name in ("ci", "cd")]
            return [answer.status_code for answer in made]

        def own(name: str) -> dict[str, str]:
            return {"from": name, "body": "x"}

        for mail in ({"to": "a1"}, {"to": "channel:c"}, {"to": "a1", "channel": "c"}):
            assert await statuses("/api/messages", **mail) == [201, 201], mail
        for mail in (
            {"to": "a2"},
            {"to": "broadcast"},
            {"to": "channel:d"},
            {"to": "a1", "channel": "d"},
            {"replyTo": question},
        ):
            assert await statuses("/api/messages", **mail) == [403, 201], mail
        assert await statuses("/api/system/broadcast") == [403, 201]
        assert await statuses("/api/pairs", to="a1") == [201, 201]
        assert await statuses("/api/pairs", to="a2") == [403, 201]
        assert await statuses("/api/channels/c/events") == [201, 201]
        assert await statuses("/api/channels/d/events") == [403, 201]
        bind = "/api/channel-bindings"
        assert await statuses(bind, channelId="c", target="a1") == [201, 200]
        assert await statuses(bind, channelId="c", target="tag:t") == [403, 201]
        assert await statuses(bind, channelId="d", targetType="agent", targetId="a1") == [403, 201]
        assert await statuses("/api/agents/a1/prompt") == [403, 403], "only a user prompts"

        async with bus(site, token=False) as socket:
            await hello(socket, token=SECRETS["ci"])
            mail = [{"to": to, **own("ci")} for to in ("a1", "a2")]
            told = await socket.ask("send", messages=mail)
            assert [each["status"] for each in told["results"]] == [201, 403]


async def test_over_the_bus_it_works_in_its_own_name_only(start: Start) -> None:
    async with start(ci={"scopes": ["message:read", "task:write", "event:read"]}) as site:
        made = await site.ask("POST", "/api/integrations/events", {"title": "t", "target": "a1"})
        number, task = made["message"]["id"], made["task"]["id"]
        async with bus(site, token=False) as socket:
            await hello(socket, token=SECRETS["ci"])
            for kind in ("claim", "renew", "read"):
                told = await socket.ask(kind, messageIds=[number], agentId="a1")
                assert told["results"][0]["error"] == "agentId: this connection does not speak for a1"
            told = await socket.ask("task.status", taskId=task, status="done", agentId="a1")
            assert told["results"][0]["error"] == "agentId: this connection does not speak for a1"
            assert (await socket.ask("read", messageIds=[number], agentId="ci"))["ok"]
        assert (await site.ask("GET", f"/api/messages/{number}"))["readBy"] == ["ci"]
        assert (await site.tasks())[0]["status"] == "open"


# What a report may say


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"title": None}, "title"),
        ({"title": "  "}, "title"),
        ({"title": "x" * 241}, "title"),
        ({"target": None}, "target"),
        ({"target": "x" * 241}, "target"),
        ({"body": "x" * 100_001}, "body"),
        ({"body": 1}, "body"),
        ({"severity": "fatal"}, "severity"),
        ({"status": "broken"}, "status"),
        ({"channel": "x" * 121}, "channel"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"x": "y" * 65_536}}, "metadata"),
        ({"key": "x" * 241}, "key"),
        ({"externalId": "x" * 241}, "externalId"),
        ({"idempotencyKey": 7}, "idempotencyKey"),
        ({"target": "pool:p"}, "pool"),
    ],
)
async def test_a_report_that_does_not_fit_is_400_and_says_where(
    start: Start, members: dict[str, Any], problem: str
) -> None:
    async with start(ci={}) as site:
        answer = await site.report(**members)
        assert answer.status_code == 400
        assert problem in answer.json()["error"]
        assert await site.tasks() == []


async def test_a_report_at_every_limit_is_taken(start: Start) -> None:
    async with start(ci={}) as site:
        answer = await site.report(
            title="t" * 240,
            body="b" * 100_000,
            target="a" * 240,
            severity="critical",
            channel="c" * 120,
            key="k" * 240,
            metadata={"x": "y" * (65_536 - len('{"x":""}'))},
        )
        assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff"])
async def test_a_body_that_is_no_object_is_400(start: Start, body: bytes) -> None:
    async with start(ci={}) as site:
        answer = await site.clients["ci"].post("/api/integrations/events", content=body)
        assert answer.status_code == 400
        assert list(answer.json()) == ["error"]


async def test_a_target_that_is_offline_gets_its_task_all_the_same(start: Start) -> None:
    async with start(ci={}) as site:
        await site.ask("PATCH", "/api/agents/a1/status", {"status": "offline"})
        assert (await site.report()).status_code == 201


# The rate


@pytest.mark.spec("M-118", "INT-3", "O-34")
async def test_too_many_reports_are_429_whatever_they_say_and_others_do_not_notice(start: Start) -> None:
    async with start(per_minute=3, ci={}, cd={}) as site:
        for _ in range(2):
            assert (await site.report()).status_code == 201
        assert (await site.report(title=None)).status_code == 400  # judged, so it counts
        for body in (b'{"title":"x","target":"a1"}', b"{", b""):
            answer = await site.clients["ci"].post("/api/integrations/events", content=body)
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert answer.json() == {"error": "more than 3 requests in a minute"}
        assert (await site.report("cd")).status_code == 201
        for _ in range(5):
            assert (await site.report("root")).status_code == 201


@pytest.mark.spec("M-I35")
async def test_of_many_reports_at_once_no_more_than_the_limit_pass(start: Start) -> None:
    async with start(per_minute=5, ci={}) as site:
        statuses: list[int] = []

        async def one() -> None:
            statuses.append((await site.report()).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
        assert sorted(statuses) == [201] * 5 + [429] * 15
        assert len(await site.tasks()) == 5


# Channels


@pytest.mark.spec("M-112", "M-119", "INT-8")
async def test_a_channel_leads_to_the_agent_it_is_bound_to(start: Start) -> None:
    async with start(ci={}) as site:
        [binding] = await site.bind("c", "a1")
        evil = {"relayResolvedChannelId": "evil", "relayRequestedTarget": 7, "mine": True}
        task = (await site.report(target="channel:c", metadata=evil)).json()["task"]
        assert (task["target"], task["channel"]) == ("a1", "c")
        assert task["metadata"] == {
            "relayRequestedTarget": "channel:c",
            "relayResolvedChannelId": "c",
            "relayResolvedChannelBindingId": binding,
            "mine": True,
        }
        assert (await site.report(target="channel:c", channel="other")).json()["task"]["channel"] == "other"


@pytest.mark.spec("M-113", "M-114", "INT-9", "INT-11")
async def test_a_channel_that_leads_to_no_one_agent_is_400(start: Start) -> None:
    async with start(ci={}) as site:
        await site.bind("two", "a1", "a2")
        await site.bind("none")
        await site.bind("label", "label:l")
        await site.bind("all", "broadcast")
        await site.bind("stranger", "nobody-here")
        for name in ("two", "none", "label", "all", "stranger", "unknown", "", "  "):
            answer = await site.report(target=f"channel:{name}")
            assert answer.status_code == 400, name
        assert await site.tasks() == []


@pytest.mark.spec("M-112", "M-I23")
async def test_a_channel_may_lead_to_the_holder_of_a_pool(start: Start) -> None:
    async with start(ci={}) as site:
        await site.bind("c", "pool:p")
        assert (await site.report(target="channel:c")).status_code == 400
        await site.ask("POST", "/api/agents", {"id": "a3", "kind": "provider", "tags": ["p"]})
        task = (await site.report(target="channel:c")).json()["task"]
        assert (task["target"], task["channel"]) == ("a3", "c")


@pytest.mark.spec("M-115")
async def test_a_channel_may_lead_to_a_policy(start: Start) -> None:
    async with start(ci={}) as site:
        await site.bind("c", "policy:P")
        made = (await site.report(target="channel:c")).json()
        assert made["task"]["target"] == "policy:P"
        assert made["message"]["deliveryStatus"] == "queued"


@pytest.mark.spec("M-116", "INT-5")
async def test_permission_is_judged_by_what_was_asked_for(start: Start) -> None:
    async with start(ci={"channels": ["d"]}, cd={"targets": ["channel:c"]}) as site:
        await site.bind("c", "a1")
        assert (await site.report("ci", target="channel:c")).status_code == 403
        assert (await site.report("ci", target="channel:unknown")).status_code == 403
        assert (await site.report("ci", target="channel:")).status_code == 400
        assert (await site.report("cd", target="channel:c")).status_code == 201
        assert (await site.report("cd", target="a1")).status_code == 403


# Callbacks


@pytest.mark.spec("M-117", "INT-20", "INT-22")
async def test_the_integration_hears_of_each_change_of_its_task(start: Start) -> None:
    async with receiving() as place, start(ci=called_back(place.url, targets=["channel:c"]), cd={}) as site:
        await site.bind("c", "a1")
        task = (await site.report(target="channel:c")).json()["task"]
        await site.report("cd")
        assert task["target"] == "a1"
        path = f"/api/tasks/{task['id']}/status"
        done = await site.ask("POST", path, {"status": "done", "body": "mended"})
        await eventually(lambda: len(place.calls) == 2)
        created, updated = place.calls
        assert created.json == {"event": "task.created", "task": task}
        assert updated.json == {"event": "task.updated", "task": done}
        assert created.headers["x-agent-relay-event"] == "task.created"
        assert all(call.is_signed_with(SECRETS["ci"]) for call in place.calls)
        assert created.delivery != updated.delivery


@pytest.mark.spec("M-I38")
@pytest.mark.parametrize(
    "behaviour",
    [answering(500), closing, endless, silent, redirecting("http://169.254.169.254/latest/meta-data")],
    ids=["failing", "closing", "endless", "silent", "redirecting"],
)
async def test_no_receiver_changes_or_delays_a_task(start: Start, behaviour: Behaviour) -> None:
    async with receiving(behaviour) as place, start(ci=called_back(place.url)) as site:
        with trio.fail_after(4):  # less than a callback may take
            for number in range(3):
                task = (await site.report(key=f"k{number}")).json()["task"]
                done = await site.ask("POST", f"/api/tasks/{task['id']}/status", {"status": "done"})
                assert done["status"] == "done"
            await eventually(lambda: bool(place.calls))
        assert [task["status"] for task in await site.tasks()] == ["done"] * 3
        assert place.most_open <= 1


async def test_a_receiver_that_fails_at_first_hears_everything_in_order(start: Start) -> None:
    async with receiving(answering(503), answering(200)) as place, start(ci=called_back(place.url)) as site:
        made = [(await site.report(title=f"t{number}")).json()["task"] for number in range(3)]
        await eventually(lambda: len(place.calls) == 4)
        heard = [call.json["task"]["id"] for call in place.calls]
        assert heard == [made[0]["id"], *(task["id"] for task in made)]
        assert place.calls[0].delivery == place.calls[1].delivery


async def test_no_place_of_this_machine_is_called_unless_it_is_listed(start: Start) -> None:
    async with receiving() as place, receiving() as listed:
        configured = {"ci": {"callbackUrl": place.url}, "cd": called_back(listed.url)}
        async with start(**configured) as site:
            await site.report("ci")
            await site.report("cd")
            await eventually(lambda: len(listed.calls) == 1)
        assert place.connections == 0


# The file


async def test_a_bad_file_keeps_the_server_from_starting(start: Start, tmp_path: Path) -> None:
    with pytest.raises(BaseExceptionGroup) as found:
        async with start(ci={"target": ["a1"]}):
            pass
    assert found.group_contains(
        IntegrationsUnusable, match=r"integrations.json: \[0\] target: there is no such"
    )


async def test_after_a_hangup_other_integrations_count_and_a_bad_file_changes_nothing(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with start(per_minute=10_000, ci={}) as site:
        assert await statuses(site) == [201, 401]
        configure(tmp_path, cd={"targets": ["a1"]})
        await site.hangups.send(1)
        await until(lambda: statuses(site), [401, 201])
        configure(tmp_path, ci={}, cd={"target": ["a1"]})
        await site.hangups.send(1)
        await eventually(lambda: "the integrations stay as they were" in caplog.text)
        assert "[1] target: there is no such member" in caplog.text
        assert await statuses(site) == [401, 201]
        (tmp_path / "integrations.json").unlink()
        await site.hangups.send(1)
        await until(lambda: statuses(site), [401, 401])
        assert (await site.report("root")).status_code == 201


async def until(ask: Callable[[], Awaitable[Any]], answer: Any) -> None:
    with trio.fail_after(10):
        while await ask() != answer:
            await trio.sleep(0.01)


async def statuses(site: Site) -> list[int]:
    return [(await site.report(name)).status_code for name in ("ci", "cd")]


async def test_what_is_due_for_an_integration_that_is_gone_is_given_up(start: Start, tmp_path: Path) -> None:
    async with receiving(silent) as place, start(per_minute=10_000, ci=called_back(place.url)) as site:
        for _ in range(3):
            await site.report()
        await eventually(lambda: bool(place.calls))
        configure(tmp_path)
        await site.hangups.send(1)
        await until(lambda: statuses(site), [401, 401])
        database = apsw.Connection(str(tmp_path / "relay.db"), flags=apsw.SQLITE_OPEN_READONLY)
        left = "select count(*), max(id) from callbacks where state = 'due'"
        await eventually(lambda: database.execute(left).fetchone() == (1, 1))  # the one that is tried
        database.close()
