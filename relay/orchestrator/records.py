"""Session records: one file per session, on disk before its process is started (2.6-1, 2.6-5, 2.6-8).

A record that was lost or damaged is made again from the environment of the running process. What cannot be read and
has no process is set aside, never deleted.

    sessions/<name>.json    the record
    runners/<name>.json     what the runner says of itself; it removes it when it ends of its own accord
    runners/<name>.<NAME>   a variable of the runner that is too long for an environment
    logs/<name>.log         what it printed
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from relay import wire
from relay._files import read_json, remove, write_json

from ._processes import boot, environment, start_tick, tagged
from .session import Launch, Session

__all__ = ["TAG", "Records"]

log = logging.getLogger(__name__)

TAG = "AGENT_RELAY_RUNNER_INFO_FILE"
"""The variable that says which session a running runner belongs to. Agents do not inherit it."""


class Records:
    """The session files below `state`. `wall` gives epoch seconds."""

    def __init__(self, state: Path, wall: Callable[[], float]) -> None:
        self._state = state
        self._wall = wall
        for folder in ("sessions", "runners", "logs"):
            (state / folder).mkdir(parents=True, exist_ok=True, mode=0o700)

    def _record(self, name: str) -> Path:
        return self._state / "sessions" / f"{name}.json"

    def info_file(self, name: str) -> Path:
        return self._state / "runners" / f"{name}.json"

    def log_file(self, name: str) -> Path:
        return self._state / "logs" / f"{name}.log"

    def payload_file(self, name: str, variable: str) -> Path:
        """Where a variable of the runner is kept that is too long for an environment."""
        return self._state / "runners" / f"{name}.{variable}"

    def save(self, session: Session) -> None:
        record = attrs.asdict(session, filter=lambda field, _: field.init)
        write_json(self._record(session.launch.name), record)

    def forget(self, session: Session) -> None:
        remove(self._record(session.launch.name))
        name = session.launch.name
        for path in (self.info_file(name), *self._state.glob(f"runners/{name}.AGENT_RELAY_*")):
            path.unlink(missing_ok=True)

    def recover(self) -> list[Session]:
        """The sessions that an earlier daemon left."""
        found = []
        for path in sorted((self._state / "sessions").glob("*.json")):
            session = self._read(path) or self._adopted(path)
            if session is None:
                path.rename(path.with_suffix(".damaged"))
                continue
            if not session.pid:
                self._find_started(session)
            found.append(session)
        return found

    def _read(self, path: Path) -> Session | None:
        record = read_json(path)
        try:
            session = Session(launch=Launch(**record.pop("launch")), **record)
            _ = session.entry  # what the roster cannot show is no record either
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        return session

    def _find_started(self, session: Session) -> None:
        """The daemon ended between the record and the process, or just after it."""
        for pid in tagged(TAG, str(self.info_file(session.launch.name))):
            session.pid, session.tick, session.boot = pid, start_tick(pid), boot()
            session.started_at, session.due = session.started_at or self._wall(), None
            self.save(session)

    def _adopted(self, path: Path) -> Session | None:
        """The session of a record that cannot be read, from the process that runs in it."""
        name = path.stem
        for pid in tagged(TAG, str(self.info_file(name))):
            log.warning("the record of session %s is damaged; process %d was found in it", name, pid)
            session = Session(
                launch=_launch_of(name, pid),
                pid=pid,
                tick=start_tick(pid),
                boot=boot(),
                started_at=self._wall(),
            )
            self.save(session)
            return session
        return None


def _launch_of(name: str, pid: int) -> Launch:
    """How the process was started, as its environment tells it."""
    known = environment(pid)
    return Launch(
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


def _workspace(known: Mapping[str, str]) -> wire.WorkspaceReport:
    return wire.decode(
        wire.WorkspaceReport, known.get("AGENT_RELAY_WORKSPACE_JSON", '{"id": "unknown", "mode": "shared"}')
    )
