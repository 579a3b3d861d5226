"""The demo's scripted agent, as a process of its own in a real repository, spoken to over its pipes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import relay.cli.demo.agent as program

Start = Callable[[], "Talk"]


class Talk:
    """The runner's side of one agent process."""

    def __init__(self, plan: Path, worktree: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", program.__file__, str(plan)],
            cwd=worktree,
            env=os.environ | {"AGENT_RELAY_URL": "http://127.0.0.1:9", "AGENT_RELAY_TOKEN": "unused"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.passed_over: list[dict[str, Any]] = []

    def say(self, **frame: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(frame) + "\n")
        self.process.stdin.flush()

    def expect(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first frame of that kind not asked for yet; pytest's faulthandler limit bounds the wait."""

        def fits(frame: dict[str, Any]) -> bool:
            return frame["type"] == kind and fields.items() <= frame.items()

        for number, frame in enumerate(self.passed_over):
            if fits(frame):
                return self.passed_over.pop(number)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            frame = json.loads(line)
            if fits(frame):
                return frame
            self.passed_over.append(frame)
        raise AssertionError(f"the agent ended with {self.process.wait(10)} before it said {kind} {fields}")

    def end(self) -> None:
        with self.process as process:  # closes the pipes
            process.kill()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    for setting in ("user.name=Ada", "user.email=ada@example.org"):
        subprocess.run(["git", "-C", str(repo), "config", *setting.split("=")], check=True)
    subprocess.run(["git", "-C", str(repo), "commit", "-q", "--allow-empty", "-m", "start"], check=True)
    return repo


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def start(repo: Path, journal: Path, tmp_path: Path) -> Iterator[Start]:
    step = {"id": "ben/1", "file": "notes/ben.md", "lines": ["one", "two"], "subject": "Take notes"}
    plan = {"name": "ben", "lead": "ada", "next": "ada", "team": ["ada", "ben"], "steps": [step], "pace": 0}
    (tmp_path / "plan.json").write_text(json.dumps(plan | {"journal": str(journal)}))
    talks: list[Talk] = []

    def start() -> Talk:
        talks.append(Talk(tmp_path / "plan.json", repo))
        return talks[-1]

    yield start
    for talk in talks:
        talk.end()


def entries(journal: Path, event: str) -> list[dict[str, Any]]:
    return [
        entry for line in journal.read_text().splitlines() if (entry := json.loads(line))["event"] == event
    ]


def test_it_answers_its_runner_and_commits_its_step(start: Start, repo: Path) -> None:
    agent = start()
    agent.say(type="hello", protocol=1)
    agent.say(type="ping", id="p1")
    agent.expect("reply", to="label:ada", idempotencyKey="ben-ready")
    assert (repo / "notes/ben.md").read_text() == "one\ntwo\n"
    log = subprocess.run(["git", "-C", str(repo), "log", "-1", "--format=%B"], capture_output=True, text=True)
    assert log.stdout.strip() == "Take notes\n\nRelay-Demo: ben/1"
    agent.say(type="shutdown")
    assert agent.process.wait(10) == 0


def test_a_message_is_noted_before_it_is_acknowledged_and_once_only(start: Start, journal: Path) -> None:
    message = {"id": 7, "from": "a-1", "to": "ben", "body": "ada here [ada-hello]"}
    agent = start()
    agent.say(type="messages", id="d1", messages=[message])
    agent.expect("ack", id="d1")
    assert [entry["id"] for entry in entries(journal, "received")] == [7]
    agent.end()

    again = start()
    again.say(type="messages", id="d2", messages=[message])
    again.expect("ack", id="d2")
    assert len(entries(journal, "received")) == 1
    assert len(entries(journal, "redelivered")) == 1
    again.expect("reply", to="label:ada", idempotencyKey="ben-welcomes-ada")


def test_a_second_life_neither_commits_nor_sends_anew(start: Start, repo: Path, journal: Path) -> None:
    first = start()
    first.expect("reply", idempotencyKey="ben-ready")
    first.end()

    second = start()
    second.expect("reply", idempotencyKey="ben-hello")
    second.expect("reply", idempotencyKey="ben-ready")
    assert [entry["key"] for entry in entries(journal, "sent")] == ["ben-hello", "ben-ready"]
    count = subprocess.run(
        ["git", "-C", str(repo), "rev-list", "--count", "HEAD"], capture_output=True, text=True
    )
    assert count.stdout.strip() == "2"


def test_it_ends_with_its_runner(start: Start) -> None:
    agent = start()
    assert agent.process.stdin is not None
    agent.process.stdin.close()
    assert agent.process.wait(10) == 0
