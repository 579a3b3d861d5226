"""The runner: one agent identity, one agent process at a time, and everything between it and relay.

Order of a start (1.7): info file, what an earlier life left behind, registration, the process, the first prompt, then
mailbox, commands and liveness side by side. Relay may be away at any time: everything here tries again, and what the
agent said waits in the outbox. The agent's process may die: it is started again, within reason (1.19).
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections import deque
from contextlib import aclosing, suppress
from pathlib import Path
from random import random
from typing import Any

import trio

from relay import __version__, wire
from relay.client import Client, Refused, RelayError, Unauthorized, open_client

from .activity import Activity
from .adapter import AgentGone, DeliveryFailed, Exit
from .command import CommandAgent, end_leftover, open_agent
from .inbox import Inbox
from .options import Options
from .outbox import Outbox

__all__ = ["Runner", "serve"]

log = logging.getLogger(__name__)

EXIT_WINDOW = 120.0  # seconds
RAPID = 30.0
RAPID_ALLOWED = 3
GRACE = 10.0
LONGEST_COMMAND = 60.0
FIRST_RETRY = 0.25
LONGEST_RETRY = 10.0
AGENT_VARIABLES = (
    "AGENT_RELAY_PROVIDER_CONFIG_JSON",
    "AGENT_RELAY_RUNNER_INFO_FILE",
    "AGENT_RELAY_STATE_DIR",
)


class Runner:
    """One runner's life; `run` returns its exit code."""

    def __init__(self, options: Options, relay: Client) -> None:
        self._options = options
        self._relay = relay
        self._activity = Activity()
        self._inbox = Inbox(options, relay, self._activity, self._publish)
        self._outbox = Outbox(options.state_dir / "outbox", f"{options.agent_id}/{options.instance_id}")
        self._publishing = trio.Event()
        self._agent: CommandAgent | None = None
        self._exits: deque[float] = deque()
        self._stopping = False
        self._stop_scope = trio.CancelScope()
        self._meta: dict[str, Any] = {}
        self._started_at = time.time()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
        """Run until stopped, or until the agent ended for good."""
        self._write_info()
        await end_leftover(self._options.state_dir / "agent.json")
        code = 0
        async with trio.open_nursery() as nursery:
            with self._stop_scope:
                await self._persistently(self._register)
                self._write_info(registered=True)
                for loop in (self._liveness, self._publish_changes, self._commands, self._listen):
                    nursery.start_soon(loop)
                nursery.start_soon(self._outbox.deliver, self._relay)
                task_status.started()
                code = await self._keep_agent()
            self._activity.gone = True
            with trio.move_on_after(2, shield=True), suppress(RelayError):
                await self._report_status()
            nursery.cancel_scope.cancel()
        if self._options.info_file is not None:
            self._options.info_file.unlink(missing_ok=True)  # tells the host that this end was no accident
        return code

    async def stop(self, grace: float = GRACE) -> None:
        """End the agent, then the runner."""
        self._stopping = True
        if self._agent is not None:
            await self._agent.shutdown(grace)
        self._stop_scope.cancel()

    # -- the agent's process

    async def _keep_agent(self) -> int:
        """Run the agent, again and again while that makes sense; the exit code for the runner."""
        while True:
            started = trio.current_time()
            try:
                exit_ = await self._one_agent()
            except AgentGone as error:
                log.error("%s", error)
                exit_ = Exit("error")
            self._activity.clear()
            if self._stopping:
                return 0
            log.warning("the agent ended: %s", exit_)
            if exit_.status == "error":
                return 1
            if not await self._may_restart(trio.current_time() - started):
                return 1
            self._publish()

    async def _one_agent(self) -> Exit:
        session_id = str(uuid.uuid4())
        async with open_agent(self._options, self._environment(session_id)) as agent:
            self._agent = agent
            agent.record(self._options.state_dir / "agent.json")
            await agent.hello(self._options, session_id)
            await self._first_prompt(agent)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, agent)
                nursery.start_soon(self._inbox.run, agent)
                self._publish()
                await agent.exited.wait()
                await self._hear_the_rest(agent)
                nursery.cancel_scope.cancel()
            self._agent = None
            assert agent.exit is not None
            return agent.exit

    async def _may_restart(self, runtime: float) -> bool:
        """Wait as long as the rule says before the next start; False to give up (1.19-4)."""
        now = trio.current_time()
        self._exits.append(now)
        while self._exits[0] < now - EXIT_WINDOW:
            self._exits.popleft()
        count = len(self._exits)
        if runtime < RAPID and count > RAPID_ALLOWED:
            return False
        await trio.sleep(min(10.0, max(0.5, 0.5 * count)))
        return not self._stopping

    async def _first_prompt(self, agent: CommandAgent) -> None:
        """Once per session, however often agent and runner are started again (1.10)."""
        done = self._options.state_dir / "prompted"
        text = (self._options.prompt or "").strip()
        if not text or done.exists():
            return
        try:
            await agent.prompt(text)
            done.touch()
        except DeliveryFailed as error:
            log.error("the first prompt was not taken: %s", error)

    def _environment(self, session_id: str) -> dict[str, str]:
        options = self._options
        inherited = {name: value for name, value in os.environ.items() if name not in AGENT_VARIABLES}
        token = {"AGENT_RELAY_TOKEN": options.token} if options.token else {}
        return {
            **inherited,
            **options.provider_config.get("env", {}),
            **token,
            "AGENT_RELAY_URL": options.relay_url,
            "AGENT_RELAY_ID": options.agent_id,
            "AGENT_RELAY_RUNNER_ID": options.instance_id,
            "AGENT_RELAY_PROVIDER_SESSION_ID": session_id,
            "AGENT_RELAY_APPROVAL": options.approval_mode,
        }

    # -- what the agent says

    async def _hear(self, agent: CommandAgent) -> None:
        async for frame in agent.frames:
            await self._heard(frame)

    async def _hear_the_rest(self, agent: CommandAgent) -> None:
        """The last words of an agent that has ended."""
        with suppress(trio.WouldBlock):
            while True:
                await self._heard(agent.frames.receive_nowait())

    async def _heard(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "turn":
                self._turn(frame.get("state") == "start", "provider-turn")
            case "status":
                self._turn(frame.get("status") == "busy", str(frame.get("reason") or "provider-turn"))
            case "reply":
                self._post(frame, wire.MessageKind.CHAT)
            case "session":
                self._post(
                    {**frame, "to": "user", "meta": {"role": frame.get("role")}}, wire.MessageKind.SESSION
                )
            case "context":
                self._meta["context"] = frame.get("context") or {}
                self._publish()
            case "log":
                log.info("agent: %s", frame.get("text"))
        await trio.lowlevel.checkpoint()

    def _turn(self, begins: bool, kind: str) -> None:
        (self._activity.start if begins else self._activity.finish)(kind, kind)
        self._publish()
        if not begins:
            self._inbox.look()

    def _post(self, frame: dict[str, Any], kind: wire.MessageKind) -> None:
        fields = ("to", "replyTo", "subject", "body", "payload", "meta", "channel", "idempotencyKey")
        message = {name: frame[name] for name in fields if frame.get(name) is not None}
        try:
            self._outbox.put({**message, "from": self._options.agent_id, "kind": kind.value})
        except OSError as error:
            log.error("a message of the agent cannot be kept: %s", error)

    # -- relay

    async def _register(self) -> None:
        options = self._options
        meta = {
            "provider": options.provider,
            "runnerManaged": True,
            "cwd": str(options.cwd),
            "approvalMode": options.approval_mode,
            "pid": os.getpid(),
            "startedAt": round(self._started_at * 1000),
            "runnerVersion": __version__,
            "policyName": options.policy_name,
            "spawnRequestId": options.spawn_request_id,
            "workspace": options.workspace,
        }
        await self._relay.register_agent(
            wire.RegisterAgent(
                id=options.agent_id,
                kind=wire.AgentKind.PROVIDER,
                status=self._activity.status(time.time()),
                ready=False,
                label=options.label,
                tags=options.all_tags,
                capabilities=options.all_capabilities,
                machine=os.uname().nodename,
                instance_id=options.instance_id,
                meta={name: value for name, value in meta.items() if value is not None},
            )
        )

    async def _liveness(self) -> None:
        """Say that the agent is there, and look for what a lost event may have announced (1.20)."""
        while True:
            await trio.sleep(self._options.liveness)
            try:
                await self._report_status()
                beat = wire.Heartbeat(instance_id=self._options.instance_id, meta=self._meta or None)
                await self._relay.heartbeat(self._options.agent_id, beat)
                self._inbox.look()
            except Unauthorized as error:
                log.error("relay does not accept this runner any more: %s", error)
                return
            except Refused as error:
                if error.status == 404:
                    await self._persistently(self._register)
                elif error.status == 409:
                    log.error("another runner has taken over this agent; ending")
                    await self.stop()
            except RelayError as error:
                log.warning("%s", error)

    def _publish(self) -> None:
        """The status may have changed."""
        self._publishing.set()

    async def _publish_changes(self) -> None:
        while True:
            await self._publishing.wait()
            self._publishing = trio.Event()
            with suppress(Refused):
                await self._persistently(self._report_status)

    async def _report_status(self) -> None:
        options = self._options
        status = self._activity.status(time.time())
        await self._relay.set_status(
            options.agent_id, wire.SetStatus(status=status, instance_id=options.instance_id)
        )
        ready = self._agent is not None and status is not wire.AgentStatus.OFFLINE and not self._stopping
        await self._relay.set_ready(
            options.agent_id, wire.SetReady(ready=ready, instance_id=options.instance_id)
        )

    async def _listen(self) -> None:
        """Relay's events only wake the polls; polling stays the source of truth."""
        async with aclosing(self._relay.events(self._options.agent_id)) as events:
            async for event in events:
                if event.type.startswith("message."):
                    self._inbox.look()

    async def _persistently(self, call: Any) -> None:
        """Call until relay answers, with growing pauses. A refusal is an answer."""
        pause = FIRST_RETRY
        while True:
            try:
                await call()
                return
            except Refused as error:
                if error.status < 500 and error.status not in (408, 429):
                    raise
                log.warning("%s", error)
            except RelayError as error:
                log.warning("%s", error)
            await trio.sleep(pause * (0.75 + random() / 2))
            pause = min(LONGEST_RETRY, pause * 2)

    # -- commands

    async def _commands(self) -> None:
        """Carry out the commands for this agent, one after the other (1.15)."""
        while True:
            try:
                for command in await self._relay.commands(
                    target=self._options.agent_id, status="pending", limit=50
                ):
                    await self._execute(command)
            except RelayError as error:
                log.warning("%s", error)
            await trio.sleep(self._options.poll)

    async def _execute(self, command: wire.Command) -> None:
        for status in (wire.CommandStatus.ACCEPTED, wire.CommandStatus.RUNNING):
            await self._relay.patch_command(command.id, wire.PatchCommand(status=status))
        facts = {"agentId": self._options.agent_id, "action": command.type.partition(".")[2]}
        try:
            with trio.fail_after(_limit(command)):
                result = await self._do(command)
            patch = wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED, result={**facts, **result})
        except (DeliveryFailed, AgentGone, trio.TooSlowError, ValueError) as error:
            said = str(error) or "it took too long"
            patch = wire.PatchCommand(status=wire.CommandStatus.FAILED, result=facts, error=said)
        await self._relay.patch_command(command.id, patch)
        if command.type in {"agent.shutdown", "agent.kill"} and patch.status is wire.CommandStatus.SUCCEEDED:
            self._stop_scope.cancel()

    async def _do(self, command: wire.Command) -> dict[str, Any]:
        agent = self._agent
        if agent is None:
            raise AgentGone("the agent is not running")
        match command.type:
            case "agent.shutdown" | "agent.kill":
                self._stopping = True
                await agent.shutdown(0 if command.type == "agent.kill" else _limit(command) / 2)
            case "agent.restart":
                await agent.shutdown(_limit(command) / 2)
            case "agent.interrupt" | "agent.compact":
                return dict(await agent.ask(command.type.partition(".")[2]))
            case "agent.clearContext":
                return dict(await agent.ask("clear"))
            case "prompt.inject" | "agent.injectContext":
                body = command.params.get("body")
                if not isinstance(body, str) or not body.strip():
                    raise ValueError("params.body must be a text")
                await agent.prompt(body)
            case _:
                raise ValueError(f"this runner does not know commands of type {command.type}")
        return {}

    def _write_info(self, *, registered: bool = False) -> None:
        """The file that tells the host about this runner (1.24)."""
        path = self._options.info_file
        if path is None:
            return
        info = {
            "agentId": self._options.agent_id,
            "runnerId": self._options.instance_id,
            "provider": self._options.provider,
            "pid": os.getpid(),
            "startedAt": round(self._started_at * 1000),
        }
        if registered:
            info["registeredAt"] = round(time.time() * 1000)
        write_private(path, info)


def write_private(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file)
    beside.replace(path)


def _limit(command: wire.Command) -> float:
    """How long a command may take, in seconds (13.2 of the control plane)."""
    asked = command.params.get("timeoutMs")
    if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0:
        return min(asked / 1000, LONGEST_COMMAND)
    return GRACE


async def serve(options: Options, *, task_status: trio.TaskStatus[Runner] = trio.TASK_STATUS_IGNORED) -> int:
    """Run one agent until it ended for good; started, with the runner, once it is registered."""
    options.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with open_client(options.relay_url, options.token) as relay, trio.open_nursery() as nursery:
        runner = Runner(options, relay)
        outcome: list[int] = []

        async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            outcome.append(await runner.run(task_status=task_status))
            nursery.cancel_scope.cancel()

        await nursery.start(run)
        task_status.started(runner)
    return outcome[0] if outcome else 0
