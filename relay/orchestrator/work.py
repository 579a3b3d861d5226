"""What a host does for relay: one function per type of command (2.4, 2.5, 2.8, 2.14, 2.22, 2.23).

Every command may be carried out again after a crash: a spawn finds its session by the spawn request, a merge its
landing by the fence, and what was stopped or removed is gone already.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import trio

from relay import wire

from ._git import GitError
from ._problems import Refused
from ._processes import Life
from .admission import head_room
from .config import Config
from .diagnosis import log_tail
from .entitling import Grant
from .merging import land
from .outfit import outfit, outfitted_anew
from .places import Places
from .repolock import RepositoryLocks
from .session import Launch, Session, digested, session_name
from .sessions import KEYS, Sessions
from .slots import GRACE, Fences, Slot, Slots
from .teardown import Merge, cleanup, reconcile
from .worktrees import Request, resolve

__all__ = ["Workshop"]

log = logging.getLogger(__name__)

Result = dict[str, Any]
Entitled = Callable[[str, str], Awaitable[Grant]]
"""Given a command and the agent that it has started: what its runner is given besides."""

LONGEST_GRACE = 60.0
NOT_FOUND: Result = {
    "targetNotFound": True,
    "stopped": False,
    "wasRunning": False,
    "error": "no session of this host fits the command; GET /api/orchestrators lists the agents of each host",
}


class Workshop:
    """Carries out commands. The answer is the command's result; with `error` in it the command has failed."""

    def __init__(
        self, config: Config, sessions: Sessions, locks: RepositoryLocks, entitled: Entitled
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._locks = locks
        self._entitled = entitled
        self._slots = Slots(Fences(config.state / "slots"), sessions)
        self._places = Places(config.base_dir, sessions.occupant, locks)
        self._kinds: Mapping[str, Callable[[wire.Command], Awaitable[Result]]] = {
            "agent.spawn": self._spawn,
            "agent.shutdown": self._shutdown,
            "agent.restart": self._restart,
            "workspace.merge": partial(self._places.work, land),
            "workspace.cleanup": partial(self._places.work, cleanup),
            "workspace.reconcile": partial(self._places.work, reconcile),
        }

    async def do(self, command: wire.Command) -> Result:
        """The result of the command. Never raises for what went wrong with it."""
        kind = self._kinds.get(command.type)
        if kind is None:
            return {"error": f"this host does not know commands of type {command.type}"}
        try:
            return await kind(command)
        except (Refused, GitError, ValueError, OSError) as error:
            return {"error": str(error) or type(error).__name__}
        except Exception as error:
            log.exception("command %s", command.id)
            return {"error": f"{type(error).__name__}: {error}"}

    # -- agents

    async def _spawn(self, command: wire.Command) -> Result:
        session = await self._spawned(command.params, command.id)
        if not await self._sessions.registered(session) and (why := await self._over(session)):
            return {"error": why}
        return self._managed(session)

    async def _spawned(self, params: Mapping[str, Any], cause: str) -> Session:
        """The session of this spawn request: the one that is there, or a new one (2.5-6)."""
        asked = wire.decode(wire.SpawnAgent, dict(params))
        request_id = asked.spawn_request_id or f"sp_{uuid4().hex}"
        slot = Slot.read({**params, "spawnRequestId": request_id})
        await self._slots.enter(slot)
        if known := self._sessions.find({"spawnRequestId": request_id}):
            return known
        if asked.provider not in self._config.providers:
            raise Refused(f"this host does not offer provider {asked.provider}; it has {self._providers()}")
        await head_room(self._config)
        label = asked.label or f"session-{request_id[-8:]}"
        grant = await self._entitled(cause, self._agent_id(asked, request_id, label))
        workspace = await self._resolved(asked, request_id, label)
        if known := self._sessions.find({"spawnRequestId": request_id}):
            return known
        launch = self._launch(asked, request_id, label, workspace, grant)
        try:
            self._slots.check(slot)
            return self._sessions.start(launch, cause=cause)
        except (Refused, OSError):
            await self._give_back(launch.workspace)
            raise

    def _providers(self) -> str:
        return ", ".join(self._config.providers)

    async def _resolved(self, asked: wire.SpawnAgent, request_id: str, label: str) -> wire.WorkspaceReport:
        request = Request(
            cwd=Path(asked.cwd or self._config.base_dir),
            mode=asked.workspace_mode or wire.WorkspaceMode.INHERIT,
            id=request_id,
            owner=asked.policy_name or label,
            scheduled=asked.policy_name is not None or asked.automation_run_id is not None,
        )
        return await resolve(request, self._config.base_dir, self._locks)

    def _launch(
        self,
        asked: wire.SpawnAgent,
        request_id: str,
        label: str,
        workspace: wire.WorkspaceReport,
        grant: Grant,
    ) -> Launch:
        return Launch(
            name=self._free_name(asked.provider, label, request_id),
            agent_id=self._agent_id(asked, request_id, label),
            provider=asked.provider.value,
            cwd=workspace.worktree_path or workspace.source_cwd or str(self._config.base_dir),
            label=asked.label,
            approval_mode=(asked.approval_mode or wire.ApprovalMode.GUARDED).value,
            spawn_request_id=request_id,
            policy_name=asked.policy_name,
            workspace=wire.to_json(workspace),
            environment=outfit(
                attrs.evolve(asked, spawn_request_id=request_id), grant, workspace, self._config.hostname
            ),
        )

    def _agent_id(self, asked: wire.SpawnAgent, request_id: str, label: str) -> str:
        short = hashlib.sha256(request_id.encode()).hexdigest()[:8]
        return asked.agent_id or f"{self._config.hostname}-{asked.provider}-{label}-{short}"

    def _free_name(self, provider: str, label: str, request_id: str) -> str:
        """A name of its own, also beside a session whose request ends alike."""
        name = session_name(self._config.prefix, provider, label, request_id)
        taken = name in self._sessions.live
        return digested(name, label, request_id) if taken else name

    async def _over(self, session: Session) -> str | None:
        """Why the session came to nothing; None when it runs, or will be started again."""
        name = session.launch.name
        if session.life() is not Life.DEAD:
            return None
        self._sessions.look()
        if name in self._sessions.live:
            return None
        await self._give_back(session.launch.workspace)
        said = log_tail(self._sessions.records.log_file(name), 3) or "its log is empty"
        return f"the runner ended before it had registered: {said}"

    async def _give_back(self, workspace: Mapping[str, Any]) -> None:
        """Remove the worktree of a spawn that came to nothing, if nothing is in it."""
        if "worktreePath" in workspace:
            merge = Merge.read(
                {**workspace, "workspaceId": workspace.get("id")}, occupant=self._sessions.occupant
            )
            async with self._locks.hold(merge.repo_root):
                await cleanup(merge)

    def _managed(self, session: Session) -> Result:
        return {"managedAgents": [wire.to_json(session.entry)]}

    async def _shutdown(self, command: wire.Command) -> Result:
        session = self._named(command)
        slot = Slot.read(command.params)
        if slot is not None and slot.epoch is not None:
            return await self._vacated(slot, session, command)
        if session is None:
            return dict(NOT_FOUND)
        stopped = await self._sessions.stop(session, _grace(command.params))
        return self._ended(session, stopped=stopped)

    async def _vacated(self, slot: Slot, session: Session | None, command: wire.Command) -> Result:
        """The policy is stopped: none of its sessions is left, whichever is named. A stop that is older than what was started
        since has nothing to do: its session has made way."""
        if not self._slots.vacate(slot):
            return {"stopped": True, "wasRunning": False, "superseded": True}
        try:
            await self._slots.clear(slot, _grace(command.params), all_=True)
        except Refused as refused:
            known = self._ended(session, stopped=False) if session else {"stopped": False, "wasRunning": True}
            return {**known, "error": str(refused)}
        if session is None:
            return {"stopped": True, "wasRunning": False}
        return self._ended(session, stopped=await self._sessions.stop(session, _grace(command.params)))

    async def _restart(self, command: wire.Command) -> Result:
        """With `restartSpawn` a successor must stand before its predecessor goes (3.7); else the same session again, and so
        when that is of the very spawn request: it then goes on with what `restartSpawn` says of its provider.

        Of a policy there is only ever one: its agent's predecessor has gone before (`Slots`).
        """
        slot = Slot.read(command.params)
        if slot is not None and slot.epoch is not None:
            await self._slots.enter(slot)
        wish = command.params.get("restartSpawn")
        if isinstance(wish, dict):
            request = wish.get("spawnRequestId")
            before, there = (
                self._named(command, but=request),
                self._sessions.find({"spawnRequestId": request}),
            )
            if before is not None or there is None:
                return await self._replaced(command, before, wish)
        old = self._named(command)
        if old is None:
            return dict(NOT_FOUND)
        launch = outfitted_anew(old.launch, wish) if isinstance(wish, dict) else old.launch
        new = await self._sessions.restart(old, _grace(command.params), command.id, launch)
        facts = self._ended(old, stopped=new is not None)
        if new is None:
            return facts
        if not await self._sessions.registered(new):
            return {**facts, "restarted": False, "error": _unregistered(new)}
        return {**facts, "restart": True, "restarted": True, **self._managed(new)}

    async def _replaced(self, command: wire.Command, old: Session | None, wish: Mapping[str, Any]) -> Result:
        new = await self._successor(wish, command.id)
        facts: Result = {"stopped": False, "wasRunning": False}
        if old is not None:
            stopped = old.launch.name not in self._sessions.live or await self._sessions.stop(
                old, _grace(command.params)
            )
            facts = self._ended(old, stopped=stopped)
        return {**facts, "restart": True, "restarted": True, **self._managed(new)}

    async def _successor(self, wish: Mapping[str, Any], cause: str) -> Session:
        """Raises `Refused` when it does not stand; then it is gone again, and its predecessor untouched."""
        session = await self._spawned(wish, cause)
        registered = await self._sessions.registered(session)
        await trio.sleep(self._config.settle)
        if registered and session.life() is Life.ALIVE:
            return session
        why = await self._over(session)
        await self._sessions.stop(session, 2.0)
        raise Refused(why or "the successor did not register in time; its predecessor goes on")

    def _ended(self, session: Session, *, stopped: bool) -> Result:
        launch = session.launch
        facts = {
            "stopped": stopped,
            "wasRunning": True,
            "policyName": launch.policy_name,
            "spawnRequestId": launch.spawn_request_id,
            "sessionName": launch.name,
            "tmuxSession": launch.name,
            "error": None
            if stopped
            else f"process {session.pid} of {launch.agent_id} could not be stopped: end it on {self._config.hostname}",
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _named(self, command: wire.Command, but: object = None) -> Session | None:
        if not any(command.params.get(key) for key in KEYS):
            raise Refused(f"the command names no agent: give one of {', '.join(KEYS)}")
        return self._sessions.find(command.params, but)


def _unregistered(session: Session) -> str:
    name = session.launch.name
    return f"the agent did not register again in time: GET /api/logs/{name} of this host shows what its runner says"


def _grace(params: Mapping[str, Any]) -> float:
    """Seconds to wait before killing (2.8-4)."""
    asked = params.get("timeoutMs")
    if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0:
        return min(asked / 1000 + 8, LONGEST_GRACE)
    return 2.0 if params.get("graceful") is False else GRACE
