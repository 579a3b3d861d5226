"""The demo as a process: interrupted it leaves nothing behind, and what it cannot work with it says."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "relay", "demo", "--quick", "--json"]


def processes_below(folder: Path) -> list[int]:
    commands = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            commands[int(entry.name)] = (entry / "cmdline").read_text()
        except OSError:
            continue
    return [pid for pid, command in commands.items() if str(folder) in command]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_folder(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        DEMO, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if json.loads(line)["text"].startswith("demo-host registered"):
                break
        assert processes_below(tmp_path)
        demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait(30) != 0
    assert processes_below(tmp_path) == []
    assert list(tmp_path.glob("relay-demo-*")) == []


def test_the_quick_demo_proves_its_claims_on_any_repository(tmp_path: Path) -> None:
    """A folder in a detached checkout of a repository that ignores everything, as odd as they come."""
    repo = tmp_path / "odd one"
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    (repo / ".gitignore").write_text("*\n")
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", "-C", repo, "add", "--force", ".gitignore"], check=True)
    subprocess.run(["git", "-C", repo, *identity, "commit", "-q", "-m", "ignore all"], check=True)
    subprocess.run(["git", "-C", repo, "checkout", "-q", "--detach"], check=True)
    (repo / "folder").mkdir()
    done = subprocess.run(
        [*DEMO, "--repo", "."], cwd=repo / "folder", capture_output=True, text=True, timeout=110
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert lines[-1]["ok"]
    assert all(line["holds"] for line in lines if "claim" in line)


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([*DEMO, "--repo", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    told = json.loads(done.stderr)
    assert told["error"] == f"{tmp_path} cannot be cloned"
    assert "--repo" in told["next"]


def test_a_repository_without_a_commit_is_refused(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    done = subprocess.run([*DEMO, "--repo", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "has no commit yet" in json.loads(done.stderr)["error"]
