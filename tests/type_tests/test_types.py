"""The types accept the right programs and refuse the wrong ones, without a plugin."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
PROGRAMS = ["messages.py", "simulations.py"]
PYRIGHT = shutil.which("basedpyright", path=Path(sys.executable).parent)


def marked(program: Path) -> set[int]:
    lines = program.read_text().splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith("# refused")}


@pytest.mark.parametrize("name", PROGRAMS)
def test_mypy_refuses_the_marked_lines_and_no_other(name: str) -> None:
    said, trouble, _ = api.run(["--strict", "--config-file=", "--no-error-summary", str(HERE / name)])
    refused = {int(found[1]) for found in re.finditer(rf"{re.escape(name)}:(\d+): error:", said)}
    assert not trouble
    assert refused == marked(HERE / name), said


@pytest.mark.skipif(PYRIGHT is None, reason="pyright is not installed; python3 dev.py check installs it")
@pytest.mark.parametrize("name", PROGRAMS)
def test_pyright_refuses_the_marked_lines_and_no_other(name: str, tmp_path: Path) -> None:
    assert PYRIGHT is not None
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"include": [str(HERE / name)], "typeCheckingMode": "strict"})
    )
    command = [PYRIGHT, "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    found = json.loads(done.stdout)["generalDiagnostics"]
    refused = {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}
    assert refused == marked(HERE / name), done.stdout
