"""Programs of connectors for tests: shell scripts, and where they say who they are."""

from __future__ import annotations

from pathlib import Path

import trio

SCRIPTS = {
    "fine": """echo '{"ok": true, "message": "done '$1'", "status": {"running": true, "version": "1.2"}}'""",
    "failing": """echo 'it hurts' >&2; echo '{"ok": false, "message": "no luck with '$1'"}'""",
    "crashing": """echo 'the end' >&2; exit 3""",
    "killed": """kill -9 $$""",
    "ok-but-3": """echo '{"ok": true}'; exit 3""",
    "silent": """exit 0""",
    "babbling": """echo 'Starting up...'; echo '{"ok": true}'""",
    "wrong": """echo '{"ok": "yes", "data": []}'""",
    "list": """echo '[]'""",
    "hanging": """exec sleep 1000""",
    "stubborn": """trap '' TERM; while :; do sleep 0.1; done""",
    "flooding": """exec head -c 10000000 /dev/zero""",
    "endless": """exec cat /dev/zero""",
    "complaining": """i=0; while [ $i -lt 3000 ]; do echo "line $i of many" >&2; i=$((i+1)); done; echo '{"ok": true}'""",
    "forking": """sleep 1000 & echo $! >> "$HERE/pids"; sleep 1000 & echo $! >> "$HERE/pids"; echo '{"ok": true}'""",
    "family": """sleep 1000 & echo $! >> "$HERE/pids"; trap '' TERM; while :; do sleep 0.1; done""",
    "echoing": """printf '{"ok": true, "data": %s, "message": "%s"}' "$(cat)" "$(env | sort | tr '\\n' ' ')" """,
    "counting": """echo x >> "$HERE/runs"; sleep 0.5; echo '{"ok": true}'""",
    "deaf": """exec 0<&-; echo '{"ok": true}'""",
}


def install(folder: Path, *names: str) -> None:
    """Makes the programs of these connectors. Each writes its pid into `pids` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write(folder, name, SCRIPTS[name])


def write(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"relay-connector-{name}"
    path.write_text(f'#!/bin/sh\nHERE={folder}\necho $$ >> "$HERE/pids"\n{script}\n')
    path.chmod(0o755)
    return path


def pids(folder: Path) -> list[int]:
    """The processes that have told of themselves so far."""
    try:
        return [int(line) for line in (folder / "pids").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def until_started(folder: Path, count: int = 1) -> None:
    with trio.fail_after(10):
        while len(pids(folder)) < count:
            await trio.sleep(0.01)


async def until_gone(folder: Path) -> None:
    with trio.fail_after(10):
        while any(alive(pid) for pid in pids(folder)):
            await trio.sleep(0.01)
