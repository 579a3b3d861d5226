"""The demo ends what it caused, and nothing of anybody else's that merely looks into its folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.cli.demo import processes
from relay.cli.demo.stage import opened

LINUX = Path("/proc/self/environ").exists()
FINDERS = [
    pytest.param(processes.by_environment, marks=pytest.mark.skipif(not LINUX, reason="needs /proc")),
    pytest.param(processes.by_arguments, marks=pytest.mark.skipif(not shutil.which("ps"), reason="needs ps")),
]
Find = Callable[[Path], Iterator[int]]


def test_a_persons_programs_on_the_demos_files_go_on(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    subprocess.run(["git", "init", "-q", origin], check=True)
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(
        ["git", "-C", origin, *identity, "commit", "-q", "--allow-empty", "-m", "begin"], check=True
    )
    with opened(origin, keep=False) as stage:
        stage.start_server()
        watching = [
            ["tail", "-f", stage.logs / "server.log"],
            [sys.executable, "-c", "import sys; sys.stdin.read()", stage.logs / "server.log"],
        ]
        persons = [subprocess.Popen(command, stdin=subprocess.PIPE) for command in watching]
        caused = stage.processes()
    try:
        assert caused
        assert not caused & {person.pid for person in persons}
        assert [person.poll() for person in persons] == [None, None]
    finally:
        for person in persons:
            person.kill()
            person.communicate()


@pytest.mark.parametrize("find", FINDERS)
def test_what_was_caused_at_second_hand_is_found_also_when_its_parent_has_gone(
    tmp_path: Path, find: Find
) -> None:
    """As an agent is: in a session of its own, started by a runner that is killed."""
    script = "import sys; print(flush=True); sys.stdin.read()"
    adopted = [sys.executable, "-c", script, "-m relay.runner", str(tmp_path)]
    parent = f"import subprocess; subprocess.Popen({adopted!r}, start_new_session=True)"
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        env=os.environ | processes.marked(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        first.stdout.readline()
        first.wait(20)
        found = list(find(tmp_path))
        assert len(found) == 1
        assert list(find(tmp_path / "other")) == []
        first.stdin.close()
        assert first.stdout.read() == b""
    assert list(find(tmp_path)) == []


@pytest.mark.parametrize("find", FINDERS)
def test_what_a_caused_process_started_is_caused_whatever_its_arguments(tmp_path: Path, find: Find) -> None:
    parent = "import subprocess; subprocess.run(['cat'])"
    with subprocess.Popen(
        [sys.executable, "-c", parent, "-m relay serve", str(tmp_path)],
        env=os.environ | processes.marked(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(b"\n")
        first.stdin.flush()
        first.stdout.read(1)
        found = set(find(tmp_path))
        assert first.pid in found
        assert len(found) == 2
        first.stdin.close()
