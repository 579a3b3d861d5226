"""Every example runs, and prints what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PRINTS = {
    "embedding.py": ["total 6"],
    "fleet.py": [
        "reviewer got: please look at branch x",
        "writer got: looks good (from reviewer, in reply to message 1)",
        "reviewer is online",
        "writer is online",
    ],
    "supervision.py": [
        "started",
        "100 / 4 = 25.0",
        "failed: float division by zero",
        "started",
        "100 / 5 = 20.0",
    ],
}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_the_example_runs(name: str) -> None:
    done = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PRINTS[name]
