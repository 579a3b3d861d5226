"""Orchestrators: the daemons of hosts, and the agents that they run."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class OrchestratorCalls(Calls):
    async def register_orchestrator(self, host: wire.RegisterOrchestrator) -> wire.Orchestrator:
        """Put a host on record, or renew its card; it is online from now on (ORC-3)."""
        answer = await self._call("POST", "/api/orchestrators", host, repeatable=True)
        return self._one(wire.Orchestrator, answer)

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
        answer = await self._call("POST", f"/api/orchestrators/{segment(orchestrator)}/spawn", agent)
        return self._one(wire.Command, self._object(answer).get("command"))

    async def orchestrator_action(self, id: str, action: wire.OrchestratorAction) -> wire.Command:
        """Restart or shut down one agent of the host, or all; the answer is the command that does it (14.5). 404: unknown.
        Not repeated: trouble leaves it open."""
        answer = await self._call("POST", f"/api/orchestrators/{segment(id)}/actions", action)
        return self._one(wire.Command, self._object(answer).get("command"))

    async def delete_orchestrator(self, id: str) -> None:
        """Forget the host (ORC-8). 404: unknown. Not repeated: trouble leaves open whether it is gone."""
        await self._call("DELETE", f"/api/orchestrators/{segment(id)}")
