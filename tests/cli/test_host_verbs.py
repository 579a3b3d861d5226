"""`relay hosts`, against a server and a host's API that this test plays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from shell import Run, Served, answer

ANSWERS = {
    "/api/sessions": {"sessions": [{"name": "ar-a", "agentId": "a1", "pid": 7, "alive": True}, "nonsense"]},
    "/api/directories": {"path": "/base", "entries": [{"name": "repo", "path": "/base/repo"}]},
    "/api/logs/ar-a": {"session": "ar-a", "lines": ["one", "two\u001b[2J"], "running": True},
    "/api/workspace/probe": {
        "worktrees": [{"path": "/base/wt/x", "branch": "agent/x", "headSha": "s"}, {"path": "/base/repo"}]
    },
}


class Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        followed = "stream=1" in query
        lines = b'data: {"lines": ["one"]}\n\ndata: {"lines": ["two"]}\n\nevent: end\ndata: {}\n\n'
        body = lines if followed else json.dumps(ANSWERS.get(path, {"error": "no"})).encode()
        self.send_response(200 if path in ANSWERS else 400)
        self.send_header("content-type", "text/event-stream" if followed else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: Any) -> None: ...


@contextmanager
def host_api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def host(server: Served) -> Iterator[None]:
    with host_api() as url:
        card = {"id": "h1", "hostname": "h", "baseDir": "/base", "version": "1.0.0", "apiUrl": url}
        server.call("POST", "orchestrators", card)
        workspace = {
            "id": "w1",
            "mode": "isolated",
            "repoRoot": "/base/repo",
            "sourceCwd": "/base/repo",
            "worktreePath": "/base/wt/y",
            "branch": "agent/y",
        }
        agent = {
            "agentId": "a1",
            "provider": "claude",
            "sessionName": "ar-a",
            "pid": 7,
            "workspace": workspace,
        }
        server.call("PATCH", "orchestrators/h1/agents", {"agents": [agent]})
        yield


def test_hosts_are_listed_and_shown(run: Run, host: None) -> None:
    assert [each["id"] for each in answer(run("hosts", "--json"))] == ["h1"]
    assert "1.0.0" in run("hosts", "list", "--status", "online").output
    assert "no hosts" in run("hosts", "--status", "offline").output
    shown = run("hosts", "show", "h1").output
    assert "h1 is online, of 1.0.0" in shown
    assert "ar-a" in shown
    assert answer(run("hosts", "show", "h1", "--json"))["managedAgents"][0]["agentId"] == "a1"


def test_what_only_the_host_knows_is_shown(run: Run, host: None) -> None:
    assert "ar-a" in run("hosts", "sessions", "h1").output
    assert "/base/repo" in run("hosts", "directories", "h1", "/base").output
    told = run("hosts", "logs", "h1", "ar-a").output
    assert "one\n" in told
    assert "\x1b" not in told, "what an agent prints does not steer the terminal"
    assert run("hosts", "logs", "h1", "ar-a", "--follow").output == "one\ntwo\n"
    followed = run("hosts", "logs", "h1", "ar-a", "--follow", "--json").output.splitlines()
    assert [json.loads(line) for line in followed] == [{"line": "one"}, {"line": "two"}]
    assert answer(run("hosts", "sessions", "h1", "--json")) == ANSWERS["/api/sessions"]


@pytest.mark.spec("ORC-43", "W-36", "W-38")
def test_a_host_is_upgraded(run: Run, host: None) -> None:
    assert "h1 is to become 1.1.0" in run("hosts", "upgrade", "h1", "--to", "1.1.0").output
    assert "upgrade from 1.0.0 to 1.1.0: pending" in run("hosts", "show", "h1").output
    older = run("hosts", "upgrade", "h1", "--to", "0.9.0")
    assert older.exit_code == 1
    assert "force" in older.stderr
    forced = answer(run("hosts", "upgrade", "h1", "--to", "0.9.0", "--force", "--part", "all", "--json"))
    assert forced["params"]["providers"] == ["all"]


@pytest.mark.spec("W-107", "W-109")
def test_orphans_are_listed_and_reclaimed(run: Run, host: None) -> None:
    assert "/base/wt/x" in run("hosts", "orphans").output
    assert [each["branch"] for each in answer(run("hosts", "orphans", "--json"))] == ["agent/x"]
    told = run("hosts", "reclaim", "/base/repo", "/base/wt/x", "--branch", "agent/x").output
    assert "orchestrator-h1 is to remove /base/wt/x" in told
    assert run("hosts", "reclaim", "/base/repo", "/base/wt/y").exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--status", "odd"),
        ("show", "none"),
        ("upgrade", "none"),
        ("upgrade", "h1", "--to", "latest"),
        ("upgrade", "h1", "--part", "odd"),
        ("sessions", "none"),
        ("logs", "none", "s"),
        ("logs", "none", "s", "--follow"),
        ("logs", "h1", "none"),
        ("reclaim", "repo", "worktree"),
        ("forget", "none"),
    ],
)
def test_what_cannot_be_done_with_hosts_is_told_with_a_next_step(
    run: Run, host: None, arguments: tuple[str, ...]
) -> None:
    told = json.loads(run("hosts", *arguments, "--json").stderr)
    assert told["error"]
    assert told["next"].startswith("relay ")


def test_a_host_that_does_not_answer_is_told_as_that(run: Run, server: Served) -> None:
    card = {"id": "h9", "hostname": "h", "baseDir": "/base", "apiUrl": "http://127.0.0.1:9"}
    server.call("POST", "orchestrators", card)
    failed = run("hosts", "sessions", "h9")
    assert failed.exit_code == 1
    assert "h9: the host cannot be reached" in failed.stderr
    assert "orchestrator runs" in failed.stderr
    assert "forgotten" in run("hosts", "forget", "h9").output
