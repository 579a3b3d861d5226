"""Spawn policies: agents that relay keeps running."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class PolicyCalls(Calls):
    async def policies(self) -> list[wire.PolicyReport]:
        """All spawn policies with the states of their agents, by name (POL-2)."""
        return self._list(wire.PolicyReport, await self._get("/api/spawn-policies"))

    async def policy(self, name: str) -> wire.PolicyReport:
        """One policy, and how its agent is. 404: unknown."""
        return self._one(wire.PolicyReport, await self._get(f"/api/spawn-policy/{segment(name)}/status"))

    async def set_policy(
        self, name: str, policy: wire.SpawnPolicy, updated_by: str | None = None
    ) -> wire.ConfigEntry:
        """Write the policy's next version; nothing is started by it (POL-4). Not repeated: trouble leaves open
        whether it was written."""
        body = wire.SetConfig(value=wire.to_json(policy), updated_by=updated_by)
        return self._one(
            wire.ConfigEntry, await self._call("PUT", f"/api/spawn-policy/{segment(name)}", body)
        )

    async def delete_policy(self, name: str, updated_by: str | None = None) -> wire.Command:
        """Stop the policy's agent and delete the policy (POL-6). 404: it, or its host, is unknown. Not repeated:
        trouble leaves open whether it is gone."""
        path = f"/api/spawn-policy/{segment(name)}"
        return self._command(await self._call("DELETE", path, query={"updatedBy": updated_by}))

    async def start_policy(self, name: str) -> wire.Command:
        """Have the policy's host start an agent (POL-9). 404: the policy, or its host, is unknown. 409: the host is offline, or
        an agent is starting or running. Not repeated: trouble leaves open whether it was asked for."""
        return await self._do(name, "start")

    async def stop_policy(self, name: str) -> wire.Command:
        """Have the policy's agent ended (POL-13). 404: the policy, or its host, is unknown. Not repeated: trouble leaves
        open whether it was asked for."""
        return await self._do(name, "stop")

    async def restart_policy(self, name: str) -> wire.Command:
        """Have the policy's agent ended and started again (POL-16). As `start_policy` where none was ever started.
        Not repeated: trouble leaves open whether it was asked for."""
        return await self._do(name, "restart")

    async def _do(self, name: str, verb: str) -> wire.Command:
        return self._command(await self._call("POST", f"/api/spawn-policy/{segment(name)}/{verb}"))
