"""The verbs: what they do, what they print, and what they say when the server says no."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from shell import Run, Served, answer, clean, invoke, started

from relay import wire


def test_agents_are_listed(run: Run, server: Served) -> None:
    server.register("scout")
    assert "scout" in [agent["id"] for agent in answer(run("agents", "--json"))]
    assert "scout" in run("agents").output
    assert answer(run("agents", "--status", "offline", "--json")) == []


@pytest.mark.parametrize("verb", ["agents", "workspaces"])
def test_a_status_that_does_not_exist_is_refused_with_those_that_do(run: Run, verb: str) -> None:
    result = run(verb, "--status", "bogus")
    assert result.exit_code == 1
    assert "expected one of " in result.stderr
    assert f"next: relay {verb} list --help" in result.stderr


def test_events_are_followed_from_where_one_likes(run: Run) -> None:
    run("send", "nobody", "look here")
    line = json.loads(run("tail", "--after", "0", "--count", "1", "--json").stdout)
    assert line["id"] == 1
    assert "     1  " in run("tail", "--after", "0", "--count", "1").output


def test_following_events_where_no_server_is_fails_like_any_other_verb(nowhere: Path) -> None:
    result = invoke("tail")
    assert result.exit_code == 1
    assert "no relay server answers" in result.stderr
    assert "relay serve" in result.stderr


def test_following_events_ends_when_nobody_reads_them_any_more(run: Run, server: Served) -> None:
    run("send", "nobody", "the last event for a while")
    settings = {"RELAY_HOME": str(server.home), "AGENT_RELAY_URL": server.url}
    with started("tail", "--after", "0", **settings) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        process.wait(20)
        assert process.stderr.read() == ""


def test_nothing_to_show_is_said(run: Run) -> None:
    assert run("workspaces").output == "no workspaces\n"
    assert answer(run("workspaces", "--json")) == []


@pytest.mark.parametrize("group", ["channels", "connectors", "dlq", "pairs", "tasks"])
def test_a_group_lists_what_there_is_unless_told_otherwise(run: Run, group: str) -> None:
    assert run(group).output == run(group, "list").output
    assert answer(run(group, "--json")) == []
    assert "Commands:" in run(group, "--help").output
    assert "Commands:" in run(group, "-h").output
    assert run(group, "--bogus").exit_code == run(group, "bogus").exit_code == 2


def test_a_group_takes_the_options_of_its_list(run: Run) -> None:
    assert run("pairs", "--status", "bogus").stderr == run("pairs", "list", "--status", "bogus").stderr


@pytest.mark.parametrize(
    ("arguments", "list_"),
    [
        (("tasks", "show", "999"), "relay tasks"),
        (("pairs", "show", "none"), "relay pairs"),
        (("channels", "unbind", "none"), "relay channels"),
        (("connectors", "show", "none"), "relay connectors"),
        (("dlq", "redeliver", "999"), "relay dlq"),
        (("merge", "none"), "relay workspaces"),
        (("inbox", "nobody-at-all"), "relay agents"),
    ],
)
def test_what_is_not_there_is_told_with_where_to_look(
    run: Run, arguments: tuple[str, ...], list_: str
) -> None:
    assert json.loads(run(*arguments, "--json").stderr)["next"].startswith(list_)


def test_a_refusal_names_what_why_and_what_next(run: Run) -> None:
    result = run("merge", "no-such-workspace")
    assert result.exit_code == 1
    assert result.stderr.startswith("relay: ")
    assert "why: " in result.stderr
    assert "relay workspaces" in result.stderr
    told = json.loads(run("merge", "no-such-workspace", "--json").stderr)
    assert set(told) == {"error", "why", "next"}


@pytest.mark.parametrize(
    "arguments", [("send", "sleeper", "hi"), ("send", "pool:p", "hi"), ("send", "x", "")]
)
def test_every_refusal_has_a_next_step(run: Run, server: Served, arguments: tuple[str, ...]) -> None:
    server.register("sleeper", status=wire.AgentStatus.OFFLINE)
    told = json.loads(run(*arguments, "--json").stderr)
    assert told["next"].startswith("relay ")


def test_a_wrong_token_is_told_from_a_missing_server(run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("some-other-token")
    result = run("agents", "--token-file", str(tmp_path / "token"))
    assert result.exit_code == 1
    assert "does not accept the token" in result.stderr
    result = run("agents", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no relay server answers at http://127.0.0.1:9" in result.stderr
    assert "relay serve" in result.stderr


def test_a_missing_token_file_is_named(run: Run, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_HOME", str(nowhere / "empty"))
    result = run("agents")
    assert result.exit_code == 1
    assert str(nowhere / "empty" / "token") in result.stderr


@pytest.mark.parametrize(
    "content", [b"secret\nin two lines", b"\xff\xfe not text", b"", "secret-ümlaut".encode()]
)
def test_a_file_that_holds_no_token_is_named_and_not_shown(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    result = run("agents", "--token-file", str(tmp_path / "token"))
    assert result.exit_code == 1
    assert f"relay: {tmp_path / 'token'} holds no token" in result.stderr
    assert "next: " in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
@pytest.mark.parametrize("verb", [("routes",), ("routes", "--json"), ("agents",), ("tail", "--after", "0")])
def test_output_that_cannot_be_written_is_an_error_without_a_traceback(
    run: Run, server: Served, verb: tuple[str, ...]
) -> None:
    run("send", "nobody", "an event")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "relay", *verb],
            env=clean(RELAY_HOME=str(server.home), AGENT_RELAY_URL=server.url),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_usage_errors_end_with_two_and_a_suggestion(run: Run) -> None:
    result = run("agnets")
    assert result.exit_code == 2
    assert "agents" in result.stderr
    assert run("send", "only-a-target").exit_code == 2


def test_routes_are_listed_with_their_scopes(run: Run) -> None:
    routes = answer(run("routes", "--json"))
    assert {"method": "POST", "path": "/api/messages", "scope": "message:send"} in routes
    assert all(route["scope"] for route in routes)
