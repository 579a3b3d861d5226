"""What is shipped: a fast command line, and every file the program needs."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
HEAVY = {"trio", "quart", "hypercorn", "rich", "httpx2", "apsw", "attrs", "cattrs", "orjson"}


@pytest.mark.parametrize("arguments", [["--help"], ["send", "--help"], ["demo", "--help"], ["--version"]])
def test_help_loads_click_and_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from relay.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(json.loads(done.stderr))


def test_the_wheel_has_migrations_types_and_licence(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "relay/py.typed" in names
    assert "relay/store/migrations/0001_initial.sql" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
