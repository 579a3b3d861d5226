"""Reactions to messages, and the answers that agents owe."""

from relay import wire
from relay.fleet import messages, obligations

from . import reach
from .answers import Answer, created, ok
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("POST", "/api/messages/:id/reactions", scope="message:send", body=wire.React)
async def react(call: Call[wire.React]) -> Answer:
    """The answer is the message with its reactions."""
    number = call.number("id")
    call.speak_as(call.body.agent_id, "agentId")
    reach.message(call, number)
    new = await call.fleet.post_office.ask(messages.React(number, call.body))
    return created(messages.get_message(call.fleet.store, number), new=new)


@route("GET", "/api/agents/:id/reply-obligations", scope="message:read", on="agent")
async def owed(call: Call[None]) -> Answer:
    return ok(obligations.list_obligations(call.fleet.store, call.path["id"]))
