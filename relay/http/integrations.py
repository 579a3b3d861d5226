"""`/api/integrations` (messaging-control 9)."""

import math

from relay import wire
from relay.fleet import integrations

from .answers import Answer, created, ok
from .errors import Refused
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/integrations", scope="integration:read")
async def list_(call: Call[None]) -> Answer:
    return ok(integrations.list_integrations(call.fleet.integrations))


@route("POST", "/api/integrations/events", scope="integration:write", body=bytes)
async def report(call: Call[bytes]) -> Answer:
    """Too many requests are refused before anybody looks at what they say (9.2)."""
    caller = _caller(call)
    _admit(call, caller)
    event = wire.decode(wire.IntegrationEvent, call.body)
    call.need("integration:write", target=event.target, channel=event.channel)
    ingested = await integrations.ingest(call.fleet, caller, event)
    return created(ingested, new=ingested.created)


def _caller(call: Call[bytes]) -> wire.IntegrationSettings | None:
    """The integration that calls; None if whoever runs the server does."""
    name = call.principal.integration
    if name is None and call.principal.may("*"):
        return None
    caller = call.fleet.integrations.find(name) if name is not None else None
    if caller is None:
        raise Refused(403, "only an integration reports events")
    return caller


def _admit(call: Call[bytes], caller: wire.IntegrationSettings | None) -> None:
    wait = call.fleet.integrations.admit(caller.name, call.fleet.system.now()) if caller is not None else 0.0
    if wait:
        text = f"more than {call.fleet.integrations.per_minute} requests in a minute"
        raise Refused(429, text, (b"retry-after", b"%d" % math.ceil(wait)))
