"""What a host does for relay: one function per type of command (2.4, 2.5, 2.8, 2.14, 2.22, 2.23)."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import trio

from relay import wire

from ._problems import Refused
from .config import Config
from .merging import land
from .paths import inside
from .repolock import RepositoryLocks
from .sessions import Launch, Session, Sessions
from .teardown import Merge, cleanup, reconcile
from .worktrees import Request, resolve

__all__ = ["Workshop"]

GRACE = 10.0  # seconds an agent has to end
LONGEST_GRACE = 60.0
SESSION_NAME = 80  # bytes


class Workshop:
    """Carries out commands. The answer is the command's result; with `error` in it the command has failed."""

    def __init__(self, config: Config, sessions: Sessions, locks: RepositoryLocks) -> None:
        self._config = config
        self._sessions = sessions
        self._locks = locks
        self._slots = trio.CapacityLimiter(config.spawns)
        self._kinds: Mapping[str, Callable[[wire.Command], Awaitable[dict[str, Any]]]] = {
            "agent.spawn": self._spawn,
            "agent.shutdown": self._shutdown,
            "agent.restart": self._restart,
            "workspace.merge": self._workspace(land),
            "workspace.cleanup": self._workspace(cleanup),
            "workspace.reconcile": self._workspace(reconcile),
        }

    async def do(self, command: wire.Command) -> dict[str, Any]:
        """The result of the command. Never raises for what went wrong with it."""
        kind = self._kinds.get(command.type)
        if kind is None:
            return {"error": f"this host does not know commands of type {command.type}"}
        try:
            return await kind(command)
        except (Refused, wire.Invalid, ValueError, KeyError, OSError) as error:
            return {"error": str(error) or type(error).__name__}

    # -- agents

    async def _spawn(self, command: wire.Command) -> dict[str, Any]:
        asked = wire.decode(wire.SpawnAgent, command.params)
        if asked.provider not in self._config.providers:
            raise Refused(f"this host does not offer provider {asked.provider}")
        async with self._slots:
            known = self._sessions.find({"spawnRequestId": asked.spawn_request_id})
            session = known or await self._launch(asked)
            await self._sessions.registered(session)
        return self._result(session)

    async def _launch(self, asked: wire.SpawnAgent) -> Session:
        request_id = asked.spawn_request_id or f"sp_{uuid4()}"
        label = asked.label or f"session-{request_id[-8:]}"
        request = Request(
            cwd=Path(asked.cwd or self._config.base_dir),
            mode=asked.workspace_mode or wire.WorkspaceMode.INHERIT,
            id=request_id,
            owner=asked.policy_name or label,
            scheduled=asked.policy_name is not None,
        )
        workspace = await resolve(request, self._config.base_dir, self._locks)
        agent_id = asked.agent_id or f"{self._config.hostname}-{asked.provider}-{label}-{request_id[-8:]}"
        return self._sessions.start(self._plan(asked, request_id, agent_id, label, workspace))

    def _plan(
        self,
        asked: wire.SpawnAgent,
        request_id: str,
        agent_id: str,
        label: str,
        workspace: wire.WorkspaceReport,
    ) -> Launch:
        told = wire.to_json(workspace)
        environment = {
            **(asked.env or {}),
            "AGENT_RELAY_HEADLESS": "1",
            "AGENT_RELAY_LABEL": asked.label or "",
            "AGENT_RELAY_TAGS": ",".join(
                ["headless", "dashboard-spawned", self._config.hostname, *asked.tags]
            ),
            "AGENT_RELAY_CAPS": ",".join(asked.capabilities),
            "AGENT_RELAY_SPAWN_REQUEST_ID": request_id,
            "AGENT_RELAY_POLICY": asked.policy_name or "",
            "AGENT_RELAY_PROMPT": asked.prompt or "",
            "AGENT_RELAY_MODEL": asked.model or "",
            "AGENT_RELAY_EFFORT": asked.effort or "",
            "AGENT_RELAY_PROVIDER_ARGS_JSON": json.dumps(asked.provider_args),
            "AGENT_RELAY_PROVIDER_CONFIG_JSON": json.dumps(asked.provider_config or {}),
            "AGENT_RELAY_WORKSPACE_JSON": json.dumps(told),
            "AGENT_RELAY_WORKSPACE_MODE": workspace.mode,
            "AGENT_RELAY_TMUX_SESSION": "",
        }
        return Launch(
            name=_session_name(self._config.prefix, asked.provider, label, request_id),
            agent_id=agent_id,
            provider=asked.provider.value,
            cwd=workspace.worktree_path or workspace.source_cwd or str(self._config.base_dir),
            label=asked.label,
            approval_mode=asked.approval_mode.value,
            spawn_request_id=request_id,
            policy_name=asked.policy_name,
            workspace=told,
            environment=environment,
        )

    def _result(self, session: Session) -> dict[str, Any]:
        return {"managedAgents": [wire.to_json(self._sessions.entry(session))]}

    async def _shutdown(self, command: wire.Command) -> dict[str, Any]:
        session = self._named(command)
        if session is None:
            return {"targetNotFound": True, "error": "no session of this host matches the command"}
        stopped = await self._sessions.stop(session, _grace(command))
        facts = {"stopped": stopped, "wasRunning": True, "sessionName": session.launch.name}
        return facts if stopped else {**facts, "error": "it could not be stopped"}

    async def _restart(self, command: wire.Command) -> dict[str, Any]:
        session = self._named(command)
        if session is None:
            return {"targetNotFound": True, "error": "no session of this host matches the command"}
        if not await self._sessions.stop(session, _grace(command)):
            return {"stopped": False, "wasRunning": True, "error": "it could not be stopped"}
        again = self._sessions.start(session.launch)
        registered = await self._sessions.registered(again)
        facts = {"stopped": True, "wasRunning": True, "restarted": registered, **self._result(again)}
        return facts if registered else {**facts, "error": "its successor did not register in time"}

    def _named(self, command: wire.Command) -> Session | None:
        keys = ("agentId", "policyName", "spawnRequestId", "tmuxSession", "sessionName")
        if not any(command.params.get(key) for key in keys):
            raise Refused(
                "the command names no agent; give agentId, policyName, spawnRequestId or tmuxSession"
            )
        return self._sessions.find(command.params)

    # -- workspaces

    def _workspace(
        self, work: Callable[[Merge], Awaitable[dict[str, Any]]]
    ) -> Callable[[wire.Command], Awaitable[dict[str, Any]]]:
        async def do(command: wire.Command) -> dict[str, Any]:
            merge = Merge.read(command.params, command.id)
            for path in (merge.repo_root, merge.worktree):
                if not inside(self._config.base_dir, Path(path)):
                    raise Refused(f"{path} is not inside this host's base directory {self._config.base_dir}")
            if not Path(merge.repo_root).is_dir():
                raise Refused(f"there is no repository {merge.repo_root} on this host")
            async with self._locks.hold(merge.repo_root):
                return await work(merge)

        return do


def _grace(command: wire.Command) -> float:
    asked = command.params.get("timeoutMs")
    if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0:
        return min(asked / 1000 + 8, LONGEST_GRACE)
    return 2.0 if command.params.get("graceful") is False else GRACE


def _session_name(prefix: str, provider: str, label: str, request_id: str) -> str:
    name = f"{prefix}-{provider}-{label}-{request_id[-8:]}".lower()
    safe = re.sub(r"[^a-z0-9_-]+", "-", name)
    return safe if len(safe) <= SESSION_NAME else f"{safe[: SESSION_NAME - 9]}-{request_id[-8:]}"
