#!/usr/bin/env python3
"""A connector: tells an agent of every file that appears in a folder (docs/connectors.md).

cp examples/connector.py ~/.relay/connectors/relay-connector-inbox
echo '{"folder": "/tmp/inbox", "to": "scribe", "token": "…"}' | relay connectors config inbox -
relay connectors action inbox start
"""

import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path
from subprocess import PIPE, Popen


def watcher(folder: Path) -> int | None:
    """The process that watches the folder, if there is one."""
    try:
        pid = int((folder / ".watched-by").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def start(folder: Path, given: str) -> None:
    """What is to go on when the action is over must leave its process group."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".log").open("a") as log:
        daemon = Popen([__file__, "watch"], stdin=PIPE, stdout=log, stderr=log, start_new_session=True)
    (folder / ".watched-by").write_text(str(daemon.pid))
    if daemon.stdin is not None:
        daemon.stdin.write(given.encode())
        daemon.stdin.close()


def watch(folder: Path, to: str, token: str) -> None:
    """Sends a message for each new file; its name is the key, so that it is sent once."""
    seen = {path.name for path in folder.iterdir()}
    while True:
        time.sleep(0.2)
        for name in {path.name for path in folder.iterdir()} - seen:
            message = {"from": "inbox", "to": to, "body": f"{name} is in", "idempotencyKey": name}
            request = urllib.request.Request(
                os.environ["AGENT_RELAY_URL"] + "/api/messages",
                json.dumps(message).encode(),
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=10).close()
            seen.add(name)


def main(action: str) -> None:
    given = sys.stdin.read()
    config = json.loads(given)["config"]
    folder = Path(config["folder"])
    if action == "watch":
        watch(folder, config["to"], config["token"])
    pid = watcher(folder)
    if pid is not None and action in ("stop", "restart", "uninstall"):
        os.kill(pid, signal.SIGTERM)
        (folder / ".watched-by").unlink()
    if watcher(folder) is None and action in ("start", "restart"):
        start(folder, given)
    running = watcher(folder) is not None
    print(json.dumps({"ok": True, "message": f"{action} is done", "status": {"running": running}}))


if len(sys.argv) > 1:
    main(sys.argv[1])
else:
    print("a connector: relay runs it with an action as its argument")
