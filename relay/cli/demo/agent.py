"""A scripted agent: what the demo runs where a person would run a coding model. Standard library only.

It speaks the JSON-lines protocol of the `command` provider on stdin and stdout, edits files and commits in its own
worktree, talks to the others through its runner, asks relay to merge, and rebases when its work conflicts.

It may be killed at any moment and started again. So everything that must not be done twice has a key, and a journal on
disk is written before the deed becomes visible: a message is noted before it is acknowledged, a send before it leaves.
What stands in git is read from git.

    python agent.py PLAN.json
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

POLL = 0.2  # seconds between two looks at a running merge
BUSY = 0.4  # seconds before asking again when another merge holds the repository
GIVE_UP = 80.0  # seconds; the demo has ended by then
FINISHED = {"succeeded", "failed", "rejected", "canceled", "timed_out"}


class Refused(Exception):
    """Relay said no, and asking again would not change that."""


class Journal:
    """What this agent has done and seen, one JSON object per line, on disk before it counts."""

    def __init__(self, path: Path) -> None:
        self.entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self._file = path.open("a")
        self._lock = threading.Lock()

    def note(self, event: str, **details: Any) -> None:
        entry = {"event": event, "at": time.time(), **details}
        with self._lock:
            self.entries.append(entry)
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def all(self, event: str) -> Iterator[Json]:
        return (entry for entry in tuple(self.entries) if entry["event"] == event)

    def has(self, event: str, **details: Any) -> bool:
        return any(details.items() <= entry.items() for entry in self.all(event))


class Runner:
    """The other end of stdin and stdout. A thread of its own answers at once, whatever the agent is doing."""

    def __init__(self, journal: Journal) -> None:
        self.inbox: queue.Queue[Json] = queue.Queue()
        self._journal = journal
        self._lock = threading.Lock()
        for entry in journal.all("received"):
            if not journal.has("handled", id=entry["id"]):
                self.inbox.put(entry)
        threading.Thread(target=self._read, daemon=True).start()

    def say(self, kind: str, **fields: Any) -> None:
        with self._lock:
            print(json.dumps({"type": kind, **fields}), flush=True)

    @contextlib.contextmanager
    def turn(self, what: str) -> Iterator[None]:
        self._journal.note("turn", what=what)
        self.say("turn", state="start", id=what)
        yield
        self.say("turn", state="end", id=what)

    def send(self, key: str, to: str, text: str, reply_to: int | None = None) -> None:
        """Sends a message once, however often this is called with the same key. The key stands in the text too, so
        that what was sent can be compared with what arrived."""
        if not self._journal.has("sent", key=key):
            self._journal.note("sent", key=key, to=to)
        answering = {} if reply_to is None else {"replyTo": reply_to}
        self.say("reply", to=to, body=f"{text} [{key}]", idempotencyKey=key, **answering)

    def _read(self) -> None:
        for line in sys.stdin:
            self._answer(json.loads(line))
        os._exit(0)  # the runner is gone, and with it whoever could use this work

    def _answer(self, frame: Json) -> None:
        match frame["type"]:
            case "hello":
                self.say("ready", capabilities={"inject": True}, model="script")
            case "messages":
                for message in frame["messages"]:
                    self._receive(message)
                self.say("ack", id=frame["id"])
            case "prompt":
                self.say("ack", id=frame["id"])
            case "ping":
                self.say("pong", id=frame["id"])
            case "interrupt" | "compact" | "clear":
                self.say("result", id=frame["id"], ok=False, error="a script does not change its mind")
            case "shutdown":
                os._exit(0)

    def _receive(self, message: Json) -> None:
        if self._journal.has("received", id=message["id"]):
            self._journal.note("redelivered", id=message["id"])
            return
        kept = {name: message.get(name) for name in ("id", "from", "to", "body")}
        self._journal.note("received", **kept)
        self.inbox.put(kept)


class Relay:
    """The relay server. A call is repeated until the server answers: it may be killed and come back."""

    def __init__(self) -> None:
        self._url = os.environ["AGENT_RELAY_URL"].rstrip("/")
        token_file = os.environ.get("AGENT_RELAY_TOKEN_FILE")
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._token = Path(token_file).read_text().strip() if token_file else os.environ["AGENT_RELAY_TOKEN"]

    def call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310 - the URL is the one the runner was started with
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Agent-Relay-Token": self._token, "Content-Type": "application/json"},
        )
        end = time.monotonic() + GIVE_UP
        while time.monotonic() < end:
            try:
                with self._open(request, timeout=5) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as refused:
                with refused:
                    if refused.code not in {408, 429, 503, 504}:
                        return refused.code, json.loads(refused.read() or b"{}")
            except (OSError, ValueError):
                pass
            time.sleep(0.25)
        raise SystemExit("relay did not answer")

    def workspace(self, worktree: Path) -> Json:
        """The row of the workspace this agent works in. The host daemon reports it shortly after the start."""
        end = time.monotonic() + GIVE_UP
        while time.monotonic() < end:
            for row in self.call("GET", "/api/workspaces")[1]:
                if row.get("worktreePath") and Path(row["worktreePath"]).resolve() == worktree:
                    found: Json = row
                    return found
            time.sleep(0.2)
        raise SystemExit(f"relay does not know a workspace at {worktree}")


class Agent:
    """Works through its plan, then waits to be told to stop."""

    def __init__(self, plan: Json) -> None:
        self.plan = plan
        self.name: str = plan["name"]
        self.journal = Journal(Path(plan["journal"]))
        self.relay = Relay()
        self.worktree = Path.cwd().resolve()
        self.identity = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", self.name), ("EMAIL", f"{self.name}@demo.invalid"))
        }
        self.journal.note("started", pid=os.getpid())
        self.runner = Runner(self.journal)

    def run(self) -> None:
        try:
            self.act()
        except Refused as refusal:
            self.journal.note("stopped", why=str(refusal))
        self.until(lambda: False)

    def act(self) -> None:
        others = [peer for peer in self.plan["team"] if peer != self.name]
        self.runner.send(
            f"{self.name}-hello", f"label:{self.plan['next']}", f"{self.name} here, I take my part"
        )
        for step in self.plan["steps"]:
            self.work(step)
        if self.name == self.plan["lead"]:
            self.until(lambda: all(self.heard(f"{peer}-ready") for peer in others))
            self.runner.send(f"{self.name}-go", "broadcast", "everybody has committed: merge now")
        else:
            self.runner.send(f"{self.name}-ready", f"label:{self.plan['lead']}", "committed, ready to merge")
            self.until(lambda: self.heard(f"{self.plan['lead']}-go"))
        with self.runner.turn("merge"):
            landed = self.land()
        self.journal.note("landed", sha=landed)
        if self.name != self.plan["lead"]:
            self.runner.send(f"{self.name}-landed", f"label:{self.plan['lead']}", f"landed as {landed[:10]}")
        else:
            self.until(lambda: all(self.heard(f"{peer}-landed") for peer in others))
            self.runner.send(f"{self.name}-done", "broadcast", "all of it is on the base branch")

    # Talking

    def heard(self, key: str) -> bool:
        return any(f"[{key}]" in entry["body"] for entry in self.journal.all("handled"))

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.handle(self.runner.inbox.get())

    def glance(self) -> None:
        """Handles what has arrived, without waiting."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.handle(self.runner.inbox.get_nowait())

    def handle(self, message: Json) -> None:
        if message["body"].endswith("-hello]"):
            sender = message["body"].rpartition("[")[2].removesuffix("-hello]")
            key = f"{self.name}-welcomes-{sender}"
            self.runner.send(key, f"label:{sender}", f"welcome, {sender}", reply_to=message["id"])
        self.journal.note("handled", id=message["id"], body=message["body"])

    # Working

    def work(self, step: Json) -> None:
        """Makes one commit, unless an earlier life of this agent has."""
        trailer = f"Relay-Demo: {step['id']}"
        if trailer in self.git("log", "--format=%B", f"--grep={trailer}", "--fixed-strings"):
            self.journal.note("found", step=step["id"])
            return
        with self.runner.turn(step["id"]):
            path = self.worktree / step["file"]
            path.parent.mkdir(exist_ok=True)
            path.write_text("")
            for line in step["lines"]:
                with path.open("a") as file:
                    file.write(line + "\n")
                self.glance()
                time.sleep(self.plan["pace"])
            self.git("add", "--force", "--", step["file"])
            self.git("commit", "-q", "-m", f"{step['subject']}\n\n{trailer}")
            self.journal.note("committed", step=step["id"], sha=self.git("rev-parse", "HEAD").strip())

    def land(self) -> str:
        """Asks for merges until the work is on the base branch; returns the landed commit. Raises `Refused`."""
        base = self.relay.workspace(self.worktree)["baseRef"]
        while True:
            tip = self.git("rev-parse", "HEAD").strip()
            command = self.merge()
            if self.succeeds("merge-base", "--is-ancestor", tip, base):
                return tip
            result = command.get("result") or {}
            if not result.get("conflict"):
                raise Refused(
                    result.get("error") or command.get("error") or f"the merge is {command['status']}"
                )
            self.journal.note("conflict", tip=tip, files=result["conflictFiles"])
            self.rebase(base)

    def merge(self) -> Json:
        """One attempt; returns its command when that has ended. While the repository is busy it asks again."""
        command = self.ask_to_merge()
        while command["status"] not in FINISHED:
            self.glance()
            time.sleep(POLL)
            status, command = self.relay.call("GET", f"/api/commands/{command['id']}")
            if status != 200:
                raise Refused(f"relay does not tell about its merge: {command.get('error')}")
        return command

    def ask_to_merge(self) -> Json:
        path = f"/api/workspaces/{self.relay.workspace(self.worktree)['id']}/actions"
        wish = {"action": "merge", "strategy": "rebase-ff", "deleteBranch": False}
        while True:
            status, answer = self.relay.call("POST", path, wish)
            error = answer.get("error", "")
            self.journal.note("asked", status=status, error=error)
            if status == 202:
                command: Json = answer["command"]
                return command
            if status != 409 or "is busy" not in error:
                raise Refused(f"{status} {error}")
            self.glance()
            time.sleep(BUSY)

    def rebase(self, base: str) -> None:
        """Puts this agent's commits on top of the base; where both sides wrote the same file, both sides stay."""
        self.journal.note("rebasing", onto=self.git("rev-parse", base).strip())
        done = self.succeeds("rebase", base)
        while not done:
            for name in self.git("diff", "--name-only", "--diff-filter=U").split():
                path = self.worktree / name
                marks = ("<<<<<<<", "=======", ">>>>>>>")
                lines = [line for line in path.read_text().splitlines() if not line.startswith(marks)]
                path.write_text("\n".join(dict.fromkeys(lines)) + "\n")
                self.git("add", "--force", "--", name)
            done = self.succeeds("rebase", "--continue")
        self.journal.note("rebased", sha=self.git("rev-parse", "HEAD").strip())

    def git(self, *arguments: str) -> str:
        return self._git(arguments, check=True).stdout

    def succeeds(self, *arguments: str) -> bool:
        return self._git(arguments, check=False).returncode == 0

    def _git(self, arguments: tuple[str, ...], *, check: bool) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *arguments],
            cwd=self.worktree,
            env={**os.environ, **self.identity, "GIT_EDITOR": "true", "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )


if __name__ == "__main__":
    Agent(json.loads(Path(sys.argv[1]).read_text())).run()
