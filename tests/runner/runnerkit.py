"""Runners between real agent processes and real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx2
import trio

from relay.cli.demo.ports import reserve_port
from relay.runner import Options, Patience, serve

WITHIN = 40.0  # seconds that anything may take
TOKEN = "runner-test-token-" + "x" * 32

AGENT = r"""
import json, os, signal, subprocess, sys
journal = open(sys.argv[1], "a")
def say(**frame): print(json.dumps(frame), flush=True)
def note(**entry): journal.write(json.dumps(entry) + "\n"); journal.flush()
def flag(name): return os.path.exists(sys.argv[1] + "." + name)
def ours(): return {name: value for name, value in os.environ.items() if name.startswith("AGENT_RELAY_")}
waiting = []
for line in sys.stdin:
    frame = json.loads(line)
    if frame["type"] == "hello":
        children = []
        if flag("stubborn"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            children = [subprocess.Popen(["sleep", "600"]).pid]
        note(event="started", pid=os.getpid(), session=frame["sessionId"], env=ours(), hello=frame, children=children)
        if flag("mute"): continue
        if flag("brief"): os.kill(os.getpid(), 9)
        if flag("faulty"): sys.exit(3)
        say(type="ready", capabilities={"compact": True, "clear": True, "interrupt": True, "permissions": True})
        if flag("fleeting"): os.kill(os.getpid(), 9)
    elif frame["type"] == "prompt":
        note(event="prompt", text=frame["text"])
        if flag("startled"):
            os.unlink(sys.argv[1] + ".startled")
            os.kill(os.getpid(), 9)
        if flag("sulky"):
            say(type="nack", id=frame["id"], error="not like that")
            continue
        say(type="ack", id=frame["id"])
    elif frame["type"] == "messages":
        note(event="offered", ids=[m["id"] for m in frame["messages"]], messages=frame["messages"])
        bodies = [m["body"] for m in frame["messages"]]
        if "deadly" in bodies: os.kill(os.getpid(), 9)
        if "refuse" in bodies:
            say(type="nack", id=frame["id"], error="I will not")
            continue
        if "swallow" in bodies and flag("swallow"): continue
        if "late" in bodies:
            waiting.append(frame["id"])
            if len(waiting) != 2: continue
            frame["id"] = waiting[0]
        note(event="taken", ids=[m["id"] for m in frame["messages"]])
        if "mortal" in bodies and not flag("mortal"):
            open(sys.argv[1] + ".mortal", "w").close()
            say(type="ack", id=frame["id"])
            os.kill(os.getpid(), 9)
        say(type="ack", id=frame["id"])
        for m in frame["messages"]:
            if m["body"] == "work": say(type="turn", state="start")
            if m["body"] == "rest": say(type="turn", state="end")
            if m["body"] == "begin both": say(type="turn", state="start", id="a"); say(type="turn", state="start", id="b")
            if m["body"] == "end a": say(type="turn", state="end", id="a")
            if m["body"] == "end b": say(type="turn", state="end", id="b")
            if m["body"] == "die": os.kill(os.getpid(), 9)
            if m["body"] == "echo": say(type="reply", replyTo=m["id"], body="echo")
            if m["body"] == "like": say(type="react", messageId=m["id"], emoji="+1")
            if m["body"] == "odd": say(type="react", messageId="x", emoji="+1"); say(type="react", messageId=m["id"])
            if m["body"] == "show": say(type="reply", replyTo=m["id"], body="see", attachments=[{"id": "art_1", "name": "log.txt"}])
            if m["body"] == "frames":
                for said in m["payload"]["frames"]: say(**said)
    elif frame["type"] == "ping": say(type="pong", id=frame["id"])
    elif frame["type"] == "compact":
        note(event="compact")
        if not flag("slow"): say(type="result", id=frame["id"], ok=True, data={"saved": 1})
    elif frame["type"] == "interrupt": say(type="result", id=frame["id"], ok=True, data={"interrupted": False})
    elif frame["type"] == "permission": note(event="permission", **{k: v for k, v in frame.items() if k != "type"})
    elif frame["type"] == "shutdown":
        note(event="shutdown")
        if not flag("stubborn"): sys.exit(0)
"""


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for the condition."""
    with trio.fail_after(WITHIN):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await trio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@attrs.define
class Running:
    """A runner within this process, and what it ended with."""

    code: int | None = None


class Host:
    """Starts runners of agent `a1`, as the host daemon does."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder = folder
        self.url, self.token = url, token
        self.journal = folder / "journal.jsonl"
        self.info = folder / "info.json"
        self.state = folder / "state"
        self.log = folder / "runner.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "agent.py").write_text(AGENT)

    @property
    def provider(self) -> dict[str, Any]:
        return {
            "command": sys.executable,
            "defaultArgs": [str(self.folder / "agent.py"), str(self.journal)],
        }

    def flag(self, name: str) -> Path:
        """What the agent looks for to know how to behave; touch it."""
        return self.journal.with_name(f"{self.journal.name}.{name}")

    def start(self, *, agent_id: str = "a1", **env: str) -> subprocess.Popen[bytes]:
        """A runner in a process of its own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_RELAY_")}
        own = {
            "AGENT_RELAY_URL": self.url,
            "AGENT_RELAY_TOKEN": self.token,
            "AGENT_RELAY_PROVIDER_CONFIG_JSON": json.dumps(self.provider),
            "AGENT_RELAY_RUNNER_INFO_FILE": str(self.info),
            "AGENT_RELAY_STATE_DIR": str(self.state),
            "AGENT_RELAY_LABEL": "ada",
            "AGENT_RELAY_TAGS": "headless,blue",
        }
        arguments = ("command", "--headless", "--cwd", str(self.folder), "--agent-id", agent_id)
        with self.log.open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "relay.runner", *arguments],
                    env=inherited | own | env,
                    stdout=log,
                    stderr=log,
                )
            )
        return self.processes[-1]

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[Running]:
        """A runner in this process, less patient than it would be; ended when the block is left."""
        settings: dict[str, Any] = {
            "provider": "command",
            "agent_id": "a1",
            "cwd": self.folder,
            "relay_url": self.url,
            "token": self.token,
            "provider_config": self.provider,
            "headless": True,
            "label": "ada",
            "tags": ("headless", "blue"),
            "info_file": self.info,
            "log_file": self.log,
            "state_dir": self.state,
            "poll": 0.2,
            "retry": 0.02,
            "grace": 2.0,
            "patience": Patience(ready=5.0, ack=0.4),
        }
        running = Running()

        async def run(*, task_status: trio.TaskStatus[Any]) -> None:
            running.code = await serve(Options(**settings | changes), task_status=task_status)

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield running
            nursery.cancel_scope.cancel()

    def noted(self, event: str) -> list[dict[str, Any]]:
        if not self.journal.exists():
            return []
        lines = self.journal.read_text().splitlines()
        return [entry for line in lines if (entry := json.loads(line))["event"] == event]

    def taken(self) -> list[int]:
        return [number for entry in self.noted("taken") for number in entry["ids"]]

    def offered(self, number: int) -> int:
        """How often a message was handed to the agent."""
        return sum(number in entry["ids"] for entry in self.noted("offered"))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for entry in self.noted("started"):
            for pid in (entry["pid"], *entry["children"]):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


