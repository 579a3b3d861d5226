"""The types accept the right programs and refuse the wrong ones, without a plugin."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

PROGRAM = Path(__file__).parent / "messages.py"
PYRIGHT = shutil.which("basedpyright", path=Path(sys.executable).parent)


def marked() -> set[int]:
    lines = PROGRAM.read_text().splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith("# refused")}


def test_mypy_refuses_the_marked_lines_and_no_other() -> None:
    said, trouble, _ = api.run(["--strict", "--config-file=", "--no-error-summary", str(PROGRAM)])
    refused = {int(found[1]) for found in re.finditer(r"messages\.py:(\d+): error:", said)}
    assert not trouble
    assert refused == marked(), said


@pytest.mark.skipif(PYRIGHT is None, reason="pyright is not installed; python3 dev.py check installs it")
def test_pyright_refuses_the_marked_lines_and_no_other(tmp_path: Path) -> None:
    assert PYRIGHT is not None
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"include": [str(PROGRAM)], "typeCheckingMode": "strict"})
    )
    command = [PYRIGHT, "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    found = json.loads(done.stdout)["generalDiagnostics"]
    refused = {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}
    assert refused == marked(), done.stdout
