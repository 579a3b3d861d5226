"""`relay automations`, against a server."""

import json

import pytest
from shell import Run, answer


def add(run: Run, *arguments: str) -> str:
    return str(answer(run("automations", "add", *arguments, "--json"))["id"])


@pytest.mark.spec("AUT-1", "AUT-3", "AUT-4", "AUT-5", "AUT-7", "AUT-11")
def test_an_automation_is_made_begun_switched_and_removed(run: Run) -> None:
    told = run("automations", "add", "nightly", "--cron", "30 2 * * *", "--zone", "Europe/Berlin",
               "--message", "user", "--body", "it is late").output  # fmt: skip
    assert "nightly: enabled, runs at 30 2 * * * (Europe/Berlin); next: " in told
    assert "02:30:00 CE" in told
    key = told.split()[0]
    coming = run("automations", "next", key, "--limit", "3").output.splitlines()
    assert len(coming) == 3
    assert all("02:30:00 CE" in line or "03:00:00 CEST" in line for line in coming)
    assert len(answer(run("automations", "next", key, "--json"))) == 5
    assert "run run_" in run("automations", "run", key).output
    listed = run("automations", "list").output
    assert all(word in listed for word in ("enabled", "message", "nightly"))
    assert "disabled" in run("automations", "disable", key).output
    assert "nothing is planned" in run("automations", "next", key).output
    assert "enabled" in run("automations", "enable", key).output
    done = answer(run("automations", "run", key, "--json"))
    (first, second) = answer(run("automations", "runs", key, "--json"))
    assert (first, second["status"]) == (done["run"], "succeeded")
    assert "succeeded" in run("automations", "runs", "--status", "succeeded").output
    assert "body: it is late" in run("automations", "show", key).output
    assert answer(run("automations", "show", key, "--json"))["id"] == key
    assert run("automations", "remove", key).output == f"{key} is removed\n"
    assert json.loads(run("automations", "show", key, "--json").stderr)["why"].endswith("answered 404")


def test_every_kind_of_schedule_and_action_can_be_said(run: Run) -> None:
    made = [
        answer(run("automations", "add", "n", *arguments, "--json"))
        for arguments in (
            ("--task", "cap:review", "--title", "look", "--severity", "warning", "--body", "at all"),
            ("--every", "600", "--spawn", "claude", "--prompt", "go", "--label", "l", "--host", "h", "--cwd", "/b"),
            ("--at", "2050-01-31T09:00", "--zone", "Asia/Kolkata", "--message", "user", "--body", "x", "--disabled"),
            ("--at", "2050-01-31T09:00+01:00", "--message", "user", "--body", "x", "--subject", "s"),
            ("--on", "task.created", "--of", "7", "--where", "severity=critical", "--where", "metadata.n=3",
             "--message", "user", "--body", "x", "--allow-overlap"),
        )
    ]  # fmt: skip
    assert [each["schedule"] for each in made] == [
        {"type": "manual"},
        {"type": "interval", "seconds": 600},
        {"type": "once", "at": 2_527_212_600_000},
        {"type": "once", "at": 2_527_228_800_000},
        {"type": "event", "event": "task.created", "subject": "7", "where": {"severity": "critical", "metadata.n": 3}},
    ]  # fmt: skip
    assert [each["action"]["type"] for each in made] == ["task", "spawn", "message", "message", "message"]
    assert [each["enabled"] for each in made] == [True, True, False, True, True]
    assert made[-1]["overlap"] == "allow"
    shown = run("automations", "list").output
    assert all(word in shown for word in ("by hand", "every 600", "once", "task.created"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("add", "n"), "it is not said what to do"),
        (("add", "n", "--message", "user"), "--message needs --body"),
        (("add", "n", "--task", "user"), "--task needs --title"),
        (("add", "n", "--spawn", "robot"), "there is no provider robot"),
        (("add", "n", "--task", "user", "--title", "t", "--severity", "bad"), "there is no severity bad"),
        (("add", "n", "--every", "60", "--cron", "* * * * *", "--message", "u", "--body", "b"), "do not go together"),
        (("add", "n", "--of", "x", "--message", "u", "--body", "b"), "--of and --where are about events"),
        (("add", "n", "--on", "task.created", "--where", "x", "--message", "u", "--body", "b"), "names no member"),
        (("add", "n", "--at", "tomorrow", "--message", "u", "--body", "b"), "--at tomorrow is no time"),
        (("add", "n", "--at", "2001-01-01", "--message", "u", "--body", "b"), "is over"),
        (("add", "n", "--at", "2050-01-01", "--zone", "Mars", "--message", "u", "--body", "b"), "is no time"),
        (("add", "n", "--cron", "0 0 * *", "--message", "u", "--body", "b"), "expected five fields"),
        (("add", "n", "--cron", "0 0 * * *", "--zone", "Mars", "--message", "u", "--body", "b"), "no time zone"),
        (("add", "n", "--on", "tsak.done", "--message", "u", "--body", "b"), "there is no event tsak.done; "),
        (("runs", "--status", "odd"), "no run can be odd"),
        (("run", "none"), "no such automation"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_with_a_next_step(
    run: Run, arguments: tuple[str, ...], problem: str
) -> None:
    result = run("automations", *arguments, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stderr)
    assert problem in told["error"]
    assert told["next"].startswith("relay ")
