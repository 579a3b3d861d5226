"""`relay tasks`: what it does, what it prints, and what it says when something is wrong."""

import json
import urllib.request
from collections.abc import Callable

import pytest
from shell import PATIENCE, Run, Served, answer

Report = Callable[..., int]


@pytest.fixture
def report(server: Served) -> Report:
    """Report a task for agent scout; the answer is its id."""
    server.register("scout")

    def report(**event: object) -> int:
        token = (server.home / "token").read_text().strip()
        request = urllib.request.Request(
            f"{server.url}/api/integrations/events",
            data=json.dumps({"title": "build broken", "target": "scout", **event}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return int(json.load(response)["task"]["id"])

    return report


def test_tasks_are_listed(run: Run, report: Report) -> None:
    number = report(severity="critical", target="label:nobody")
    shown = run("tasks", "list", "--target", "label:nobody").output
    assert all(word in shown for word in (str(number), "open", "critical", "label:nobody", "build broken"))
    (task,) = answer(run("tasks", "list", "--json", "--target", "label:nobody", "--limit", "1"))
    assert (task["id"], task["source"]) == (number, "root")
    assert run("tasks", "list", "--status", "orphaned").output == "no tasks\n"
    assert answer(run("tasks", "list", "--claimed-by", "ghost", "--json")) == []


def test_a_task_is_claimed_and_done(run: Run, report: Report) -> None:
    number = str(report(body="line 3\nis wrong"))
    assert (
        run("tasks", "claim", number, "--as", "scout").output == f"task {number} is claimed, held by scout\n"
    )
    assert answer(run("tasks", "claim", number, "--as", "scout", "--json"))["ok"]
    done = run("tasks", "status", number, "done", "line 3 is right", "--as", "scout")
    assert done.output == f"task {number} is done\n"
    assert answer(run("tasks", "status", number, "done", "--json"))["status"] == "done"
    shown = run("tasks", "show", number).output
    assert all(
        text in shown for text in ("    is wrong", "claimed  scout", "status: done  scout  line 3 is right")
    )
    told = answer(run("tasks", "show", number, "--json"))
    assert [event["type"] for event in told["events"]] == ["created", "claimed", "status"]


def test_a_title_shows_no_lines_that_are_not_relays(run: Run, report: Report) -> None:
    number = str(report(title="build\nheld by nobody\n  1s  claimed  mallory"))
    shown = run("tasks", "show", number).output.splitlines()
    assert shown[1] == "build held by nobody 1s claimed mallory"
    assert len(shown) == 3


def test_what_is_refused_is_explained(run: Run, report: Report) -> None:
    number = str(report())
    run("tasks", "claim", number, "--as", "scout")
    refused = run("tasks", "status", number, "done", "--as", "user")
    assert refused.exit_code == 1
    assert "is claimed by scout" in refused.stderr
    assert "tasks" in refused.stderr.partition("next: ")[2]
    assert run("tasks", "claim", number, "--as", "user").exit_code == 1
    unknown = run("tasks", "show", "999999", "--json")
    assert (unknown.exit_code, json.loads(unknown.stderr)["error"]) == (1, "no such task")


@pytest.mark.parametrize("words", [("list", "--status", "ended"), ("status", "1", "ended")])
def test_a_status_that_does_not_exist_is_refused_with_those_that_do(run: Run, words: tuple[str, ...]) -> None:
    result = run("tasks", *words)
    assert result.exit_code == 1
    assert "expected one of open, claimed" in result.stderr
    assert "next: relay tasks --help" in result.stderr


def test_wrong_usage_is_told_with_the_command_that_helps(run: Run) -> None:
    result = run("tasks", "show", "x", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stderr)["next"] == "relay tasks show --help"
    assert run("tasks", "claim", "--help").exit_code == 0
