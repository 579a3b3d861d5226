"""What the demo sees while it runs: relay's event stream and the journals the agents write.

It tells the timeline what a person would want to know, and lets the play wait for what must happen. Nothing of it is a
proof; those are read from disk at the end.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

import trio

from relay.cli.failure import Failure
from relay.client import Client, StreamedEvent

from .evidence import FINISHED
from .plan import Plan, key_in
from .stage import Stage
from .timeline import Timeline

__all__ = ["LOOK", "Witness"]

LOOK = 0.1  # seconds between two looks at a file or a process
KEEP = "relay demo --keep, then look into logs and home of the folder it names"


class Witness:
    """Sees, tells, and knows what is being waited for."""

    def __init__(self, stage: Stage, plan: Plan, timeline: Timeline) -> None:
        self.stage = stage
        self.plan = plan
        self.say = timeline.say
        self.seen: dict[int, str] = {}
        self.journals: dict[str, list[dict[str, Any]]] = {name: [] for name in plan.team}
        self.exited: Counter[str] = Counter()
        self.expected_exits: Counter[str] = Counter()
        self.merges: list[str] = []  # commands, as they began to run
        self.waits_for = "the server"
        self._progress = timeline.progress
        self._changed = trio.Event()
        self._connection = trio.CancelScope()

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        self.waits_for = what
        while not condition():
            await self._changed.wait()

    def did(self, name: str, event: str, **details: Any) -> bool:
        return any(
            entry["event"] == event and details.items() <= entry.items() for entry in self.journals[name]
        )

    def times(self, name: str, event: str) -> int:
        return sum(entry["event"] == event for entry in self.journals[name])

    def all_received(self, notes: Iterable[str]) -> bool:
        """Every receipt that the plan foresees has been written down, and every note's by the lead."""
        heard = {
            name: {key_in(entry["body"]) for entry in journal if entry["event"] == "handled"}
            for name, journal in self.journals.items()
        }
        return all(
            key in heard[name] for key, receivers in self.plan.messages(notes).items() for name in receivers
        )

    def failure(self, what: str, why: str | None = None) -> Failure:
        """By default the last words of everybody are the cause."""
        return Failure(what, why=why or self._last_words(), then=KEEP)

    def _last_words(self) -> str:
        last = []
        for log in sorted(
            [*self.stage.logs.glob("*.log"), *self.stage.home.glob("orchestrators/*/logs/*.log")]
        ):
            lines = log.read_text(errors="replace").strip().splitlines()
            last += [f"{log.stem}: {line}" for line in lines[-3:]]
        return "\n       ".join(last)

    async def watch_events(self, client: Client) -> None:
        while True:
            with trio.CancelScope() as self._connection:
                async with aclosing(client.events(after=max(self.seen, default=0))) as events:
                    async for event in events:
                        self.seen[event.id] = event.type
                        self._tell(event)
                        self._happened()

    def look_again(self) -> None:
        """The server is back: connect now, and not after a pause that grew while it was away."""
        self._connection.cancel()

    def _tell(self, event: StreamedEvent) -> None:
        match event.type, event.data:
            case "message.new", {"from": sender, "to": to, "body": body} if sender in self.plan.team:
                self.say(sender, f"→ {to}: {body}")
            case kind, {"command": command} if kind.startswith("command."):
                self._tell_command(command)
            case "activity.created", {"clientId": str(key), "title": str(title)} if "-exited-" in key:
                self.say("host", title, loud=True)
                self._ended(event.data["agentId"])

    def _ended(self, name: str) -> None:
        self.exited[name] += 1
        if self.exited[name] > self.expected_exits[name]:
            raise self.failure(f"the runner of {name} ended, and nobody had asked for that")

    def _tell_command(self, command: dict[str, Any]) -> None:
        match command["type"], command["status"]:
            case "workspace.merge", "running":
                self.merges.append(command["id"])
                self.say("host", f"merges {command['params']['branch']}")
            case "workspace.merge", status if status in FINISHED:
                self.say("host", f"{command['params']['branch']} {_outcome(command)}")
            case "agent.spawn", "failed":
                raise Failure("an agent could not be started", why=command.get("error"))
            case "agent.spawn", "succeeded":
                self.say("host", f"started {command['params'].get('label')} in a worktree of its own")

    async def watch_journals(self) -> None:
        read = dict.fromkeys(self.plan.team, 0)
        while True:
            for name in self.plan.team:
                path = self.stage.journals / f"{name}.jsonl"
                if path.exists():
                    with path.open("rb") as file:
                        file.seek(read[name])
                        for line in file:
                            if line.endswith(b"\n"):
                                read[name] += len(line)
                                self._note(name, json.loads(line))
            await trio.sleep(LOOK)

    def _note(self, name: str, entry: dict[str, Any]) -> None:
        self.journals[name].append(entry)
        match entry:
            case {"event": "started"} if self.times(name, "started") > 1:
                self.say(name, "is back, and looks at what it had done", loud=True)
            case {"event": "found", "step": step}:
                self.say(name, f"finds {step} already committed")
            case {"event": "committed", "step": step, "sha": sha}:
                self.say(name, f"committed {step} as {sha[:10]}")
            case {"event": "asked", "status": 409, "error": error} if not self.did(
                name, "waiting", error=error
            ):
                self.journals[name].append({"event": "waiting", "error": error})
                self.say(name, f"asks to merge and has to wait: {error}")
            case {"event": "conflict", "files": files}:
                self.say(name, f"is told that its work conflicts in {', '.join(files)}", loud=True)
            case {"event": "rebased", "sha": sha}:
                self.say(name, f"rebased, kept both sides, now at {sha[:10]}")
            case {"event": "stopped", "why": why}:
                raise self.failure(f"{name} was refused what asking again does not change, and stopped", why)
            case {"event": "landed", "sha": sha}:
                self.say(name, f"landed as {sha[:10]}")
        self._happened()

    def _happened(self) -> None:
        done = [
            sum(self.times(name, event) for name in self.plan.team)
            for event in ("committed", "handled", "landed")
        ]
        self._progress(
            "{} commits, {} messages received, {} landed; waiting for {}".format(*done, self.waits_for)
        )
        self._changed.set()
        self._changed = trio.Event()


def _outcome(command: dict[str, Any]) -> str:
    """How a merge went, in a few words."""
    result = command.get("result") or {}
    if result.get("merged"):
        return f"has landed, {command['params']['baseRef']} is at {result['mergedSha'][:10]}"
    if result.get("conflict"):
        return f"conflicts in {', '.join(result['conflictFiles'])}"
    if result.get("noop"):
        return "has nothing more to land"
    return f"did not land: {result.get('error') or command.get('error') or command['status']}"
