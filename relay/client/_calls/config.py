"""Configured values, and what relay itself keeps there: profiles of agents, and how stewards work."""

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

    async def profiles(self) -> list[wire.ConfigEntry]:
        """All profiles of agents, by name."""
        return self._list(wire.ConfigEntry, await self._get("/api/agent-profiles"))

    async def profile(self, name: str) -> wire.ConfigEntry:
        """One profile with its version. 404: there is none."""
        return self._one(wire.ConfigEntry, await self._get(_profile(name)))

    async def set_profile(
        self, name: str, profile: wire.AgentProfile, updated_by: str | None = None
    ) -> wire.ConfigEntry:
        """Write the profile's next version. Not repeated: trouble leaves open whether it was written."""
        body = wire.SetConfig(value=wire.to_json(profile), updated_by=updated_by)
        return self._one(wire.ConfigEntry, await self._call("PUT", _profile(name), body))

    async def delete_profile(self, name: str, updated_by: str | None = None) -> None:
        """Delete the profile; its history stays. 404: there is none. Not repeated: trouble leaves open whether it is gone."""
        await self._call("DELETE", _profile(name), query={"updatedBy": updated_by})

    async def steward_config(self) -> wire.ConfigEntry:
        """How stewards work; version 0 as long as nobody wrote one."""
        return self._one(wire.ConfigEntry, await self._get("/api/steward-config"))

    async def set_steward_config(
        self, config: wire.StewardConfig, updated_by: str | None = None
    ) -> wire.ConfigEntry:
        """Say how stewards work. Not repeated: trouble leaves open whether it was written."""
        body = wire.SetConfig(value=wire.to_json(config), updated_by=updated_by)
        return self._one(wire.ConfigEntry, await self._call("PUT", "/api/steward-config", body))


def _entry(namespace: str, key: str) -> str:
    return f"/api/config/{segment(namespace)}/{segment(key)}"


def _profile(name: str) -> str:
    return f"/api/agent-profiles/{segment(name)}"
