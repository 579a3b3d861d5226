"""What the documents name is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from relay.actors import Context, Ref, System

ROOT = Path(__file__).parent.parent.parent


def test_every_guarantee_names_a_test_that_there_is() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", text)
    promised = re.findall(r"^- \*\*G\d+", text, re.MULTILINE)
    assert len(named) >= len(promised) > 20
    for file, test in named:
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), f"{file}::{test}"


def test_guarantees_are_numbered_in_order() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    numbers = [int(number) for number in re.findall(r"^- \*\*G(\d+)", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / document).parent / target).exists(), target


def test_each_block_on_testing_is_a_test_file(tmp_path: Path) -> None:
    reminder, account, deposits = blocks("testing.md")
    (tmp_path / "test_reminder.py").write_text(reminder)
    (tmp_path / "test_account.py").write_text(account)
    (tmp_path / "test_deposits.py").write_text(deposits)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert re.findall(r"::(\w+) (PASSED|FAILED) ", done.stdout) == [
        ("test_nothing_that_is_paid_in_is_lost", "FAILED"),
        ("test_deposits_survive", "PASSED"),
        ("test_a_reminder_comes_after_an_hour", "PASSED"),
    ], done.stdout
    said = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
    shown = [line for line in (ROOT / "docs/testing.md").read_text().splitlines() if line.startswith("E  ")]
    assert said[0] == shown[0]
    assert [line.partition("--relay-seed")[0] for line in (said[-1], shown[-1])] == [
        "E           replay: pytest test_account.py::test_nothing_that_is_paid_in_is_lost "
    ] * 2


def test_the_tour_of_the_runtime_runs() -> None:
    program = "\n".join(blocks("runtime.md"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "1 of bolt are left\n"), done.stderr


def test_the_tour_of_the_runtime_names_what_there_is() -> None:
    text = (ROOT / "docs" / "runtime.md").read_text()
    names = set(re.findall(r"`(?:context|system|ref)\.(\w+)", text))
    assert len(names) > 10
    for name in names:
        assert any(hasattr(owner, name) for owner in (Context, System, Ref)) or name in {
            "dead_letters",
            "failures",
            "random",
            "new_id",
        }


def blocks(document: str) -> list[str]:
    """The Python in a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / document).read_text(), re.DOTALL)
