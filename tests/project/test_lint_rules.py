"""The project's own rules bite: a copy of the configuration, a file that breaks a rule, and the tool that must say so."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our settings and no code."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "README.md").touch()
    return tmp_path


def findings(project: Path, path: str, code: str) -> set[str]:
    file = project / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'"""A module."""\n\n{code}\n')
    done = subprocess.run(
        [BIN / "ruff", "check", "--no-cache", "--output-format=json", path],
        cwd=project,
        capture_output=True,
        text=True,
    )
    return {finding["code"] for finding in json.loads(done.stdout)}


@pytest.mark.parametrize("package", ["actors", "store", "fleet"])
@pytest.mark.parametrize(
    "code",
    [
        "import time\n\ntime.sleep(1)",
        "import uuid\n\nuuid.uuid4()",
        "import random\n\nrandom.random()",
        "import datetime\n\ndatetime.datetime.now(datetime.UTC)",
        "from time import monotonic\n\nmonotonic()",
        "from uuid import uuid4\n\nuuid4()",
        "import secrets\n\nsecrets.token_hex()",
    ],
)
def test_time_ids_and_chance_come_from_the_system(project: Path, package: str, code: str) -> None:
    assert "TID251" in findings(project, f"relay/{package}/_new.py", code)


@pytest.mark.parametrize(
    "path", ["relay/actors/_clock.py", "relay/http/new.py", "relay/runner/new.py", "tests/test_new.py"]
)
def test_the_clock_module_and_the_programs_may_look_at_the_clock(project: Path, path: str) -> None:
    assert "TID251" not in findings(project, path, "import time\n\ntime.monotonic()")


def test_blocking_calls_in_async_code_are_found(project: Path) -> None:
    code = "import time\n\n\nasync def wait() -> None:\n    time.sleep(1)"
    assert "ASYNC251" in findings(project, "relay/http/new.py", code)


@pytest.mark.parametrize(
    ("importer", "imported", "contract"),
    [
        ("actors", "relay.store", "The server's layers"),
        ("store", "relay.fleet", "The server's layers"),
        ("fleet", "relay.http", "The server's layers"),
        ("http", "relay.cli", "The server's layers"),
        ("wire", "relay.client", "The wire contract is a leaf"),
        ("orchestrator", "relay.fleet", "Host daemon and runner are clients like any other"),
        ("runner", "relay.store", "Host daemon and runner are clients like any other"),
        ("fleet", "quart", "Only the edge knows Quart and Hypercorn"),
        ("client", "hypercorn", "Only the edge knows Quart and Hypercorn"),
        ("actors", "orjson", "The runtime needs trio and attrs"),
        ("http", "relay.client", "What the server is made of never reaches for its clients"),
    ],
)
def test_an_import_against_the_layers_is_found(
    project: Path, importer: str, imported: str, contract: str
) -> None:
    for package in (ROOT / "relay").iterdir():
        if (package / "__init__.py").exists():
            (project / "relay" / package.name).mkdir(parents=True)
            (project / "relay" / package.name / "__init__.py").touch()
    (project / "relay" / "__init__.py").touch()
    (project / "relay" / importer / "__init__.py").write_text(f"import {imported}\n")
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache"],
        cwd=project,
        env={"PYTHONPATH": str(project), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"relay.{importer} is not allowed to import {imported}" in done.stdout
    assert any(line.startswith(contract) and line.endswith("BROKEN") for line in done.stdout.splitlines())
