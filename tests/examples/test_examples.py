"""Every example runs, and prints what it promises."""

import shutil
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
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)
