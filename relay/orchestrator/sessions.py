"""Sessions: the runners this host keeps, as records that outlive the daemon.

A runner is a plain child in a session of its own, so it goes on when the daemon ends; the next daemon finds it by its
record. A record is written before anything depends on the process, and goes only when the process is proven dead.

A runner that dies without having been asked to is started again, with the same agent, session and workspace, at most
`RAPID` times in quick succession; every death is reported with what is known about it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from relay import wire

from ._files import read_json, remove, write_json
from ._problems import Refused
from ._processes import Life, life_of, start_tick, stop_group
from .config import Config

__all__ = ["Launch", "Session", "Sessions"]

RAPID = 3  # deaths in a row after less than RAPID_WITHIN seconds
RAPID_WITHIN = 30.0
LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 64 * 1024
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


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
    """One runner. `tick` is the start time of the process; `deaths` counts rapid ones in a row."""

    launch: Launch
    pid: int
    tick: int | None
    started_at: float
    deaths: int = 0
    child: subprocess.Popen[bytes] | None = attrs.field(default=None, eq=False)

    def life(self) -> Life:
        if self.child is not None:
            return Life.ALIVE if self.child.poll() is None else Life.DEAD
        return life_of(self.pid, self.tick)


class Sessions:
    """All sessions of one daemon. `wall` gives epoch seconds."""

    def __init__(self, config: Config, wall: Any) -> None:
        self._config = config
        self._wall = wall
        self._stopping: set[str] = set()
        self.live: dict[str, Session] = {}

    # -- where things lie

    def _record(self, name: str) -> Path:
        return self._config.state / "sessions" / f"{name}.json"

    def info_file(self, name: str) -> Path:
        return self._config.state / "runners" / f"{name}.json"

    def log_file(self, name: str) -> Path:
        return self._config.state / "logs" / f"{name}.log"

    # -- life

    def recover(self) -> None:
        """Find what an earlier daemon left: whatever is not proven dead is ours again; the dead are buried later."""
        for path in sorted((self._config.state / "sessions").glob("*.json")):
            record = read_json(path)
            if isinstance(record, dict) and isinstance(record.get("launch"), dict):
                launch = Launch(**record.pop("launch"))
                self.live[launch.name] = Session(launch=launch, **record)

    def start(self, launch: Launch, *, deaths: int = 0) -> Session:
        """Start a runner and put it on record. Raises `Refused` when it cannot be started."""
        for directory in (self.info_file("x").parent, self.log_file("x").parent):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove(self.info_file(launch.name))
        command = [sys.executable, "-P", "-m", "relay.runner", launch.provider, "--headless", "--cwd", launch.cwd]
        with self.log_file(launch.name).open("ab") as log:
            try:
                child = subprocess.Popen(
                    command,
                    cwd=launch.cwd,
                    env=self._environment(launch),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise Refused(f"the runner could not be started in {launch.cwd}: {error}") from error
        session = Session(
            launch=launch,
            pid=child.pid,
            tick=start_tick(child.pid),
            started_at=self._wall(),
            deaths=deaths,
            child=child,
        )
        self._save(session)
        self.live[launch.name] = session
        return session

    def _environment(self, launch: Launch) -> dict[str, str]:
        """Ours, then the launch's, then what nothing can override (2.5-10)."""
        token = {"AGENT_RELAY_TOKEN": self._config.token} if self._config.token else {}
        return {
            **os.environ,
            **self._config.env,
            **launch.environment,
            **token,
            "AGENT_RELAY_URL": self._config.relay_url,
            "AGENT_RELAY_ID": launch.agent_id,
            "AGENT_RELAY_AGENT_ID": launch.agent_id,
            "AGENT_RELAY_APPROVAL": launch.approval_mode,
            "AGENT_RELAY_RUNNER_INFO_FILE": str(self.info_file(launch.name)),
            "AGENT_RELAY_LOG_FILE": str(self.log_file(launch.name)),
            "AGENT_RELAY_STATE_DIR": str(self._config.state / "state" / launch.name),
            "PYTHONUNBUFFERED": "1",
        }

    def _save(self, session: Session) -> None:
        record = attrs.asdict(session, filter=lambda field, _: field.name != "child")
        write_json(self._record(session.launch.name), record)

    async def registered(self, session: Session) -> bool:
        """Whether the runner has registered with relay, waiting for it a while (2.5-14)."""
        with trio.move_on_after(self._config.registration):
            while session.life() is not Life.DEAD:
                info = read_json(self.info_file(session.launch.name))
                if isinstance(info, dict) and info.get("registeredAt") and info.get("pid") == session.pid:
                    return True
                await trio.sleep(0.1)
        return False

    async def stop(self, session: Session, grace: float) -> bool:
        """Stop a runner on request; whether it is gone. The record stays while it is not."""
        name = session.launch.name
        self._stopping.add(name)
        try:
            gone = await stop_group(session.pid, session.tick, grace)
            if session.child is not None:
                session.child.poll()
            if gone:
                self._forget(session)
            return gone
        finally:
            self._stopping.discard(name)

    def bury(self) -> list[wire.ExitedAgent]:
        """Find runners that died unasked: start them again where that is sensible, and say what is known."""
        reports = []
        for session in list(self.live.values()):
            if session.launch.name in self._stopping or session.life() is not Life.DEAD:
                continue
            asked = session.child is not None and session.child.returncode == 0
            restarted = False
            report = self._diagnosis(session)
            self._forget(session)
            if self._config.restart and not asked:
                restarted = self._again(session)
            reports.append(attrs.evolve(report, restarted=restarted))
        return reports

    def _again(self, session: Session) -> bool:
        rapid = self._wall() - session.started_at < RAPID_WITHIN
        deaths = session.deaths + 1 if rapid else 0
        if deaths > RAPID:
            return False
        try:
            self.start(session.launch, deaths=deaths)
        except Refused:
            return False
        return True

    def _forget(self, session: Session) -> None:
        name = session.launch.name
        self.live.pop(name, None)
        remove(self._record(name))

    # -- looking

    def find(self, keys: Mapping[str, Any]) -> Session | None:
        """The session that one of the given keys names (2.6-4)."""
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

    def entry(self, session: Session) -> wire.ManagedAgent:
        """The session as the roster shows it."""
        launch = session.launch
        return wire.ManagedAgent(
            agent_id=launch.agent_id,
            provider=launch.provider,
            workspace=wire.decode(wire.WorkspaceReport, dict(launch.workspace)),
            session_name=launch.name,
            tmux_session=launch.name,
            supervisor="process",
            cwd=launch.cwd,
            label=launch.label,
            approval_mode=launch.approval_mode,
            policy_name=launch.policy_name,
            spawn_request_id=launch.spawn_request_id,
            pid=session.pid,
            started_at=session.started_at,
        )

    def _diagnosis(self, session: Session) -> wire.ExitedAgent:
        code = session.child.returncode if session.child is not None else None
        now, launch = self._wall(), session.launch
        by_signal = _signal_name(-code) if code is not None and code < 0 else None
        how = f"signal {by_signal}" if by_signal else f"exit code {code}" if code is not None else "unseen"
        return wire.ExitedAgent(
            agent_id=launch.agent_id,
            session_name=launch.name,
            policy_name=launch.policy_name,
            spawn_request_id=launch.spawn_request_id,
            pid=session.pid,
            started_at=session.started_at,
            detected_at=now,
            runtime_ms=max(0, round((now - session.started_at) * 1000)),
            signal=by_signal,
            exit_code=code if code is not None and code >= 0 else None,
            log_file=str(self.log_file(launch.name)),
            log_tail=_tail(self.log_file(launch.name)),
            last_error=f"the runner ended by {how}",
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _tail(path: Path) -> str | None:
    """The last lines of a log, without terminal control sequences."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    lines = [line for line in CONTROL.sub("", text).splitlines() if line.strip()]
    return "\n".join(lines[-LOG_TAIL_LINES:])[-8_000:] or None
