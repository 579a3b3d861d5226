"""Orchestrators: the daemons of hosts, and the agents that they run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from relay import wire
from relay.client._logs import log_lines

from .base import Calls, segment


class OrchestratorCalls(Calls):
    async def register_orchestrator(self, host: wire.RegisterOrchestrator) -> wire.RegisteredOrchestrator:
        """Put a host on record, or renew its card; it is online from now on (ORC-3). 400: also when its `api_url` is no place
        that relay calls."""
        answer = await self._call("POST", "/api/orchestrators", host, repeatable=True)
        return self._one(wire.RegisteredOrchestrator, answer)

    async def orchestrators(self) -> list[wire.Orchestrator]:
        """All hosts, by id."""
        return self._list(wire.Orchestrator, await self._get("/api/orchestrators"))

    async def orchestrator(self, id: str) -> wire.Orchestrator:
        """One host. 404: unknown."""
        return self._one(wire.Orchestrator, await self._get(f"/api/orchestrators/{segment(id)}"))

    async def orchestrator_heartbeat(self, id: str, beat: wire.OrchestratorHeartbeat) -> None:
        """The host is there; without contact for 90 s it is offline (ORC-9). 404: relay does not know it, register again
        (ORC-5)."""
        await self._call("POST", f"/api/orchestrators/{segment(id)}/heartbeat", beat, repeatable=True)

    async def report_roster(self, id: str, roster: wire.Roster) -> None:
        """Replace the list of agents that the host runs, and tell which have ended (ORC-10). 404: unknown."""
        await self._call("PATCH", f"/api/orchestrators/{segment(id)}/agents", roster, repeatable=True)

    async def spawn(self, orchestrator: str, agent: wire.SpawnAgent) -> wire.Command:
        """Ask a host to start an agent (14.4); the answer is the command that does it. 409: it is offline. 400: it lacks the
        provider, or the folder is outside its own. 404: unknown. Not repeated: trouble leaves it open."""
        return self._command(
            await self._call("POST", f"/api/orchestrators/{segment(orchestrator)}/spawn", agent)
        )

    async def orchestrator_action(self, id: str, action: wire.OrchestratorAction) -> wire.Command:
        """Restart or shut down one agent of the host, or all; the answer is the command that does it (14.5). 404: unknown.
        Not repeated: trouble leaves it open."""
        return self._command(await self._call("POST", f"/api/orchestrators/{segment(id)}/actions", action))

    async def upgrade_orchestrator(self, id: str, upgrade: wire.UpgradeOrchestrator) -> wire.Command:
        """Have the host change its version; the answer is the command that does it, and the host's `upgrade` tells how it came
        out (14.6). 404: unknown. 409: that would be an older version. Not repeated: trouble leaves it open."""
        return self._command(await self._call("POST", f"/api/orchestrators/{segment(id)}/actions", upgrade))

    async def host_says(self, id: str, what: str, query: dict[str, Any] | None = None) -> Any:
        """What only the host knows: `directories`, `providers`, `sessions`, `version` or `logs/<session>` (14.8). 404: unknown.
        422: it has no API, or is offline. 502: it does not answer. Other statuses are the host's own."""
        path = "/".join(segment(part) for part in what.split("/", 1))
        return await self._get(f"/api/orchestrators/{segment(id)}/{path}", query)

    async def make_directory(self, id: str, name: str, parent: str = "") -> dict[str, Any]:
        """Make a folder on the host in `parent`, which is below its base directory, or that; the answer shows what is in it.
        Raises as `host_says`. Not repeated: trouble leaves open whether it is there."""
        body = {"path": parent, "name": name}
        return self._object(await self._call("POST", f"/api/orchestrators/{segment(id)}/directories", body))

    async def server_directories(self, path: str | None = None) -> dict[str, Any]:
        """Folders of the server's own machine, below the one it is configured with (O-55). 400: none, or not below that."""
        return await self._get_object("/api/host/directories", {"path": path})

    def follow_log(self, id: str, session: str, *, lines: int = 100) -> AsyncGenerator[list[str]]:
        """The last lines of a session's log on a host, then all that is new as it comes, until the session is over. Close it
        with `contextlib.aclosing`. Raises as `host_says`; trouble ends it."""
        path = f"/api/orchestrators/{segment(id)}/logs/{segment(session)}"
        return log_lines(self._transport, path, lines)

    async def orphans(self) -> list[dict[str, Any]]:
        """Worktrees on hosts that no workspace is in any more (10.1)."""
        found = self._object(await self._get("/api/workspaces/orphans")).get("orphans")
        return found if isinstance(found, list) else []

    async def reclaim_orphan(self, orphan: wire.Reclaim) -> wire.Command:
        """Have the host remove such a worktree; the answer is the command that does it (10.2). 409: a workspace is in it, or no
        host that has the repository is online. Not repeated: trouble leaves it open."""
        return self._command(await self._call("POST", "/api/workspaces/orphans/reclaim", orphan))

    async def delete_orchestrator(self, id: str) -> None:
        """Forget the host (ORC-8). 404: unknown. Not repeated: trouble leaves open whether it is gone."""
        await self._call("DELETE", f"/api/orchestrators/{segment(id)}")
