"""The verbs, in this process, against a server process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import click.testing
import pytest

from relay.cli import main

Run = Callable[..., click.testing.Result]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    """Where a server runs; it is told to stop at the end, and must."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_RELAY")}
    with subprocess.Popen(
        [sys.executable, "-m", "relay", "serve", "--port", "0", "--json"],
        env=environment | {"RELAY_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        announced = server.stdout.readline()
        assert announced, server.stderr and server.stderr.read()
        yield json.loads(announced)["url"]
        server.terminate()
        assert server.wait(20) == 0


@pytest.fixture
def run(home: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("AGENT_RELAY_TOKEN", raising=False)
    monkeypatch.setenv("RELAY_HOME", str(home))
    monkeypatch.setenv("AGENT_RELAY_URL", url)

    def run(*arguments: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(main, arguments)

    return run


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a server; port 9 (discard) is not served."""
    monkeypatch.delenv("AGENT_RELAY_TOKEN", raising=False)
    monkeypatch.setenv("RELAY_HOME", str(tmp_path))
    monkeypatch.setenv("AGENT_RELAY_URL", "http://127.0.0.1:9")
    (tmp_path / "token").write_text("not-used-by-anybody")
    (tmp_path / "token").chmod(0o600)
    return tmp_path


def answer(result: click.testing.Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_message_is_sent_once_and_found_in_the_inbox(run: Run, url: str, home: Path) -> None:
    register(url, home, "planner")
    sent = answer(run("send", "planner", "tests pass", "--key", "k1", "--json"))
    again = answer(run("send", "planner", "tests pass", "--key", "k1", "--json"))
    assert sent == again
    assert (sent["from"], sent["to"], sent["body"]) == ("user", "planner", "tests pass")
    assert [
        message["id"] for message in answer(run("inbox", "planner", "--unread", "--mark-read", "--json"))
    ] == [sent["id"]]
    assert answer(run("inbox", "planner", "--unread", "--json")) == []
    assert "tests pass" in run("inbox", "planner").output


def test_agents_are_listed(run: Run, url: str, home: Path) -> None:
    register(url, home, "scout")
    assert "scout" in [agent["id"] for agent in answer(run("agents", "--json"))]
    assert "scout" in run("agents").output
    assert answer(run("agents", "--status", "offline", "--json")) == []


def test_events_are_followed_from_where_one_likes(run: Run) -> None:
    run("send", "nobody", "look here")
    line = json.loads(run("tail", "--after", "0", "--count", "1", "--json").stdout)
    assert line["id"] == 1
    assert "     1  " in run("tail", "--after", "0", "--count", "1").output


def test_nothing_to_show_is_said(run: Run) -> None:
    assert run("workspaces").output == "no workspaces\n"
    assert answer(run("workspaces", "--json")) == []


def test_a_refusal_names_what_why_and_what_next(run: Run) -> None:
    result = run("merge", "no-such-workspace")
    assert result.exit_code == 1
    assert result.stderr.startswith("relay: ")
    assert "why: " in result.stderr
    assert "relay workspaces" in result.stderr
    told = json.loads(run("merge", "no-such-workspace", "--json").stderr)
    assert set(told) == {"error", "why", "next"}


def test_a_wrong_token_is_told_from_a_missing_server(run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("some-other-token")
    result = run("agents", "--token-file", str(tmp_path / "token"))
    assert result.exit_code == 1
    assert "does not accept the token" in result.stderr
    result = run("agents", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no relay server answers at http://127.0.0.1:9" in result.stderr
    assert "relay serve" in result.stderr


def test_a_missing_token_file_is_named(nowhere: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_HOME", str(nowhere / "empty"))
    result = run("agents")
    assert result.exit_code == 1
    assert str(nowhere / "empty" / "token") in result.stderr


def test_a_second_server_on_one_database_says_who_holds_it(run: Run, home: Path) -> None:
    result = run("serve", "--port", "0", "--database", str(home / "relay.db"))
    assert result.exit_code == 1
    assert "in use by pid" in result.stderr


def test_usage_errors_end_with_two_and_a_suggestion(run: Run) -> None:
    result = run("agnets")
    assert result.exit_code == 2
    assert "agents" in result.stderr
    assert run("send", "only-a-target").exit_code == 2


def test_routes_are_listed_with_their_scopes(run: Run) -> None:
    routes = answer(run("routes", "--json"))
    assert {"method": "POST", "path": "/api/messages", "scope": "message:send"} in routes
    assert all(route["scope"] for route in routes)


def test_the_doctor_is_content_with_a_running_server(run: Run) -> None:
    findings = answer(run("doctor", "--json"))
    assert {finding["check"] for finding in findings} >= {"python", "git", "home", "disk", "token", "server"}
    assert all(finding["ok"] for finding in findings)


def test_the_doctor_looks_at_port_and_database_when_no_server_runs(
    nowhere: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_HOME", str(nowhere))
    monkeypatch.setenv("AGENT_RELAY_URL", "http://127.0.0.1:9")
    with apsw.Connection(str(nowhere / "relay.db")) as connection:
        connection.execute("create table t (x)")
    connection.close()
    checks = {finding["check"] for finding in answer(run("doctor", "--json"))}
    assert {"port", "database"} <= checks

    (nowhere / "relay.db").write_bytes(
        b"this is not a database, though it is long enough to be taken for one" * 99
    )
    (nowhere / "token").chmod(0o644)
    result = run("doctor")
    assert result.exit_code == 1
    assert "✗ database" in result.output
    assert "✗ token" in result.output
    assert "next: " in result.output


def register(url: str, home: Path, agent: str) -> None:
    import urllib.request

    request = urllib.request.Request(
        f"{url}/api/agents",
        data=json.dumps({"id": agent}).encode(),
        headers={
            "Authorization": f"Bearer {(home / 'token').read_text().strip()}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status in {200, 201}


def test_programs_that_cannot_start_say_what_to_do(run: Run, tmp_path: Path) -> None:
    result = run("orchestrator", "--base-dir", str(tmp_path / "absent"))
    assert result.exit_code == 1
    assert str(tmp_path / "absent") in result.stderr
    result = run("runner", "command")
    assert result.exit_code == 1
    assert "AGENT_RELAY_PROVIDER_CONFIG_JSON" in result.stderr
