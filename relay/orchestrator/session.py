"""One runner: how it is started, and what is known of its process (2.6-1)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import attrs
import trio
from attrs.validators import deep_iterable, instance_of as of, optional

from relay import wire

from ._processes import Life, boot, exit_code, life_of

__all__ = ["Launch", "Session", "digested", "session_name"]

SESSION_NAME = 80  # bytes


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

    launch: Launch = attrs.field(validator=of(Launch))
    pid: int = attrs.field(default=0, validator=of(int))
    tick: str | None = attrs.field(default=None, validator=optional(of(str)))
    boot: str = attrs.field(default="", validator=of(str))
    started_at: float = attrs.field(default=0.0, validator=of((int, float)))
    deaths: list[float] = attrs.field(factory=list, validator=deep_iterable(of((int, float)), of(list)))
    """When it died, lately, without having been asked to."""
    due: float | None = attrs.field(default=None, validator=optional(of((int, float))))
    """When it is to be started again."""
    asked: bool = attrs.field(default=False, validator=of(bool))
    """Whether it has been asked to end: then its death is no news."""
    cause: str = attrs.field(default="", validator=of(str))
    """The command that it was started for in place of another."""
    child: bool = attrs.field(default=False, init=False)
    """Whether this very daemon started it: then, and only then, it is told how the process ended."""
    code: int | None = attrs.field(default=None, init=False)
    ending: trio.Lock = attrs.field(factory=trio.Lock, init=False, eq=False)
    """Held while the runner is stopped on request: its death is no news then."""

    def life(self) -> Life:
        """Whether the process runs. One of an earlier boot does not."""
        if not self.pid or self.boot != boot() or self.code is not None:
            return Life.DEAD
        life = life_of(self.pid, self.tick)
        if life is Life.DEAD and self.child:
            self.code = exit_code(self.pid)
        return life

    @property
    def entry(self) -> wire.ManagedAgent:
        """The session as the roster shows it (2.3-2)."""
        launch = self.launch
        workspace = wire.decode(wire.WorkspaceReport, dict(launch.workspace))
        return wire.ManagedAgent(
            agent_id=launch.agent_id,
            provider=launch.provider,
            model=launch.environment.get("AGENT_RELAY_MODEL") or None,
            effort=launch.environment.get("AGENT_RELAY_EFFORT") or None,
            profile=launch.environment.get("AGENT_RELAY_AGENT_PROFILE") or None,
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
            automation_run_id=launch.environment.get("AGENT_RELAY_AUTOMATION_RUN_ID") or None,
            pid=self.pid,
            started_at=wire.Instant(self.started_at),
        )


def session_name(prefix: str, provider: str, label: str, request_id: str) -> str:
    """`<prefix>-<provider>-<label>-<last 8 of the request>`, and a digest where that is not the whole truth (2.5-4)."""
    name = f"{prefix}-{provider}-{label}-{request_id[-8:]}".lower()
    safe = re.sub(r"[^a-z0-9_-]+", "-", name)
    return safe if safe == name and len(safe) <= SESSION_NAME else digested(safe, label, request_id)


def digested(name: str, label: str, request_id: str) -> str:
    """The name, made one that no other request gets."""
    digest = hashlib.sha256(f"{label}/{request_id}".encode()).hexdigest()[:8]
    return f"{name[: SESSION_NAME - 9]}-{digest}"
