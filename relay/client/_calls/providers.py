"""Providers: how the programs behind agents are started."""

from __future__ import annotations

from relay import wire

from .base import Calls, segment


class ProviderCalls(Calls):
    async def provider_configs(self) -> dict[str, wire.ProviderConfig]:
        """How the programs of all providers are started, by provider, with masks for the values of their environment (PRV-1)."""
        found = await self._get_object("/api/providers/config")
        return {name: self._one(wire.ProviderConfig, config) for name, config in found.items()}

    async def provider_config(self, provider: str) -> wire.ProviderConfig:
        """How a provider's program is started, with masks for the values of its environment (PRV-2)."""
        return self._one(wire.ProviderConfig, await self._get(f"/api/providers/{segment(provider)}/config"))

    async def set_provider_config(self, provider: str, config: wire.SetProviderConfig) -> wire.ProviderConfig:
        """Replace it; what is absent has its default again (PRV-3)."""
        path = f"/api/providers/{segment(provider)}/config"
        return self._one(wire.ProviderConfig, await self._call("PUT", path, config, repeatable=True))

    async def test_provider(self, provider: str) -> wire.ProviderLookup:
        """Whether a login shell on the server's machine finds the program (PRV-6)."""
        path = f"/api/providers/{segment(provider)}/config/test"
        answer = await self._call("POST", path, repeatable=True, told_by=422)
        return self._one(wire.ProviderLookup, answer)
