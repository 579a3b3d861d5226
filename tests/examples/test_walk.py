"""The walk in README.md: pasted into a shell as it stands there, it ends with a commit that an agent has landed.

What differs is where it happens: the home folder is a temporary one, and the port a free one.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli.demo.ports import reserve_port
from relay.cli.demo.processes import caused, marked

ROOT = Path(__file__).parent.parent.parent
LIMIT = 100.0  # seconds
GITCONFIG = "[user]\n name = Ada\n email = ada@example.org\n[init]\n defaultBranch = main\n"


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="needs bash and curl")
def test_the_walk_in_the_readme_lands_what_the_agent_wrote(tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text(GITCONFIG)
    port = str(reserve_port())
    status, said = pasted(walk().replace("4850", port), tmp_path, f"http://127.0.0.1:{port}")
    assert status == 0, said
    assert re.search(r"noted in commit [0-9a-f]{7}", said), said
    assert "first landed on main as" in said, said
    assert re.search(r"^[0-9a-f]{7} Note: relay works here\n[0-9a-f]{7} Begin$", said, re.MULTILINE), said
    assert (tmp_path / "projects" / "hello" / "NOTES.md").read_text() == "- relay works here\n"


def walk() -> str:
    [script] = re.findall(
        r"^```sh\n(PATH=.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return str(script)


def pasted(script: str, home: Path, url: str) -> tuple[int | None, str]:
    """Exit code (None: it took too long) and output of a shell that is given the script, and waits for what it started."""
    foreign = ("AGENT_RELAY", "RELAY_", "GIT_")
    place = {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AGENT_RELAY_URL": url,
        "AGENT_RELAY_ORCHESTRATOR_API_PORT": "0",
        "AGENT_RELAY_SPAWN_ADMISSION_DISABLED": "1",  # a busy machine is no matter here
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    with (home / "said").open("w+") as said:
        shell = subprocess.Popen(
            ["bash", "-c", f"{script}\nwait"],
            cwd=ROOT,
            env=kept | place | marked(home),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            status: int | None = shell.wait(LIMIT)
        except subprocess.TimeoutExpired:
            status = None
        for pid in caused(home):
            os.kill(pid, signal.SIGKILL)
        shell.wait(LIMIT)
        said.seek(0)
        return status, said.read()
