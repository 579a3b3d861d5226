"""Connectors: the adapters beside the server."""

from __future__ import annotations

from typing import Any

from relay import wire

from .base import Calls, segment


class ConnectorCalls(Calls):
    async def connectors(self) -> list[wire.Connector]:
        """The adapters that are installed beside the server, by id, their secrets masked (CON-1)."""
        return self._list(wire.Connector, await self._get("/api/connectors"))

    async def connector(self, id: str) -> wire.Connector:
        """One connector. 404: unknown."""
        return self._one(wire.Connector, await self._get(f"/api/connectors/{segment(id)}"))

    async def configure_connector(self, id: str, config: dict[str, Any]) -> wire.Connector:
        """Replace its configuration (CON-4); a mask in it stands for what it hides. 404: unknown."""
        path = f"/api/connectors/{segment(id)}/config"
        body = {"config": config}
        return self._one(wire.Connector, await self._call("PUT", path, body, repeatable=True))

    async def connector_action(self, id: str, action: wire.ConnectorVerb) -> wire.ConnectorResult:
        """Have its program do something; the answer says whether it is `ok` (CON-3). It takes up to 25 s, and longer behind
        other actions. 404: unknown. Not repeated: trouble leaves open whether it was done."""
        body = wire.ConnectorAction(action=action)
        path = f"/api/connectors/{segment(id)}/actions"
        answer = await self._call("POST", path, body, told_by=502)
        return self._one(wire.ConnectorResult, answer)
