"""`/api/health`, `/api/stats` and the maintenance run (messaging-control 19)."""

from importlib.metadata import PackageNotFoundError, version

import attrs

from relay import wire
from relay.fleet import jobs, maintenance, messages, policies

from .answers import Answer, ok
from .routing import PUBLIC, Call, Routes

__all__ = ["route"]

route = Routes()

try:
    VERSION = version("relay")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0"


@route("GET", "/api/health", scope=PUBLIC)
async def health(call: Call[None]) -> Answer:
    counts = attrs.evolve(
        call.fleet.tally.count(), sse_connections=call.edge.streams, bus_connections=call.edge.bus_connections
    )
    report = wire.Health(
        status="ok",
        version=VERSION,
        uptime_ms=round(call.edge.uptime() * 1000),
        counts=counts,
        backup_at=jobs.backed_up_at(call.fleet),
        alarms=[*call.fleet.jobs.alarms(), *policies.alarms(call.fleet.store)],
    )
    return ok(report)


@route("GET", "/api/stats", scope="agent:read")
async def stats(call: Call[None]) -> Answer:
    found = call.fleet.tally.stats()
    counts = attrs.evolve(
        found.counts, sse_connections=call.edge.streams, bus_connections=call.edge.bus_connections
    )
    return ok(attrs.evolve(found, counts=counts))


@route("POST", "/api/system/broadcast", scope="message:send", body=wire.Broadcast)
async def broadcast(call: Call[wire.Broadcast]) -> Answer:
    """One message to everybody (MSG-48)."""
    said = call.body
    call.speak_as(said.from_, "from")
    call.need("message:send", target="broadcast")
    call.reach("broadcast")
    message = wire.SendMessage(
        from_=said.from_,
        to="broadcast",
        kind=wire.MessageKind.SYSTEM,
        subject=said.subject,
        body=said.body,
    )
    sent = await call.fleet.post_office.ask(messages.Send(message))
    return Answer(201, sent.text)


@route("POST", "/api/system/reap", scope="system:write")
async def reap(call: Call[None]) -> Answer:
    return ok(await call.fleet.maintenance.ask(maintenance.Reap(call.by)))
