"""Configured values, spawn policies, and how providers are started."""

from __future__ import annotations

from typing import Any

from relay import wire

from .base import Calls, segment


class ConfigCalls(Calls):
    async def config(self, namespace: str) -> list[wire.ConfigEntry]:
        """What is configured in a namespace, by key (CFG-3)."""
        return self._list(wire.ConfigEntry, await self._get(f"/api/config/{segment(namespace)}"))

    async def config_value(self, namespace: str, key: str) -> wire.ConfigEntry:
        """One value with its version. 404: there is none."""
        return self._one(wire.ConfigEntry, await self._get(_entry(namespace, key)))

    async def set_config(
        self, namespace: str, key: str, value: Any, updated_by: str | None = None
    ) -> wire.ConfigEntry:
        """Write the next version (CFG-5). 400 with the place of each mistake, where relay itself reads the namespace.
        Not repeated, as each write is a version: trouble leaves open whether it was written."""
        body = wire.SetConfig(value=value, updated_by=updated_by)
        return self._one(wire.ConfigEntry, await self._call("PUT", _entry(namespace, key), body))

    async def delete_config(self, namespace: str, key: str, updated_by: str | None = None) -> None:
        """Delete the value; its history stays (CFG-8). 404: there is none. Not repeated: trouble leaves open whether
        it is gone."""
        await self._call("DELETE", _entry(namespace, key), query={"updatedBy": updated_by})

    async def config_history(self, namespace: str, key: str, limit: int = 100) -> list[wire.ConfigEntry]:
        """All versions, newest first (CFG-10)."""
        found = await self._get(f"{_entry(namespace, key)}/history", {"limit": limit})
        return self._list(wire.ConfigEntry, found)

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
        return self._made(await self._call("DELETE", path, query={"updatedBy": updated_by}))

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

    async def provider_config(self, provider: str) -> wire.ProviderConfig:
        """How a provider's program is started, with masks for the values of its environment (PRV-2)."""
        return self._one(wire.ProviderConfig, await self._get(f"/api/providers/{segment(provider)}/config"))

    async def set_provider_config(self, provider: str, config: wire.SetProviderConfig) -> wire.ProviderConfig:
        """Replace it; what is absent has its default again (PRV-3)."""
        path = f"/api/providers/{segment(provider)}/config"
        return self._one(wire.ProviderConfig, await self._call("PUT", path, config, repeatable=True))

    async def _do(self, name: str, verb: str) -> wire.Command:
        return self._made(await self._call("POST", f"/api/spawn-policy/{segment(name)}/{verb}"))

    def _made(self, answer: Any) -> wire.Command:
        return self._one(wire.Command, self._object(answer).get("command"))


def _entry(namespace: str, key: str) -> str:
    return f"/api/config/{segment(namespace)}/{segment(key)}"
