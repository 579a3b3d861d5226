"""`relay recipes`, against a server."""

import json
from pathlib import Path

import pytest
from shell import Run, Served, answer

RECIPE = """
name = "solo"
description = "One agent, one task."
[input]
about = "what to do"
[[roles]]
role = "worker"
provider = "claude"
[[steps]]
id = "work"
to = "worker"
body = "{{input}}"
"""


@pytest.fixture
def folder(server: Served) -> Path:
    server.call("POST", "orchestrators", {"id": "h1", "hostname": "h1", "baseDir": "/srv"})
    path = server.home / "recipes"
    path.mkdir(exist_ok=True)
    (path / "solo.toml").write_text(RECIPE)
    return path


def test_a_recipe_is_started_watched_decided_on_and_stopped(run: Run, server: Served, folder: Path) -> None:
    assert [each["name"] for each in answer(run("recipes", "--json"))][-2:] == ["solo", "test"]
    assert "user" in run("recipes").output
    shown = run("recipes", "show", "solo").output
    assert "--input says what to do." in shown
    assert "work: task for worker" in shown
    made = answer(run("recipes", "start", "solo", "--input", "this", "--as", "ada", "--json"))
    key, command = made["instance"]["id"], made["commands"][0]["id"]
    assert made["instance"]["startedBy"] == "ada"
    assert key in run("recipes", "status", "--status", "starting").output
    for status in ("running", "timed_out"):
        server.call("PATCH", f"commands/{command}", {"status": status})
    told = run("recipes", "status", key).output
    assert f"next: relay recipes decide {key} spawn:worker retry" in told
    assert "running" in run("recipes", "decide", key, "spawn:worker", "succeeded").output
    found = answer(run("recipes", "status", key, "--json"))
    assert [step["status"] for step in found["steps"]] == ["succeeded", "asked"]
    assert f"task {found['steps'][1]['taskId']}" in run("recipes", "status", key).output
    assert "1 agent to be shut down" in run("recipes", "stop", key).output
    assert answer(run("recipes", "status", "--json"))[0]["status"] == "stopping"


def test_files_are_checked_without_a_server(run: Run, nowhere: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.yaml"
    good.write_text(RECIPE)
    bad.write_text("name: bad\ndescripton: x\nroles:\n- {role: r, provider: gpt}\n")
    assert run("recipes", "check", str(good)).output == f"{good}: all is well\n"
    told = run("recipes", "check", str(good), str(bad))
    assert told.exit_code == 1
    assert f"{bad}: roles[0].provider: expected one of claude, codex, command (line 4)" in told.output
    assert f"{bad}: descripton: there is no such member; did you mean description? (line 2)" in told.output
    as_json = run("recipes", "check", str(bad), "--json")
    assert as_json.exit_code == 1
    assert len(json.loads(as_json.stdout)[0]["problems"]) == 3
    assert run("recipes", "check", str(tmp_path / "none.toml")).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "none"),
        ("start", "none"),
        ("start", "solo"),
        ("status", "none"),
        ("status", "--status", "odd"),
        ("stop", "none"),
        ("decide", "none", "s", "retry"),
        ("decide", "none", "s", "perhaps"),
    ],
)
def test_what_cannot_be_done_is_told_with_a_next_step(
    run: Run, folder: Path, arguments: tuple[str, ...]
) -> None:
    told = json.loads(run("recipes", *arguments, "--json").stderr)
    assert told["next"].startswith("relay ")
