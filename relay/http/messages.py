"""`/api/messages` (messaging-control 4)."""

from relay import wire
from relay.fleet import messages

from . import reach
from .answers import OK, Answer, ok
from .errors import Refused
from .query import LARGEST
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("POST", "/api/messages", scope="message:send", body=wire.SendMessage)
async def send(call: Call[wire.SendMessage]) -> Answer:
    call.speak_as(call.body.from_, "from")
    call.need("message:send", target=call.body.to or "", channel=reach.channel_of(call.body))
    call.reach(call.body.to, call.body.channel)
    reach.refers(call.fleet.store, call.principal, call.body.reply_to, call.body.payload)
    sent = await call.fleet.post_office.ask(messages.Send(call.body))
    return Answer(201 if sent.new else 200, sent.text)


@route("GET", "/api/messages", scope="message:read")
async def list_(call: Call[None]) -> Answer:
    """For one agent: what matches it, from the oldest on. Without `for`: the newest first (MSG-21)."""
    query, whose = call.query, call.query.text("for")
    reach.mail_of(call.fleet.store, call.principal, whose)
    found = messages.list_messages(
        call.fleet.store,
        for_=whose,
        since=query.integer("since", 0, LARGEST) or 0,
        unread=query.flag("unread"),
        limit=query.integer("limit", 1, 500) or 100,
    )
    return ok(found)


@route("GET", "/api/messages/cursor", scope="message:read")
async def cursor(call: Call[None]) -> Answer:
    return ok(wire.Cursor(latest_id=messages.latest_id(call.fleet.store)))


@route("GET", "/api/messages/queued", scope="message:read")
async def queued(call: Call[None]) -> Answer:
    """What waits for an address, or for the policy of that name (MSG-34, O-22)."""
    target = call.query.text("for")
    if target is None:
        raise Refused(400, "for: name the address whose queue to list, as in ?for=policy:reviewer")
    reach.queue_of(call.fleet.store, call.principal, target)
    fleet = call.fleet
    limit = call.query.integer("limit", 1, 500) or 100
    return ok(messages.list_queued(fleet.store, target, now=fleet.system.wall(), limit=limit))


@route("GET", "/api/messages/:id", scope="message:read")
async def get(call: Call[None]) -> Answer:
    return ok(reach.message(call, call.number("id")))


@route("GET", "/api/messages/:id/status", scope="message:read")
async def status(call: Call[None]) -> Answer:
    return ok(messages.delivery(call.fleet.store, reach.message(call, call.number("id")).id))


@route("GET", "/api/messages/:id/thread", scope="message:read")
async def thread(call: Call[None]) -> Answer:
    return ok(messages.thread(call.fleet.store, reach.message(call, call.number("id")).id))


@route("POST", "/api/messages/:id/claim", scope="message:read", body=wire.ClaimMessage)
async def claim(call: Call[wire.ClaimMessage]) -> Answer:
    call.speak_as(call.body.agent_id, "agentId")
    return ok(await call.fleet.post_office.ask(messages.Claim(call.number("id"), call.body.agent_id)))


@route("POST", "/api/messages/:id/claim/renew", scope="message:read", body=wire.ClaimMessage)
async def renew(call: Call[wire.ClaimMessage]) -> Answer:
    call.speak_as(call.body.agent_id, "agentId")
    return ok(await call.fleet.post_office.ask(messages.Renew(call.number("id"), call.body.agent_id)))


@route("POST", "/api/messages/:id/read", scope="message:read", body=wire.MarkRead)
async def mark_read(call: Call[wire.MarkRead]) -> Answer:
    call.speak_as(call.body.agent_id, "agentId")
    reach.message(call, call.number("id"))
    await call.fleet.post_office.ask(messages.MarkRead(call.number("id"), call.body.agent_id))
    return OK


@route("DELETE", "/api/messages/:id", scope="message:delete")
async def delete(call: Call[None]) -> Answer:
    await call.fleet.post_office.ask(messages.Delete(reach.message(call, call.number("id")).id))
    return OK
