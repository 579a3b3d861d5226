"""`/api/connectors` (messaging-control 10)."""

from typing import Any

from relay import wire
from relay.fleet import connectors

from .answers import Answer, answer, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/connectors", scope="connector:read")
async def list_(call: Call[None]) -> Answer:
    return ok(connectors.list_connectors(call.fleet))


@route("GET", "/api/connectors/:id", scope="connector:read")
async def get(call: Call[None]) -> Answer:
    return ok(connectors.get_connector(call.fleet, call.path["id"]))


@route("PUT", "/api/connectors/:id/config", scope="connector:write", body=dict)
async def configure(call: Call[dict[str, Any]]) -> Answer:
    """The body is the configuration, or `{"config": …}` with it."""
    config = call.body
    if list(config) == ["config"] and isinstance(config["config"], dict):
        config = config["config"]
    measured = wire.decode(wire.ConnectorConfig, {"config": config})
    connector = call.fleet.connectors[call.path["id"]]
    return ok(await connector.ask(connectors.Configure(measured.config)))


@route("POST", "/api/connectors/:id/actions", scope="connector:write", body=wire.ConnectorAction)
async def act(call: Call[wire.ConnectorAction]) -> Answer:
    """The result, with 502 if it is a failure (CON-3)."""
    result = await call.fleet.connectors[call.path["id"]].ask(connectors.Act(call.body.action))
    return answer(200 if result.ok else 502, result)
