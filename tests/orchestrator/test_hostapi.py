"""The host API over real sockets: who may ask, for what, and what a bad request gets."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from checkouts import Repo

from relay.orchestrator import Config, Refused
from relay.orchestrator.guests import Guests
from relay.orchestrator.hostapi import HostApi, serve_host_api
from relay.orchestrator.sessions import Sessions

TOKEN = "the-hosts-token"


@pytest.fixture
def api(base_dir: Path, tmp_path: Path) -> HostApi:
    config = Config(id="h1", hostname="h1", token="relays-own", base_dir=base_dir, home=tmp_path, api_port=0)
    return made(config, lambda: TOKEN)


def made(config: Config, token: Callable[[], str | None]) -> HostApi:
    sessions = Sessions(config, lambda: 0.0)
    return HostApi(config, sessions, lambda: {"ok": True}, token, Guests(config, sessions, time.time))


@pytest.fixture
async def client(api: HostApi) -> AsyncIterator[httpx2.AsyncClient]:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_host_api, api)
        headers = {"X-Agent-Relay-Token": TOKEN}
        async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
            yield client
        nursery.cancel_scope.cancel()


@pytest.mark.spec("R-134")
async def test_the_token_is_asked_for(client: httpx2.AsyncClient):
    del client.headers["X-Agent-Relay-Token"]
    for headers, status in (
        ({}, 401),
        ({"X-Agent-Relay-Token": "wrong"}, 401),
        ({"X-Agent-Relay-Token": "relays-own"}, 401),
        ({"X-Agent-Relay-Token": ""}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"X-Agent-Relay-Token": TOKEN}, 200),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
    ):
        answer = await client.get("/api/sessions", headers=headers)
        assert answer.status_code == status
        assert status == 200 or "error" in answer.json()
    assert (await client.get(f"/api/sessions?token={TOKEN}")).status_code == 401
    assert (await client.get("/api/health")).json() == {"ok": True}


async def test_without_a_token_nobody_is_let_in(api: HostApi, base_dir: Path, tmp_path: Path):
    config = Config(id="h1", hostname="h1", token=None, base_dir=base_dir, home=tmp_path, api_port=0)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_host_api, made(config, lambda: None))
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
            for given in ({}, {"X-Agent-Relay-Token": ""}):
                assert (await client.get("/api/sessions", headers=given)).status_code == 401
        nursery.cancel_scope.cancel()


async def test_a_foreign_host_name_is_turned_away(client: httpx2.AsyncClient):
    for name in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1"):
        assert (await client.get("/api/health", headers={"Host": name})).status_code == 421
    for name in ("localhost", "localhost:4860", "127.0.0.1", "[::1]", "[::1]:80", "h1"):
        assert (await client.get("/api/health", headers={"Host": name})).status_code == 200


ROUTES = ("directories", "workspace/probe", "workspace/state", "workspace/merge-preview", "workspace/diff")


@pytest.mark.spec("R-135", "R-I38")
@pytest.mark.parametrize("route", ROUTES)
async def test_a_path_outside_the_base_directory_is_refused(
    client: httpx2.AsyncClient, base_dir: Path, tmp_path: Path, route: str
):
    (base_dir / "link").symlink_to(tmp_path)
    for path in (
        "../../etc",
        "/etc",
        str(tmp_path),
        f"{base_dir}-evil",
        f"{base_dir}/link",
        f"{base_dir}/../x",
        "a\0b",
    ):
        answer = await client.get(f"/api/{route}", params={"path": path})
        assert answer.status_code == 400, path
        assert str(base_dir) in answer.json()["error"]


async def test_worktrees_are_described(client: httpx2.AsyncClient, repo: Repo):
    repo.git("switch", "-qc", "agent/a/1")
    repo.commit("notes", "a\n")
    asked = {"path": str(repo.path), "baseRef": "main"}
    assert (await client.get("/api/workspace/probe", params=asked)).json()["branch"] == "agent/a/1"
    assert (await client.get("/api/workspace/state", params=asked)).json()["ahead"] == 1
    assert (await client.get("/api/workspace/merge-preview", params=asked)).json()["cleanFastForward"] is True
    assert "+a" in (await client.get("/api/workspace/diff", params=asked)).json()["patch"]
    assert "patch" not in (await client.get("/api/workspace/diff", params={**asked, "patch": "0"})).json()


async def test_a_place_that_is_no_worktree_is_an_answer(client: httpx2.AsyncClient, base_dir: Path):
    for path, member in ((base_dir, "error"), (base_dir / "none", "missing")):
        for route in ("state", "merge-preview", "diff"):
            answer = await client.get(
                f"/api/workspace/{route}", params={"path": str(path), "baseRef": "main"}
            )
            assert (answer.status_code, member in answer.json()) == (200, True)
    assert (await client.get("/api/workspace/state")).status_code == 400


async def test_directories_are_listed_and_made(client: httpx2.AsyncClient, base_dir: Path):
    (base_dir / "b").mkdir()
    (base_dir / ".hidden").mkdir()
    (base_dir / "file").touch()
    top = (await client.get("/api/directories")).json()
    assert [entry["name"] for entry in top["entries"]] == ["b"]
    assert "parent" not in top
    made = await client.post("/api/directories", json={"path": str(base_dir), "name": "a"})
    assert (made.status_code, made.json()["parent"]) == (201, str(base_dir))
    for body in (
        {},
        [],
        {"path": "b", "name": ".x"},
        {"path": "b", "name": "x/y"},
        {"path": "b", "name": ""},
    ):
        assert (await client.post("/api/directories", json=body)).status_code == 400
    assert (
        await client.post("/api/directories", json={"path": str(base_dir), "name": "a"})
    ).status_code == 400
    assert (await client.post("/api/directories", json={"path": "..", "name": "x"})).status_code == 400


async def test_the_end_of_a_log_is_shown(client: httpx2.AsyncClient, api: HostApi):
    api.sessions.records.log_file("ar-x").write_text("one\n\n\x1b[31mtwo\x1b[0m\nthree\n")
    answer = (await client.get("/api/logs/ar-x", params={"lines": "2"})).json()
    assert answer == {"session": "ar-x", "lines": ["two", "three"], "running": False}
    for name in ("x", "ar-none", "ar-..%2f..%2fsecret", "..%2far-x"):
        assert (await client.get(f"/api/logs/{name}")).status_code == 400


async def test_unknown_routes_and_versions(client: httpx2.AsyncClient):
    assert (await client.get("/api/nothing")).status_code == 404
    assert (await client.delete("/api/sessions")).status_code == 404
    assert (await client.get("/api/version")).json()["package"]["name"] == "relay"
    providers = {each["name"]: each for each in (await client.get("/api/providers")).json()["providers"]}
    assert providers["command"]["available"] is True


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /api/directories HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        + b"x" * 100_000,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
async def test_bad_requests_get_an_answer_and_the_server_goes_on(client: httpx2.AsyncClient, sent: bytes):
    stream = await trio.open_tcp_stream("127.0.0.1", client.base_url.port or 0)
    with trio.fail_after(10):
        async with stream:
            await stream.send_all(sent)
            first = await stream.receive_some(64)
    assert first.startswith(b"HTTP/1.1 4")
    assert (await client.get("/api/health")).status_code == 200


async def test_connections_are_kept_and_half_a_request_harms_nobody(client: httpx2.AsyncClient):
    async with await trio.open_tcp_stream("127.0.0.1", client.base_url.port or 0) as stream:
        request = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await stream.send_all(request * 2 + b"GET /ap")
        text = b""
        with trio.fail_after(10):
            while text.count(b'{"ok": true}') < 2:
                text += await stream.receive_some(4096)
    assert (await client.get("/api/health")).status_code == 200


async def test_a_port_that_is_taken_is_a_clear_error(
    client: httpx2.AsyncClient, base_dir: Path, tmp_path: Path
):
    config = Config(id="h2", base_dir=base_dir, home=tmp_path, api_port=client.base_url.port or 0)
    with pytest.raises(Refused, match="apiPort"):
        await serve_host_api(made(config, lambda: None))


# -- logs that go on


class Live:
    """A session that a test ends when it wants to."""


@pytest.fixture
def log(api: HostApi) -> Path:
    path = api.sessions.records.log_file("ar-a")
    path.write_bytes(b"one\ntwo\n\x1b[31mthree\x1b[0m\nbeg")
    api.sessions.live["ar-a"] = Live()
    return path


async def heard(parts: Any) -> Any:
    """The next event of a stream that is no comment: its lines, or `end`."""
    with trio.fail_after(10):
        async for line in parts:
            if line.startswith("event: end"):
                return "end"
            if line.startswith("data: ") and "lines" in line:
                return json.loads(line.removeprefix("data: "))["lines"]
    return None


@pytest.mark.spec("M-165")
async def test_a_log_is_followed_from_its_last_lines_to_the_end_of_its_session(
    client: httpx2.AsyncClient, api: HostApi, log: Path
):
    async with client.stream("GET", "/api/logs/ar-a?stream=1&lines=2") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        parts = answer.aiter_lines()
        assert await heard(parts) == ["two", "three"]
        with log.open("ab") as file:
            file.write(b"un\nnext\nhal")
        assert await heard(parts) == ["begun", "next"]
        log.write_bytes(b"anew\n")
        assert await heard(parts) == ["anew"]
        with log.open("ab") as file:
            file.write(b"x" * 100_000)
        pieces = await heard(parts)
        with log.open("ab") as file:
            file.write(b"last")
        api.sessions.live.clear()
        while (more := await heard(parts)) != "end":
            pieces += more
        assert "".join(pieces) == "x" * 100_000 + "last"
        assert await heard(parts) is None, "that was all"


async def test_a_log_keeps_its_control_sequences_if_that_is_asked_for(client: httpx2.AsyncClient, log: Path):
    async with client.stream("GET", "/api/logs/ar-a?stream=mirror&lines=1&raw=1") as answer:
        assert await heard(answer.aiter_lines()) == ["\x1b[31mthree\x1b[0m"]


async def test_so_many_logs_are_followed_and_no_more(client: httpx2.AsyncClient, log: Path):
    kept = []
    async with AsyncExitStack() as stack:
        for _ in range(16):
            answer = await stack.enter_async_context(client.stream("GET", "/api/logs/ar-a?stream=1"))
            kept.append(answer.aiter_lines())
            assert await heard(kept[-1]) == ["one", "two", "three"]
        assert (await client.get("/api/logs/ar-a?stream=1")).status_code == 503
        assert (await client.get("/api/logs/ar-a")).status_code == 200, "the rest goes on"
    with trio.fail_after(10):
        while True:
            async with client.stream("GET", "/api/logs/ar-a?stream=1") as answer:
                if answer.status_code == 200:
                    return
            await trio.sleep(0.02)


async def test_a_log_is_followed_only_by_who_has_the_token(client: httpx2.AsyncClient, log: Path):
    for path in ("/api/logs/ar-a?stream=1", "/api/logs/ar-none?stream=1", "/api/logs/..%2Fx?stream=1"):
        denied = await client.get(path, headers={"X-Agent-Relay-Token": "wrong"})
        assert denied.status_code == 401
    for name in ("ar-none", "..%2Fsessions%2Far-a", "x"):
        assert (await client.get(f"/api/logs/{name}?stream=1")).status_code == 400
