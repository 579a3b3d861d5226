"""`/api/pairs` (messaging-control 6)."""

from typing import Any

from relay import wire
from relay.actors import Ref
from relay.fleet import pairs

from . import reach
from .answers import Answer, created, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("POST", "/api/pairs", scope="pair:write", body=wire.ProposePair)
async def propose(call: Call[wire.ProposePair]) -> Answer:
    call.speak_as(call.body.from_, "from")
    call.need("pair:write", target=call.body.to)
    call.reach(call.body.to)
    key = call.fleet.system.new_id("pair")
    return created(await call.fleet.pairs[key].ask(pairs.Propose(call.body)))


@route("GET", "/api/pairs", scope="pair:read")
async def list_(call: Call[None]) -> Answer:
    query, whose = call.query, call.query.text("agentId")
    reach.of_everybody(call.fleet.store, call.principal, whose, "agentId")
    found = pairs.list_pairs(
        call.fleet.store,
        status=query.choice("status", wire.PairStatus),
        agent_id=whose,
        limit=query.integer("limit", 1, 500) or 100,
    )
    return ok(found)


@route("GET", "/api/pairs/:id", scope="pair:read")
async def get(call: Call[None]) -> Answer:
    pair = pairs.get_pair(call.fleet.store, call.path["id"])
    reach.one_of(call.principal, (pair.from_, pair.to), f"pair {pair.id}")
    return ok(pair)


@route("POST", "/api/pairs/:id/accept", scope="pair:write", body=wire.Member)
async def accept(call: Call[wire.Member]) -> Answer:
    call.speak_as(call.body.agent_id, "agentId")
    return ok(await _pair(call).ask(pairs.Accept(call.body.agent_id)))


@route("POST", "/api/pairs/:id/reject", scope="pair:write", body=wire.Member)
async def reject(call: Call[wire.Member]) -> Answer:
    call.speak_as(call.body.agent_id, "agentId")
    return ok(await _pair(call).ask(pairs.Reject(call.body.agent_id)))


@route("POST", "/api/pairs/:id/end", scope="pair:write", body=wire.Member)
async def end(call: Call[wire.Member]) -> Answer:
    call.speak_as(call.body.agent_id, "agentId")
    return ok(await _pair(call).ask(pairs.End(call.body.agent_id)))


@route("POST", "/api/pairs/:id/messages", scope="message:send", body=wire.PairMessage)
async def say(call: Call[wire.PairMessage]) -> Answer:
    call.speak_as(call.body.from_, "from")
    reach.refers(call.fleet.store, call.principal, None, call.body.payload)
    if call.principal.constraints.targets is not None:
        pair = pairs.get_pair(call.fleet.store, call.path["id"])
        call.need_reach(target=pair.from_ if call.body.from_ == pair.to else pair.to)
    sent = await _pair(call).ask(pairs.Say(call.body))
    return Answer(201 if sent.new else 200, sent.text)


def _pair(call: Call[Any]) -> Ref[pairs.PairProtocol]:
    return call.fleet.pairs[call.path["id"]]
