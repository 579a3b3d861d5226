"""The delivery ladder: handing messages over, and seeing how far they got. Beside the contract's own routes."""

from functools import partial

import trio

from relay import wire
from relay.fleet import NotFound, agents, deliveries, messages

from . import reach
from .answers import Answer, ok
from .errors import Refused
from .query import LARGEST
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()

LONGEST_WAIT = 25_000  # milliseconds


@route(
    "POST",
    "/api/agents/:id/deliveries",
    scope="message:read",
    optional=wire.TakeDeliveries,
    waits=True,
    on="agent",
)
async def take(call: Call[wire.TakeDeliveries | None]) -> Answer:
    """Hand over what is due, oldest first, with a token for each; if nothing is, wait for it."""
    call.speak_as(call.path["id"], "id")
    asked = call.body or wire.TakeDeliveries()
    until = trio.current_time() + asked.wait_ms / 1000
    recipient = call.fleet.deliveries[call.path["id"]]
    message = deliveries.Take(
        instance=asked.instance_id,
        limit=asked.limit,
        most_bytes=asked.bytes_,
        holding=None if asked.holding is None else frozenset(asked.holding),
    )
    while True:
        cursor = call.fleet.events.last_id
        handed = await recipient.ask(message)
        if handed.deliveries or trio.current_time() >= until:
            return ok(wire.HandOvers(deliveries=list(handed.deliveries)))
        later = until if handed.again_in is None else min(until, trio.current_time() + handed.again_in)
        matches = call.fleet.matcher(call.path["id"], cursor)
        await deliveries.happened(call.fleet.events, cursor, matches, until=later)


@route("POST", "/api/agents/:id/deliveries/ack", scope="message:read", body=wire.AckDeliveries, on="agent")
async def ack(call: Call[wire.AckDeliveries]) -> Answer:
    """Settle hand-overs. An acknowledgement that comes alone and with a stale token is a 409."""
    call.speak_as(call.path["id"], "id")
    if not call.body.acks:
        raise Refused(400, "acks: expected at least one")
    if agents.find_participant(call.fleet.store, call.path["id"]) is None:
        raise NotFound("no such agent")
    results = await call.fleet.deliveries[call.path["id"]].ask(deliveries.Ack(tuple(call.body.acks)))
    if len(results) == 1 and results[0].error == "stale":
        raise Refused(409, f"the token is stale; the message is {results[0].rung}")
    return ok(wire.AckResults(results=list(results)))


@route("GET", "/api/agents/:id/deliveries", scope="message:read", on="agent")
async def mailbox(call: Call[None]) -> Answer:
    """How far each message got with the agent: those, in that order, which `GET /api/messages?for=` lists."""
    store, agent_id = call.fleet.store, call.path["id"]
    if agents.find_participant(store, agent_id) is None:
        raise NotFound("no such agent")
    found = messages.list_messages(
        store,
        for_=agent_id,
        since=call.query.integer("since", 0, LARGEST) or 0,
        unread=call.query.flag("unread"),
        limit=call.query.integer("limit", 1, 500) or 100,
    )
    return ok(deliveries.agent_progress(store, agent_id, [each.id for each in found]))


@route("GET", "/api/messages/:id/deliveries", scope="message:read", waits=True)
async def progress(call: Call[None]) -> Answer:
    """How far the message got with each recipient. With `rung` and `waitMs`, once all of them (with `any`, or when only one
    may work on it: one) have come that far, or no more is to be expected, or the time is over."""
    rung = call.query.choice("rung", wire.Rung)
    until = trio.current_time() + (call.query.integer("waitMs", 0, LONGEST_WAIT) or 0) / 1000
    number, one = call.number("id"), call.query.flag("any")
    reach.message(call, number)
    while True:
        cursor = call.fleet.events.last_id
        message = messages.get_message(call.fleet.store, number)
        found = deliveries.message_progress(call.fleet.store, number)
        if rung is None or trio.current_time() >= until or _settled(message, found, rung, one=one):
            return ok(found)
        wanted = partial(deliveries.concerns, number=number, routed=bool(found))
        await deliveries.happened(call.fleet.events, cursor, wanted, until=until)


def _settled(message: wire.Message, found: list[wire.Progress], rung: wire.Rung, *, one: bool) -> bool:
    """Whether there is nothing to wait for."""
    if message.delivery_status is wire.DeliveryStatus.EXPIRED:
        return True
    only_one = one or message.claimable is True
    return deliveries.reached(found, rung, one=only_one) or deliveries.over(found, rung)


@route("GET", "/api/dead-letters", scope="message:read")
async def dead_letters(call: Call[None]) -> Answer:
    """What was given up, newest message first, with the messages."""
    whose = call.query.text("agentId")
    reach.of_everybody(call.fleet.store, call.principal, whose, "agentId")
    found = deliveries.dead_letters(
        call.fleet.store,
        agent_id=whose,
        before=call.query.integer("before", 1, LARGEST),
        limit=call.query.integer("limit", 1, 500) or 100,
    )
    return ok(found)


@route("POST", "/api/messages/:id/redeliver", scope="message:send", optional=wire.Redeliver)
async def redeliver(call: Call[wire.Redeliver | None]) -> Answer:
    """Begin afresh with one agent, or with all, with whom the message is dead."""
    number, wanted = call.number("id"), call.body.agent_id if call.body else None
    reach.about(call.principal, wanted, "agentId")
    found = deliveries.message_progress(call.fleet.store, number)
    dead = [each.agent_id for each in found if each.rung is wire.Rung.DEAD]
    chosen = [agent_id for agent_id in dead if wanted in (None, agent_id)]
    if not chosen:
        where = f"with {wanted}" if wanted else "with anybody"
        raise Refused(409, f"message {number} is not dead {where}; `relay dlq` lists what is")
    for agent_id in chosen:
        await call.fleet.deliveries[agent_id].ask(deliveries.Redeliver(number))
    return ok(wire.Redelivered(redelivered=chosen))
