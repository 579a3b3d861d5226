"""What only a host knows, asked of it and passed on (messaging-control 14.8)."""

from typing import Any
from urllib.parse import quote

import orjson

from relay import wire
from relay.fleet import Unprocessable, orchestrators

from . import reach
from .answers import Answer, Stream
from .errors import Refused
from .routing import Call, Routes
from .upstream import Unanswered

__all__ = ["callable_host", "passed_on", "route", "segment"]

route = Routes()

DIRECTORIES_WITHIN = 5.0  # seconds


@route("GET", "/api/orchestrators/:id/directories", scope="orchestrator:read", on="orchestrator")
async def directories(call: Call[None]) -> Answer | Stream:
    path = call.query.text("path", longest=1_000)
    query = f"path={quote(path, safe='')}".encode() if path else b""
    return await _directories(call, "GET", query=query)


@route("POST", "/api/orchestrators/:id/directories", scope="orchestrator:write", on="orchestrator", body=dict)
async def make_directory(call: Call[dict[str, Any]]) -> Answer | Stream:
    return await _directories(call, "POST", body=orjson.dumps(call.body))


@route("GET", "/api/orchestrators/:id/providers", scope="orchestrator:read", on="orchestrator")
async def providers(call: Call[None]) -> Answer | Stream:
    return await _passed(call, "/api/providers")


@route("GET", "/api/orchestrators/:id/sessions", scope="orchestrator:read", on="orchestrator")
async def sessions(call: Call[None]) -> Answer | Stream:
    reach.session(call, _known(call), None)
    return await _passed(call, "/api/sessions")


@route("GET", "/api/orchestrators/:id/version", scope="orchestrator:read", on="orchestrator")
async def version(call: Call[None]) -> Answer | Stream:
    return await _passed(call, "/api/version")


@route("GET", "/api/orchestrators/:id/logs/:session", scope="orchestrator:read", on="orchestrator")
async def logs(call: Call[None]) -> Answer | Stream:
    """The end of a session's log, or all that is new in it as it comes (`stream=1`)."""
    reach.session(call, _known(call), call.path["session"])
    return await _passed(call, f"/api/logs/{segment(call.path['session'])}")


async def _directories(
    call: Call[Any], method: str, *, query: bytes = b"", body: bytes | None = None
) -> Answer:
    """Always JSON, and sooner than the rest (ORC-61)."""
    host = callable_host(_known(call))
    _reach(call, host)
    answer = await passed_on(
        call, host, method, "/api/directories", query=query, body=body, within=DIRECTORIES_WITHIN
    )
    try:
        if isinstance(answer, Answer):
            orjson.loads(answer.body)
            return Answer(answer.status, answer.body, headers=answer.headers)
    except ValueError:
        pass
    if isinstance(answer, Stream) and answer.close is not None:
        await answer.close()
    raise Refused(502, f"host {host.id} did not answer with JSON")


def _reach(call: Call[Any], host: wire.Orchestrator) -> None:
    """Who is for some paths only sees no others (403). What is relative is meant below the host's base directory."""
    given = call.body.get("path") if isinstance(call.body, dict) else call.query.text("path", longest=1_000)
    path = given if isinstance(given, str) else ""
    place = path if path.startswith("/") else f"{host.base_dir.rstrip('/')}/{path}"
    call.need("orchestrator:read" if call.body is None else "orchestrator:write", path=place)


async def _passed(call: Call[None], path: str) -> Answer | Stream:
    return await passed_on(call, callable_host(_known(call)), "GET", path, query=call.query.raw)


def _known(call: Call[Any]) -> wire.Orchestrator:
    return orchestrators.get_orchestrator(call.fleet.store, call.path["id"])


def callable_host(host: wire.Orchestrator) -> wire.Orchestrator:
    """The host, if it can be called at all (ORC-60); raises `Unprocessable`."""
    if host.api_url is None:
        raise Unprocessable(f"host {host.id} has no API that relay could ask")
    if host.status is not wire.OrchestratorStatus.ONLINE:
        raise Unprocessable(f"host {host.id} is offline")
    return host


async def passed_on(
    call: Call[Any],
    host: wire.Orchestrator,
    method: str,
    path: str,
    *,
    query: bytes = b"",
    body: bytes | None = None,
    within: float | None = None,
) -> Answer | Stream:
    """What the host answers; 502 when it does not."""
    try:
        return await call.edge.upstream.ask(host, method, path, query=query, body=body, within=within)
    except Unanswered as error:
        raise Refused(502, f"host {host.id}: {error}") from None


def segment(name: str) -> str:
    """The name as one segment of a path. Dots alone would be taken for a step to another path."""
    quoted = quote(name, safe="")
    return quoted.replace(".", "%2E") if name in (".", "..") else quoted
