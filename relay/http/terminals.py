"""`/api/agents/:id/terminal-session`: a terminal beside an agent's session, on the host that runs it.

The host makes and ends it, relay passes on what it says and records who asked. It is for people: no token of an agent's opens
one, also not beside itself.
"""

from typing import Any

import orjson

from relay import wire
from relay.fleet import agents, hosts

from .answers import Answer
from .errors import Refused
from .hosts import callable_host, passed_on, segment
from .routing import Call, Routes

__all__ = ["route"]

route = Routes()


@route("POST", "/api/agents/:id/terminal-session", scope="agent:write", optional=wire.OpenTerminal, late=True)
async def open_(call: Call[wire.OpenTerminal | None]) -> Answer:
    """Agent (404), scope (403), its host (422), then the host's own answer: 201 `{session, attach}`."""
    body = {"agentId": call.path["id"], **wire.to_json(call.body or wire.OpenTerminal())}
    answer = await _ask(call, "POST", "/api/terminal-guests", body)
    session = _session(answer)
    if session is not None:
        await _note(call, session, opened=True)
    return answer


@route("DELETE", "/api/agents/:id/terminal-session/:session", scope="agent:write", late=True)
async def close(call: Call[None]) -> Answer:
    session = call.path["session"]
    body = {"agentId": call.path["id"]}
    answer = await _ask(call, "DELETE", f"/api/terminal-guests/{segment(session)}", body)
    if answer.status == 200:
        await _note(call, session, opened=False)
    return answer


async def _ask(call: Call[Any], method: str, path: str, body: dict[str, Any]) -> Answer:
    card = agents.get_agent(call.fleet.store, call.path["id"])
    call.need("agent:write", agent=card.id)
    call.speak_as("user", "terminal-session")
    host = callable_host(hosts.host_of_agent(call.fleet.store, card))
    call.need("agent:write", orchestrator=host.id)
    answer = await passed_on(call, host, method, path, body=orjson.dumps(body))
    if isinstance(answer, Answer):
        return answer
    if answer.close is not None:
        await answer.close()
    raise Refused(502, f"host {host.id} began a stream, and was asked for something else")


def _session(answer: Answer) -> str | None:
    """The terminal that the host has opened."""
    try:
        told = orjson.loads(answer.body) if answer.status == 201 else None
    except ValueError:
        return None
    session = told.get("session") if isinstance(told, dict) else None
    return session if isinstance(session, str) else None


async def _note(call: Call[Any], session: str, *, opened: bool) -> None:
    await call.fleet.agents[call.path["id"]].ask(agents.NoteTerminal(session, opened, call.by))