class Relay:
    """What a test asks of relay, and sees of agent `a1` there."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str) -> Any:
        return (await self.http.get(path)).json()

    async def send(self, body: str, to: str = "a1", **more: Any) -> int:
        answer = await self.http.post("/api/messages", json={"from": "b1", "to": to, "body": body, **more})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    async def readers(self, number: int) -> list[str]:
        return list((await self.get(f"/api/messages/{number}"))["readBy"])

    async def is_read(self, number: int) -> bool:
        return await self.readers(number) == ["a1"]

    async def agent(self) -> dict[str, Any]:
        answer = await self.http.get("/api/agents/a1")
        return answer.json() if answer.status_code == 200 else {}

    async def is_ready(self, wanted: bool = True) -> bool:
        return (await self.agent()).get("ready") is wanted

    async def has_status(self, status: str) -> bool:
        return (await self.agent()).get("status") == status

    async def command(self, kind: str, target: str = "a1", **params: Any) -> str:
        body = {"type": kind, "source": "test", "target": target, "params": params}
        answer = await self.http.post("/api/commands", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def status(self, command: str) -> str:
        return str((await self.get(f"/api/commands/{command}"))["status"])

    async def outcome(self, command: str) -> dict[str, Any]:
        """The command once it has ended."""
        found: dict[str, Any] = {}

        async def ended() -> bool:
            found.update(await self.get(f"/api/commands/{command}"))
            return found["status"] not in {"pending", "accepted", "running"}

        await until(ended)
        return found

    async def done(self, kind: str, target: str = "a1", **params: Any) -> dict[str, Any]:
        return await self.outcome(await self.command(kind, target, **params))


class ServerProcess:
    """A server that can be killed and started again, on the same port and database."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        program = [sys.executable, "-m", "relay", "serve", "--port", str(self.port)]
        env = {**os.environ, "RELAY_HOME": str(self.home), "AGENT_RELAY_TOKEN": TOKEN}
        with (self.home / "server.log").open("ab") as log:
            database = ("--database", str(self.home / "relay.db"))
            self.process = subprocess.Popen([*program, *database], env=env, stdout=log, stderr=log)
        await until(self._answers)

    async def _answers(self) -> bool:
        try:
            async with httpx2.AsyncClient(trust_env=False) as http:
                return (await http.get(f"{self.url}/api/health")).status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
