"""Every example runs, and prints what it promises."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PRINTS = {
    "agent.py": [],  # nobody speaks to it here; test_walk.py does
    "bank.py": [
        "Ann sends 30 to Ben:",
        "  ann has 70; bookings of this incarnation: 1",
        "  ben has 50; bookings of this incarnation: 1",
        "Refused, and the account goes on: ann has 70, which is less than 500",
        "Crashed by a bug: integer division or modulo by zero",
        "Ann's account is started again. Ref, mailbox and balances are the same, its own state is not:",
        "  ann has 75; bookings of this incarnation: 1",
        "Ben's account did not notice:",
        "  ben has 55; bookings of this incarnation: 2",
    ],
    "chat.py": [
        "Ben hears ['Ada: is there coffee?']",
        "Ada hears ['Ben: half a pot']",
        "Next door: ['Welcome to the garden']",
    ],
    "connector.py": ["a connector: relay runs it with an action as its argument"],
    "fleet.py": [
        "reviewer got: please look at branch x",
        "writer got: looks good (from reviewer, in reply to message 1)",
        "reviewer is online",
        "writer is online",
    ],
    "hello.py": [
        "Hello, Ada! You are number 1.",
        "Bonjour, Blaise! You are number 2.",
    ],
    "philosophers.py": [
        "Everybody takes the left fork first:",
        "  Arendt goes hungry: DeadlockError('fork 4 (Hold) -> fork 0 (Hold) -> fork 1 (Hold) -> fork 2 (Hold) -> fork 3 (Hold) -> fork 4 (Hold)')",
        "  Spinoza has eaten",
        "  Averroes has eaten",
        "  Hypatia has eaten",
        "  Plato has eaten",
        "Everybody takes the fork with the lower number first:",
        "  Spinoza has eaten",
        "  Averroes has eaten",
        "  Hypatia has eaten",
        "  Plato has eaten",
        "  Arendt has eaten",
    ],
    "rate_limiter.py": [
        " 0.0 s  ann gets a bucket of 3 tokens",
        " 0.0 s  ann may: yes, yes, yes, no, no",
        " 0.0 s  bob gets a bucket of 3 tokens",
        " 0.0 s  bob may: yes",
        " 2.5 s  ann may: yes, yes, no",
        " 2.5 s  2 buckets are awake: ann, bob",
        "62.5 s  0 buckets are awake",
        "62.5 s  ann gets a bucket of 3 tokens",
        "62.5 s  ann may: yes",
    ],
    "supervisor.py": [
        "  disk starts",
        "  cache starts, with Supervisor/disk",
        "  index starts, with Supervisor/disk, with Supervisor/cache",
        "  cache ends",
        "cache breaks",
        "  index ends",
        "  cache starts, with Supervisor/disk",
        "  index starts, with Supervisor/disk, with Supervisor/cache",
        "index works",
        "  disk ends",
        "disk breaks",
        "  index ends",
        "  cache ends",
        "  disk starts",
        "  cache starts, with Supervisor/disk",
        "  index starts, with Supervisor/disk, with Supervisor/cache",
        "index works",
        "  cache ends",
        "cache breaks",
        "  index ends",
        "  disk ends",
        "That was once too often, and the block ends with RestartsExhausted.",
    ],
}


BY_CHANCE = {"counter.py", "flaky.py"}


@pytest.mark.parametrize("name", sorted({path.name for path in EXAMPLES.glob("[!t]*.py")} - BY_CHANCE))
def test_the_example_runs(name: str) -> None:
    done = run(EXAMPLES / name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PRINTS[name]


def test_the_counter_finds_what_was_acknowledged() -> None:
    done = run(EXAMPLES / "counter.py")
    assert done.returncode == 0, done.stderr
    lives = re.findall(r"^Life \d found (\d+), was answered up to (\d+), then was killed", done.stdout, re.M)
    acknowledged = 0
    for found, last in [(int(found), int(last)) for found, last in lives]:
        assert found in {acknowledged, acknowledged + 1} and last > found
        acknowledged = last
    assert len(lives) == 3


def test_the_flaky_test_is_flaky_and_its_schedule_is_not() -> None:
    done = run(EXAMPLES / "flaky.py")
    assert done.returncode == 0, done.stderr
    passed = re.search(r": (\d+) of 200 runs pass", done.stdout)
    assert passed and 0 < int(passed[1]) < 200, done.stdout
    assert re.search(r"^    assert 10 == 20\n    run \d+ of this test failed", done.stdout, re.M), done.stdout
    assert re.search(r"^    replay: pytest \S+ --relay-seed=\d+ --relay-replay=\S+$", done.stdout, re.M)
    assert "Replayed 3 times, it fails 3 times in the same way" in done.stdout
    assert re.search(r": 500 runs, \d+ steps", done.stdout), done.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_the_example_has_less_than_80_lines(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 80


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("test_*.py")))
def test_the_example_passes(name: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / name, tmp_path)
    done = run("-m", "pytest", "-v", "-p", "no:cacheprovider", tmp_path / name)
    assert done.returncode == 0, done.stdout
    assert "steps/s" in done.stdout


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
