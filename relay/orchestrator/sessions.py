"""Sessions: the runners this host keeps, as records that outlive the daemon (2.6, 2.7, 2.8).

A runner is a plain child in a session of its own, so it goes on when the daemon ends; the next daemon finds it by its
record: process id, start time and boot. A record is on disk before the process is started, and goes only when the
process is proven dead. A record that was lost or damaged is made again from the environment of the running process.

How a runner ended decides what follows:

    killed by a signal                         started again: same agent, session, workspace
    unseen, and it had no time to tidy up      started again, unless the host has booted since
    exit code, or unseen and tidied up         it is over: the runner itself tries again where that makes sense
    asked to stop                              it is over, and no news

Rapid deaths (less than 30 s after the start) are followed by longer pauses, and the fourth within two minutes is the
last. Every death is reported exactly once: the report is on disk until relay has taken it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from relay import wire
from relay._files import read_json, remove, write_json

from . import diagnosis
from ._problems import Refused
from ._processes import Life, boot, environment, exit_code, life_of, start_tick, stop_group, tagged
from .config import Config

__all__ = ["Launch", "Session", "Sessions"]

log = logging.getLogger(__name__)

WINDOW = 120.0  # seconds in which deaths are counted
RAPID = 30.0
RAPID_ALLOWED = 3
TAG = "AGENT_RELAY_RUNNER_INFO_FILE"
"""The variable that says which session a running runner belongs to. Agents do not inherit it."""


@attrs.frozen(kw_only=True)
class Launch:
    """How a runner is started; all of it is needed to start it again."""

    name: str
    agent_id: str
    provider: str
    cwd: str
    label: str | None
    approval_mode: str
    spawn_request_id: str | None
    policy_name: str | None
    workspace: Mapping[str, Any]
    environment: Mapping[str, str]


@attrs.define(kw_only=True)
class Session:
    """One runner. `pid` is 0 while it is not started; instants are epoch seconds."""

    launch: Launch
    pid: int = 0
    tick: str | None = None
    boot: str = ""
    started_at: float = 0.0
    deaths: list[float] = attrs.field(factory=list)
    """When it died, lately, without having been asked to."""
    due: float | None = None
    """When it is to be started again."""
    code: int | None = attrs.field(default=None, init=False)

    def life(self) -> Life:
        """Whether the process runs. One of an earlier boot does not."""
        if not self.pid or self.boot != boot():
            return Life.DEAD
        if self.code is None:
            self.code = exit_code(self.pid)
        return Life.DEAD if self.code is not None else life_of(self.pid, self.tick)

    @property
    def entry(self) -> wire.ManagedAgent:
        """The session as the roster shows it (2.3-2)."""
        launch = self.launch
        workspace = wire.decode(wire.WorkspaceReport, dict(launch.workspace))
        return wire.ManagedAgent(
            agent_id=launch.agent_id,
            provider=launch.provider,
            workspace_mode=workspace.mode.value,
            workspace=workspace,
            session_name=launch.name,
            tmux_session=launch.name,
            supervisor="process",
            cwd=launch.cwd,
            label=launch.label,
            approval_mode=launch.approval_mode,
            policy_name=launch.policy_name,
            spawn_request_id=launch.spawn_request_id,
            pid=self.pid,
            started_at=wire.Instant(self.started_at),
        )


class Sessions:
    """All sessions of one daemon. `wall` gives epoch seconds."""

    def __init__(self, config: Config, wall: Callable[[], float]) -> None:
        self._config = config
        self._wall = wall
        self._stopping: set[str] = set()
        self.live: dict[str, Session] = {}
        for folder in ("sessions", "runners", "logs", "exits"):
            (config.state / folder).mkdir(parents=True, exist_ok=True, mode=0o700)

    # -- where things lie

    def _record(self, name: str) -> Path:
        return self._config.state / "sessions" / f"{name}.json"

    def info_file(self, name: str) -> Path:
        return self._config.state / "runners" / f"{name}.json"

    def log_file(self, name: str) -> Path:
        return self._config.state / "logs" / f"{name}.log"

    # -- records

    def recover(self) -> None:
        """Find what an earlier daemon left: whatever is not proven dead is ours again; the dead are buried later."""
        for path in sorted((self._config.state / "sessions").glob("*.json")):
            session = self._read(path) or self._adopted(path)
            if session is None:
                path.rename(path.with_suffix(".damaged"))
                continue
            if not session.pid and session.due is None:
                self._find_started(session)
            self.live[session.launch.name] = session

    def _read(self, path: Path) -> Session | None:
        record = read_json(path)
        try:
            return Session(launch=Launch(**record.pop("launch")), **record)
        except (AttributeError, KeyError, TypeError):
            return None

    def _find_started(self, session: Session) -> None:
        """The daemon ended between the record and the process, or just after it."""
        for pid in tagged(TAG, str(self.info_file(session.launch.name))):
            session.pid, session.tick, session.boot = pid, start_tick(pid), boot()
            session.started_at = session.started_at or self._wall()
            self._save(session)

    def _adopted(self, path: Path) -> Session | None:
        """The session of a record that cannot be read, from the process that runs in it."""
        name = path.stem
        for pid in tagged(TAG, str(self.info_file(name))):
            known = environment(pid)
            log.warning("the record of session %s is damaged; process %d was found in it", name, pid)
            launch = Launch(
                name=name,
                agent_id=known.get("AGENT_RELAY_AGENT_ID", name),
                provider=known.get("AGENT_RELAY_PROVIDER", "command"),
                cwd=str(Path(f"/proc/{pid}/cwd").readlink()),
                label=known.get("AGENT_RELAY_LABEL") or None,
                approval_mode=known.get("AGENT_RELAY_APPROVAL", "guarded"),
                spawn_request_id=known.get("AGENT_RELAY_SPAWN_REQUEST_ID") or None,
                policy_name=known.get("AGENT_RELAY_POLICY") or None,
                workspace=wire.to_json(_workspace(known)),
                environment={name: value for name, value in known.items() if name.startswith("AGENT_RELAY_")},
            )
            session = Session(
                launch=launch, pid=pid, tick=start_tick(pid), boot=boot(), started_at=self._wall()
            )
            self._save(session)
            return session
        return None

    def _save(self, session: Session) -> None:
        record = attrs.asdict(session, filter=lambda field, _: field.name != "code")
        write_json(self._record(session.launch.name), record)

    def _forget(self, session: Session) -> None:
        self.live.pop(session.launch.name, None)
        remove(self._record(session.launch.name))
        self.info_file(session.launch.name).unlink(missing_ok=True)

    # -- starting

    def start(self, launch: Launch, deaths: list[float] | None = None) -> Session:
        """Start a runner and put it on record. Raises `Refused` when it cannot be started."""
        session = Session(launch=launch, deaths=deaths or [])
        self._save(session)
        self.info_file(launch.name).unlink(missing_ok=True)
        try:
            session.pid = self._process(launch, fresh=deaths is None)
        except OSError as error:
            self._forget(session)
            raise Refused(f"the runner could not be started in {launch.cwd}: {error}") from error
        session.tick = start_tick(session.pid) or "gone"
        session.boot, session.started_at = boot(), self._wall()
        self._save(session)
        self.live[launch.name] = session
        return session

    def _process(self, launch: Launch, *, fresh: bool) -> int:
        command = [
            sys.executable,
            "-P",
            "-m",
            "relay.runner",
            launch.provider,
            "--headless",
            "--cwd",
            launch.cwd,
        ]
        with self.log_file(launch.name).open("wb" if fresh else "ab") as output:
            child = subprocess.Popen(
                command,
                cwd=launch.cwd,
                env=self._environment(launch),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child.returncode = 0  # its end is seen by process id, also by daemons that are not its parent
        return child.pid

    def _environment(self, launch: Launch) -> dict[str, str]:
        """Ours, then the launch's, then what nothing can override (2.5-10)."""
        inherited = {name: value for name, value in os.environ.items() if name != "PUBLIC_DIR"}
        token = {"AGENT_RELAY_TOKEN": self._config.token} if self._config.token else {}
        return {
            **inherited,
            **self._config.env,
            **launch.environment,
            **token,
            "AGENT_RELAY_URL": self._config.relay_url,
            "AGENT_RELAY_ID": launch.agent_id,
            "AGENT_RELAY_AGENT_ID": launch.agent_id,
            "AGENT_RELAY_PROVIDER": launch.provider,
            "AGENT_RELAY_APPROVAL": launch.approval_mode,
            "AGENT_RELAY_LOG_FILE": str(self.log_file(launch.name)),
            "AGENT_RELAY_STATE_DIR": str(self._config.state / "state" / launch.name),
            "PYTHONUNBUFFERED": "1",
            TAG: str(self.info_file(launch.name)),
        }

    def is_registered(self, session: Session) -> bool:
        """Whether the runner has registered with relay (2.5-14)."""
        info = read_json(self.info_file(session.launch.name))
        return isinstance(info, dict) and bool(info.get("registeredAt")) and info.get("pid") == session.pid

    async def registered(self, session: Session) -> bool:
        """As `is_registered`, waiting for it a while. False at once when the runner ends before."""
        with trio.move_on_after(self._config.registration):
            while session.life() is not Life.DEAD:
                if self.is_registered(session):
                    return True
                await trio.sleep(0.1)
        return False

    # -- ending

    async def stop(self, session: Session, grace: float) -> bool:
        """Stop a runner on request; whether it is gone. The record stays while it is not."""
        gone = await self._stopped(session, grace, due=None)
        if gone:
            self._forget(session)
        return gone

    async def restart(self, session: Session, grace: float) -> Session | None:
        """Stop a runner and start it anew; None when it could not be stopped. A daemon that ends in between starts it
        when it comes back."""
        if not await self._stopped(session, grace, due=self._wall()):
            session.due = None
            self._save(session)
            return None
        return self.start(session.launch)

    async def _stopped(self, session: Session, grace: float, *, due: float | None) -> bool:
        self._stopping.add(session.launch.name)
        try:
            session.due = due
            self._save(session)
            gone = session.life() is Life.DEAD or await stop_group(session.pid, session.tick, grace)
            session.life()  # so that it does not stay a zombie
            return gone
        finally:
            self._stopping.discard(session.launch.name)

    def look(self) -> bool:
        """See who has died unasked, and start again who is due. Whether the roster has changed."""
        changed = False
        for session in list(self.live.values()):
            if session.launch.name in self._stopping:
                continue
            if session.due is not None:
                changed = self._start_again(session) or changed
            elif session.life() is Life.DEAD:
                self._bury(session)
                changed = True
        return changed

    def _bury(self, session: Session) -> None:
        now = self._wall()
        name = session.launch.name
        if session.pid == 0:
            self._forget(session)  # it was never started; whoever asked for it asks again
            return
        again = self._config.restart and self._was_killed(session)
        recent = [*(death for death in session.deaths if death > now - WINDOW), now]
        if now - session.started_at < RAPID and len(recent) > RAPID_ALLOWED:
            again = False
        report = diagnosis.report(session.entry, session.code, now, self.log_file(name), restarted=again)
        log.warning("%s: %s", session.launch.agent_id, report.last_error)
        write_json(self._config.state / "exits" / f"{name}.{round(now * 1000)}.json", wire.to_json(report))
        if again:
            session.deaths, session.due = recent, now + min(10.0, 0.5 * len(recent))
            self._save(session)
        else:
            self._forget(session)

    def _was_killed(self, session: Session) -> bool:
        if session.boot != boot():
            return False
        if session.code is None:
            return self.info_file(session.launch.name).exists()
        return session.code < 0

    def _start_again(self, session: Session) -> bool:
        if session.due is None or session.due > self._wall():
            return False
        try:
            self.start(session.launch, session.deaths)
        except Refused as refused:
            log.error("%s is not started again: %s", session.launch.agent_id, refused)
        return True

    # -- what relay is told

    def exits(self) -> dict[Path, wire.ExitedAgent]:
        """The deaths that relay has not been told of, oldest first."""
        files = sorted(
            (self._config.state / "exits").glob("*.json"), key=lambda path: path.stat().st_mtime_ns
        )
        found = {path: read_json(path) for path in files}
        return {path: wire.decode(wire.ExitedAgent, each) for path, each in found.items() if each}

    def told(self, exits: Mapping[Path, wire.ExitedAgent]) -> None:
        """Relay knows of these now."""
        for path in exits:
            remove(path)

    # -- looking

    def find(self, keys: Mapping[str, Any]) -> Session | None:
        """The session that one of the given keys names, the newest for a policy (2.6-4)."""
        for key, attribute in (
            ("sessionName", "name"),
            ("tmuxSession", "name"),
            ("agentId", "agent_id"),
            ("spawnRequestId", "spawn_request_id"),
            ("policyName", "policy_name"),
        ):
            for session in reversed(list(self.live.values())):
                if keys.get(key) and getattr(session.launch, attribute) == keys[key]:
                    return session
        return None

    def occupant(self, path: str) -> str | None:
        """The agent that works, or may be working, in a worktree."""
        for session in self.live.values():
            alive = session.due is not None or session.life() is not Life.DEAD
            if alive and Path(session.launch.cwd).resolve().is_relative_to(Path(path).resolve()):
                return session.launch.agent_id
        return None


def _workspace(known: Mapping[str, str]) -> wire.WorkspaceReport:
    return wire.decode(
        wire.WorkspaceReport, known.get("AGENT_RELAY_WORKSPACE_JSON", '{"id": "unknown", "mode": "shared"}')
    )
