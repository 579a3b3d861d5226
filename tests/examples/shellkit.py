"""Pasting what a page says into a shell."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from relay.cli.demo.processes import caused, marked

ROOT = Path(__file__).parent.parent.parent
GITCONFIG = "[user]\n name = Ada\n email = ada@example.org\n[init]\n defaultBranch = main\n"


def pasted(
    script: str, home: Path, url: str, *, limit: float = 100.0, **settings: str
) -> tuple[int | None, str]:
    """In a home folder of its own, for at most `limit` seconds. Exit code (None: it took too long) and output of a shell that is given the script, and waits for what it started."""
    (home / ".gitconfig").write_text(GITCONFIG)
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
            env=kept | place | settings | marked(home),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            status: int | None = shell.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        for pid in caused(home):
            os.kill(pid, signal.SIGKILL)
        shell.wait(limit)
        said.seek(0)
        return status, said.read()
