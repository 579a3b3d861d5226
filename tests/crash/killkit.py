"""A server, the daemon of a host, and the agent of a policy with its runner: real processes, each of which can be killed.

Server and daemon are started again when they have gone, as a supervisor of the machine would. Everything that was started
from here, at whatever remove, has `MARK` in its environment.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import trio
from test_server_crash import TOKEN, Server

MARK = "RELAY_KILL_RUN"
POLICY = "/api/spawn-policy/P"

AGENT = """
import fcntl, json, os, signal, sys
folder = sys.argv[1]
journal = os.open(f"{folder}/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
lock = os.open(f"{folder}/slot", os.O_RDWR | os.O_CREAT)

def note(*words):
    os.write(journal, (" ".join(map(str, (os.getpid(), *words))) + chr(10)).encode())

def say(**frame):
    print(json.dumps(frame), flush=True)

try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    note("began")
except OSError:
    note("twice")
for line in sys.stdin:
    frame = json.loads(line)
    match frame["type"]:
        case "hello":
            say(type="ready")
        case "ping":
            say(type="pong", id=frame["id"])
        case "messages":
            for message in frame["messages"]:
                note("got", message["id"])
            say(type="ack", id=frame["id"])
        case "shutdown":
            note("left")
            sys.exit(0)
        case _ if "id" in frame:
            say(type="ack", id=frame["id"])
note("alone")
signal.pause()  # nobody writes any more, and it does not go by itself
"""


class Scene:
    """The processes, and what is known of them. `folder` is the home of all."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.server = MarkedServer(folder)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.projects = folder / "projects"
        self.projects.mkdir()
        self.program = folder / "the_agent.py"
        self.program.write_text(AGENT)
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        settings = {
            "id": "h1",
            "baseDir": str(self.projects),
            "apiPort": 0,
            "pollIntervalMs": 200,
            "healthIntervalMs": 100,
            "heartbeatIntervalMs": 500,
            "spawnAdmission": False,
        }
        (folder / "orchestrator.json").write_text(json.dumps(settings))

    @property
    def policy(self) -> dict[str, Any]:
        """Its agent is started again soon, and as often as it takes."""
        return {
            "orchestratorId": "h1",
            "provider": "command",
            "cwd": str(self.projects),
            "label": "worker",
            "providerConfig": {
                "command": sys.executable,
                "defaultArgs": [str(self.program), str(self.folder)],
            },
            "restart": {"mode": "on-failure", "delayMs": 200, "maxDelayMs": 1_000, "quarantineAfter": 0},
        }

    # -- processes

    def start_daemon(self) -> None:
        command = [
            sys.executable,
            "-m",
            "relay",
            "orchestrator",
            "--config",
            str(self.folder / "orchestrator.json"),
        ]
        environment = {
            **os.environ,
            MARK: str(self.folder),
            "RELAY_HOME": str(self.folder),
            "AGENT_RELAY_URL": self.server.url,
        }
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    async def kept_up(self) -> None:
        """Start server and daemon, and start them again, sooner or later, when they have gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kept_up, lambda: self.server.process, self.server.start)
            nursery.start_soon(self._kept_up, lambda: self.daemon, self.start_daemon)

    async def _kept_up(
        self, process: Callable[[], subprocess.Popen[bytes] | None], start: Callable[[], None]
    ) -> None:
        while True:
            now = process()
            if now is None or now.poll() is not None:
                await trio.sleep(0.0 if now is None else self.chance.uniform(0.0, 1.0))
                start()
            await trio.sleep(0.05)

    def pids(self) -> dict[str, list[int]]:
        """All processes that were caused here and live, by what they are."""
        found: dict[str, list[int]] = {
            "server": [],
            "orchestrator": [],
            "runner": [],
            "agent": [],
            "other": [],
        }
        for pid, words in _marked(self.folder):
            found[_kind(words, self.program)].append(pid)
        return found

    def kill(self, kind: str) -> bool:
        """SIGKILL to one of this kind, if there is one."""
        pids = self.pids()[kind]
        if not pids:
            return False
        try:
            os.kill(self.chance.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> None:
        """Whatever is left is ended, whether the test has found it or not."""
        for pid, _ in _marked(self.folder):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    # -- what is said

    def journal(self) -> list[list[str]]:
        """What the agents wrote down: process, word, and the id of a message."""
        path = self.folder / "journal"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def logs(self) -> str:
        """The ends of all logs, for whoever has to find out what went wrong."""
        paths = [*self.folder.glob("*.log"), *self.folder.glob("orchestrators/**/*.log")]
        return "\n".join(f"== {path}\n{path.read_text(errors='replace')[-3_000:]}" for path in paths)


class MarkedServer(Server):
    def start(self) -> None:
        os.environ[MARK] = str(self.home)
        try:
            super().start()
        finally:
            del os.environ[MARK]


def _marked(folder: Path) -> Iterator[tuple[int, list[str]]]:
    wanted = os.fsencode(f"{MARK}={folder}")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                words = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
                yield int(entry.name), words
        except OSError:
            continue  # it has gone


def _kind(words: list[str], program: Path) -> str:
    if "relay.runner" in words:
        return "runner"
    if str(program) in words:
        return "agent"
    for kind, verb in (("server", "serve"), ("orchestrator", "orchestrator")):
        if verb in words:
            return kind
    return "other"


class Caller:
    """A person who asks relay, and asks again as long as nobody answers."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client
        self.sent: dict[str, int] = {}

    async def ask(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        while True:
            try:
                answer = await self.client.request(method, path, json=body)
            except httpx2.TransportError:
                await trio.sleep(0.05)
                continue
            if answer.status_code not in (503, 504):
                return answer
            await trio.sleep(0.05)

    async def get(self, path: str) -> Any:
        answer = await self.ask("GET", path)
        answer.raise_for_status()
        return answer.json()

    async def send_for_ever(self) -> None:
        for number in range(1_000_000):
            key = f"m{number}"
            asked = {"from": "user", "to": "policy:P", "body": key, "idempotencyKey": key}
            answer = await self.ask("POST", "/api/messages", asked)
            answer.raise_for_status()
            self.sent[key] = answer.json()["id"]
            await trio.sleep(0.1)

    async def state(self) -> dict[str, Any]:
        """Of the policy's agent."""
        known: dict[str, Any] = (await self.get(f"{POLICY}/status"))["state"]
        return known


async def until(what: Callable[[], Awaitable[Any]], within: float) -> Any:
    """What the question answers, as soon as that is true."""
    with trio.fail_after(within):
        while True:
            answer = await what()
            if answer:
                return answer
            await trio.sleep(0.1)
