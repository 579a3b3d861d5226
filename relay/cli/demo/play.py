"""The course of the demo: start everything, let the agents work, kill a runner and the server, wait for the end.

What it knows it has from relay's event stream and from the journals the agents write; it acts through relay's API and
with signals. Every wait has the limit of the whole.
"""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import trio

from relay import wire
from relay.cli.failure import Failure
from relay.client import Client, Refused, RelayError, StreamedEvent, open_client

from . import agent as program
from .plan import Plan
from .stage import Stage
from .timeline import Timeline

__all__ = ["Play"]

LIMIT = 85.0  # seconds for everything between set-up and proofs
HOST = "demo-host"
LOOK = 0.1  # seconds between two looks at a file or a process
NOTE = 0.15  # seconds between two messages of the demo's own


class Play:
    """One run on one stage. Afterwards `seen` and `acknowledged` are what the proofs hold against the database."""

    def __init__(self, stage: Stage, plan: Plan, timeline: Timeline) -> None:
        self.stage = stage
        self.plan = plan
        self.say = timeline.say
        self._progress = timeline.progress
        self.seen: dict[int, str] = {}
        self.acknowledged: dict[str, int] = {}
        self.journals: dict[str, list[dict[str, Any]]] = {name: [] for name in plan.team}
        self._exited: Counter[str] = Counter()
        self._expected_exits: Counter[str] = Counter()
        self._merging = 0
        self._changed = trio.Event()
        self._waits_for = "the server"

    async def run(self) -> None:
        """Raises `Failure` when it takes too long or something ends that should not."""
        with trio.move_on_after(LIMIT) as limit:
            try:
                await self._acts()
            except* RelayError as errors:
                raise self._failure(f"relay failed while the demo waited for {self._waits_for}") from errors
        if limit.cancelled_caught:
            raise self._failure(f"the demo waited {LIMIT:.0f} s and did not see {self._waits_for}")

    def _failure(self, what: str) -> Failure:
        then = "relay demo --keep, then look into logs and home of the folder it names"
        return Failure(what, why=self._last_words(), then=then)

    async def _acts(self) -> None:
        self.stage.start_server()
        await self._until_answering("started")
        async with open_client(self.stage.url, self.stage.token) as client, trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_events, client)
            nursery.start_soon(self._watch_journals)
            nursery.start_soon(self._watch_processes)
            nursery.start_soon(self._take_notes, client)
            await self._open_host(client)
            for name in self.plan.team:
                await self._spawn(client, name)
            await self.until(
                "all agents at work", lambda: all(self._did(name, "started") for name in self.plan.team)
            )
            await self._kill_a_runner(client)
            await self.until("the first merge", lambda: self._merging > 0)
            await self._kill_the_server()
            await self.until(
                "all work landed", lambda: all(self._did(name, "landed") for name in self.plan.team)
            )
            await self.until("the last message received", self._all_received)
            await self._all_read(client)
            await self._dismiss(client)
            nursery.cancel_scope.cancel()

    # The acts

    async def _open_host(self, client: Client) -> None:
        self.stage.start_orchestrator(HOST)
        self._waits_for = "the host daemon registered"
        while not any(host.status == "online" for host in await client.orchestrators()):
            await trio.sleep(LOOK)
        self.say("host", f"{HOST} registered; works on {self.stage.base} of a clone in {self.stage.git.root}")

    async def _spawn(self, client: Client, name: str) -> None:
        told = self.plan.write(name, self.stage.journals)
        wish = wire.SpawnAgent(
            provider=wire.Provider.COMMAND,
            agent_id=name,
            label=name,
            cwd=str(self.stage.git.root),
            workspace_mode=wire.WorkspaceMode.ISOLATED,
            approval_mode=wire.ApprovalMode.OPEN,
            spawn_request_id=f"demo-{name}",
            prompt="; ".join(step.subject for step in self.plan.steps[name]),
            provider_config={
                "command": sys.executable,
                "defaultArgs": ["-P", program.__file__, str(told)],
                "protocol": "jsonl",
            },
        )
        await client.spawn(HOST, wish)

    async def _kill_a_runner(self, client: Client) -> None:
        victim, work = self.plan.victim, self.plan.work_to_interrupt
        await self.until(f"{victim} at {work}", lambda: self._did(victim, "turn", what=work))
        pid = await self._runner_of(client, victim)
        self._expected_exits[victim] += 1
        os.kill(pid, signal.SIGKILL)
        self.say(
            "demo", f"kills the runner of {victim} (SIGKILL to {pid}) while it works on {work}", loud=True
        )
        await self.until(f"the death of {victim} noticed", lambda: self._exited[victim] > 0)
        await self.until(f"{victim} back at work", lambda: self._times(victim, "started") > 1)

    async def _runner_of(self, client: Client, name: str) -> int:
        """Its process, as the host has reported it."""
        while True:
            for agent in (await client.orchestrator(HOST)).managed_agents:
                if agent.agent_id == name and agent.pid:
                    return agent.pid
            await trio.sleep(LOOK)

    async def _kill_the_server(self) -> None:
        self.stage.kill_server()
        shown = max(self.seen, default=0)
        self.say("demo", f"kills the server (SIGKILL) during a merge, after event {shown}", loud=True)
        await trio.sleep(1)
        self.stage.start_server()
        await self._until_answering("back, on the same database")

    async def _all_read(self, client: Client) -> None:
        """A receipt comes before its read mark; that must have arrived, too."""
        self._waits_for = "every message marked as read"
        for name in self.plan.team:
            while await client.messages(for_=name, unread=True):
                await trio.sleep(LOOK)

    async def _dismiss(self, client: Client) -> None:
        """Asks the host to end the agents; what does not end is ended with the stage."""
        self._expected_exits.update(self.plan.team)
        for name in self.plan.team:
            wish = wire.OrchestratorAction(
                action="shutdown", spawn_request_id=f"demo-{name}", reason="demo is over"
            )
            await client.orchestrator_action(HOST, wish)
        with trio.move_on_after(10):
            while any(
                agent.status != "offline" for agent in await client.agents() if agent.id in self.plan.team
            ):
                await trio.sleep(LOOK)

    # Waiting

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        self._waits_for = what
        while not condition():
            await self._changed.wait()

    async def _until_answering(self, how: str) -> None:
        """Health needs no token, so this works before there is one."""
        self._waits_for = f"the server {how}"
        while True:
            self._check()
            try:
                async with open_client(self.stage.url, "none") as client:
                    await client.health()
            except Refused:
                break
            except RelayError:
                await trio.sleep(LOOK)
            else:
                break
        self.say("server", how)

    def _last_words(self) -> str:
        last = []
        for log in sorted(
            [*self.stage.logs.glob("*.log"), *self.stage.home.glob("orchestrators/*/logs/*.log")]
        ):
            lines = log.read_text(errors="replace").strip().splitlines()
            last += [f"{log.stem}: {line}" for line in lines[-3:]]
        return "\n       ".join(last)

    def _happened(self) -> None:
        done = [
            sum(self._times(name, event) for name in self.plan.team)
            for event in ("committed", "handled", "landed")
        ]
        self._progress(
            "{} commits, {} messages received, {} landed; waiting for {}".format(*done, self._waits_for)
        )
        self._changed.set()
        self._changed = trio.Event()

    def _did(self, name: str, event: str, **details: Any) -> bool:
        return any(
            entry["event"] == event and details.items() <= entry.items() for entry in self.journals[name]
        )

    def _times(self, name: str, event: str) -> int:
        return sum(entry["event"] == event for entry in self.journals[name])

    def _all_received(self) -> bool:
        """Every receipt that the plan foresees has been written down."""
        expected = Counter[str]()
        for key, receiver in self.plan.messages().items():
            sender = key.partition("-")[0]
            expected.update(set(self.plan.team) - {sender} if receiver == "*" else {receiver})
        return all(self._times(name, "handled") >= expected[name] for name in self.plan.team)

    # Watching

    async def _watch_events(self, client: Client) -> None:
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
        self._exited[name] += 1
        if self._exited[name] > self._expected_exits[name]:
            raise self._failure(f"the runner of {name} ended, and nobody had asked for that")

    def _tell_command(self, command: dict[str, Any]) -> None:
        status, result = command["status"], command.get("result") or {}
        match command["type"], status:
            case "workspace.merge", "running":
                self._merging += 1
                self.say("host", f"merges {command['params']['branch']}")
            case "workspace.merge", "succeeded" | "failed":
                self.say("host", f"{command['params']['branch']}: {result.get('status', status)}")
            case "agent.spawn", "failed":
                raise Failure("an agent could not be started", why=command.get("error"))
            case "agent.spawn", "succeeded":
                self.say("host", f"started {command['params'].get('label')} in a worktree of its own")

    async def _watch_processes(self) -> None:
        while True:
            self._check()
            await trio.sleep(LOOK)

    def _check(self) -> None:
        ended = self.stage.ended()
        if ended is not None:
            raise self._failure(ended)

    async def _watch_journals(self) -> None:
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
            case {"event": "started"} if self._times(name, "started") > 1:
                self.say(name, "is back, and looks at what it had done", loud=True)
            case {"event": "found", "step": step}:
                self.say(name, f"finds {step} already committed")
            case {"event": "committed", "step": step, "sha": sha}:
                self.say(name, f"committed {step} as {sha[:10]}")
            case {"event": "asked", "error": error} if not self._did(name, "waiting", error=error):
                self.journals[name].append({"event": "waiting", "error": error})
                self.say(name, f"asks to merge and has to wait: {error}")
            case {"event": "refused", "outcome": {"status": "conflict"}}:
                self.say(name, "is told that its work conflicts", loud=True)
            case {"event": "rebased", "sha": sha}:
                self.say(name, f"rebased, kept both sides, now at {sha[:10]}")
            case {"event": "landed", "sha": sha}:
                self.say(name, f"landed as {sha[:10]}")
        self._happened()

    async def _take_notes(self, client: Client) -> None:
        """A sender that keeps count of what was acknowledged, right through the death of the server."""
        number = 0
        while True:
            number += 1
            key = f"demo-note-{number}"
            message = wire.SendMessage(from_="demo", to="logbook", body=f"note {number}", idempotency_key=key)
            while key not in self.acknowledged:
                try:
                    self.acknowledged[key] = (await client.send(message)).id
                except RelayError:
                    await trio.sleep(LOOK)
            await trio.sleep(NOTE)
