"""`/api/channels` and `/api/channel-bindings` (messaging-control 8)."""

from relay import wire
from relay.fleet import channels

from .answers import OK, Answer, created, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("GET", "/api/channels", scope="channel:read")
async def list_(call: Call[None]) -> Answer:
    found = channels.list_channels(call.fleet.store)
    return ok([each for each in found if call.principal.reaches(channel=each.id)])


@route("GET", "/api/channels/:id", scope="channel:read", on="channel")
async def get(call: Call[None]) -> Answer:
    return ok(channels.get_channel(call.fleet.store, call.path["id"]))


@route("POST", "/api/channels/:id/events", scope="channel:write", body=wire.ChannelEvent, on="channel")
async def happen(call: Call[wire.ChannelEvent]) -> Answer:
    """One message per binding; 201 if any of them is new (O-31)."""
    call.reach(f"channel:{call.path['id']}")
    sent = await call.fleet.switchboard.ask(channels.Inbound(call.path["id"], call.body))
    return created(sent, new=sent.created > 0)


@route("GET", "/api/channel-bindings", scope="channel:read")
async def bindings(call: Call[None]) -> Answer:
    found = channels.list_bindings(call.fleet.store, call.query.text("channelId"))
    return ok([each for each in found if call.principal.reaches(channel=each.channel_id)])


@route("POST", "/api/channel-bindings", scope="channel:write", body=wire.NewBinding)
async def bind(call: Call[wire.NewBinding]) -> Answer:
    target = channels.target_of(call.body).address
    call.need("channel:write", channel=call.body.channel_id, target=target)
    call.reach(f"channel:{call.body.channel_id}")
    call.reach(target)
    bound = await call.fleet.switchboard.ask(channels.Bind(call.body))
    return created(bound.binding, new=bound.new)


@route("DELETE", "/api/channel-bindings/:id", scope="channel:write")
async def unbind(call: Call[None]) -> Answer:
    bound = [each for each in channels.list_bindings(call.fleet.store, None) if each.id == call.path["id"]]
    for binding in bound:
        call.need("channel:write", channel=binding.channel_id)
    await call.fleet.switchboard.ask(channels.Unbind(call.path["id"]))
    return OK
