"""Which processes a demo has caused: directly, or through relay at any remove, whoever their parent is by now.

A person may follow a log of the demo or open a file of it in an editor; so a path below its folder among the arguments
says nothing. What the demo starts has a variable in its environment that everything started by that inherits. Where
environments of other processes cannot be read, as on macOS, it is relay's programs that have the folder among their
arguments, and their descendants.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from . import agent

__all__ = ["by_arguments", "by_environment", "caused", "marked"]

MARK = "RELAY_DEMO"
PROC = Path("/proc")
PROGRAMS = (
    " -m relay ",
    " -m relay.runner ",
    f" {agent.__file__} ",
)  # as the stage, the host and the plan start them


def marked(root: Path) -> dict[str, str]:
    """The variable to start a process with."""
    return {MARK: str(root)}


def caused(root: Path) -> Iterator[int]:
    """Ids of the running processes that the demo in this folder has caused; zombies do not count."""
    return by_environment(root) if (PROC / "self" / "environ").exists() else by_arguments(root)


def by_environment(root: Path) -> Iterator[int]:
    wanted = os.fsencode(f"{MARK}={root}")
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def by_arguments(root: Path) -> Iterator[int]:
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid, parent, command in _listed():
        parents[pid] = parent
        if str(root) in command and any(program in command for program in PROGRAMS):
            found.add(pid)
    more = found
    while more:
        more = {pid for pid, parent in parents.items() if parent in more} - found
        found |= more
    return iter(found)


def _listed() -> Iterator[tuple[int, int, str]]:
    """Process id, that of the parent, and command line of what runs on this machine."""
    columns = ["ps", "-axwwo", "pid=,ppid=,stat=,command="]
    listed = subprocess.run(columns, capture_output=True, text=True, errors="replace", check=False)
    for line in listed.stdout.splitlines():
        pid, parent, state, *command = line.split(maxsplit=3)
        if not state.startswith("Z"):
            yield int(pid), int(parent), "".join(command)
