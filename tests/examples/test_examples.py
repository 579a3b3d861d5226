"""Every example runs, and prints what it promises."""

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
    "counter.py": [
        "Life 1 found nothing, counted on, and was killed with SIGKILL.",
        "Life 2 found every count that was acknowledged, counted on, and was killed with SIGKILL.",
        "Life 3 found every count that was acknowledged, counted on, and was killed with SIGKILL.",
    ],
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
}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("[!t]*.py")))
def test_the_example_runs(name: str) -> None:
    done = run(EXAMPLES / name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PRINTS[name]


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
