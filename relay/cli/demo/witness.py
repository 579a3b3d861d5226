"""What the demo sees while it runs: relay's event stream and the journals the agents write.

It tells the timeline what a person would want to know, and lets the play wait for what must happen. Nothing of it is a
proof; those are read from disk at the end.
"""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import trio

from relay.cli.failure import Failure
from relay.client import Client, StreamedEvent

from .plan import Plan
from .stage import Stage
from .timeline import Timeline

__all__ = ["LOOK", "Witness"]

LOOK = 0.1  # seconds between two looks at a file or a process


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
        self.merging = 0
        self.waits_for = "the server"
        self._progress = timeline.progress
        self._changed = trio.Event()

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

    def all_received(self) -> bool:
        """Every receipt that the plan foresees has been written down."""
        expected = Counter[str]()
        for key, receiver in self.plan.messages().items():
            sender = key.partition("-")[0]
            expected.update(set(self.plan.team) - {sender} if receiver == "*" else {receiver})
        return all(self.times(name, "handled") >= expected[name] for name in self.plan.team)

    def failure(self, what: str) -> Failure:
        then = "relay demo --keep, then look into logs and home of the folder it names"
        return Failure(what, why=self._last_words(), then=then)

    def _last_words(self) -> str:
        last = []
        for log in sorted(
            [*self.stage.logs.glob("*.log"), *self.stage.home.glob("orchestrators/*/logs/*.log")]
        ):
            lines = log.read_text(errors="replace").strip().splitlines()
            last += [f"{log.stem}: {line}" for line in lines[-3:]]
        return "\n       ".join(last)

    async def watch_events(self, client: Client) -> None:
        async with aclosing(client.events(after=0)) as events:
            async for event in events:
                self.seen[event.id] = event.type
                self._tell(event)
                self._happened()

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
        status, result = command["status"], command.get("result") or {}
        match command["type"], status:
            case "workspace.merge", "running":
                self.merging += 1
                self.say("host", f"merges {command['params']['branch']}")
            case "workspace.merge", "succeeded" | "failed":
                self.say("host", f"{command['params']['branch']}: {result.get('status', status)}")
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
            case {"event": "asked", "error": error} if not self.did(name, "waiting", error=error):
                self.journals[name].append({"event": "waiting", "error": error})
                self.say(name, f"asks to merge and has to wait: {error}")
            case {"event": "refused", "outcome": {"status": "conflict"}}:
                self.say(name, "is told that its work conflicts", loud=True)
            case {"event": "rebased", "sha": sha}:
                self.say(name, f"rebased, kept both sides, now at {sha[:10]}")
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
