"""Every route of the HTTP API is a call of the client, and every call goes to a route that there is."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from contextlib import suppress
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import trio
from faulty import answer, faulty

from relay.client import Client, Refused, open_client
from relay.http.api import routes

TWINS = {
    ("GET", "/api/spawn-policies/health"): ("GET", "/api/spawn-policies"),
    ("GET", "/api/spawn-policy/:name/health"): ("GET", "/api/spawn-policy/:name/status"),
    ("GET", "/api/spawn-policy/:name"): ("GET", "/api/spawn-policy/:name/status"),
}
"""Routes of which another one says all that they say."""

ASKED_OF_HOSTS = ("directories", "providers", "sessions", "version", "logs/x")


def calls() -> dict[str, Any]:
    """The methods of the client that ask relay for something. The bus has tests of its own."""
    apart = {"use_token", "when_refused", "open_bus"}
    return {
        name: member
        for name, member in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_") and name not in apart
    }


def some(kind: Any) -> Any:
    """A value of that type."""
    origin = get_origin(kind)
    if attrs.has(kind):
        return wire_some(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if origin in (list, dict, tuple):
        return origin()
    if origin is not None and type(None) in get_args(kind):
        return None
    if origin is Union or origin is type(int | str):
        return some(get_args(kind)[0])
    return {str: "x", int: 1, float: 1.0, bool: True, Any: {}}.get(kind, [])


def wire_some(kind: Any) -> Any:
    hints = get_type_hints(kind)
    needed = [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]
    return kind(**{name: some(hints[name]) for name in needed})


def arguments(method: Any) -> dict[str, Any]:
    hints = get_type_hints(method)
    return {
        name: some(hints[name])
        for name, parameter in inspect.signature(method).parameters.items()
        if name != "self" and parameter.default is parameter.empty
    }


async def requested(client: Client, name: str) -> None:
    given = arguments(getattr(Client, name))
    for what in ASKED_OF_HOSTS if "what" in given else ("",):
        with suppress(Refused):
            made = getattr(client, name)(**({**given, "what": what} if what else given))
            if isinstance(made, AsyncGenerator):
                made = anext(made)
            await made


def route_of(line: str) -> tuple[str, str] | None:
    """The route that a request is for; of several that fit, the one with the fewest names in it."""
    method, target, _ = line.split()
    parts = target.partition("?")[0].split("/")
    fits = [
        route["path"]
        for route in routes()
        if route["method"] == method
        and len(route["path"].split("/")) == len(parts)
        and all(
            own == part or own.startswith(":")
            for own, part in zip(route["path"].split("/"), parts, strict=True)
        )
    ]
    return (method, min(fits, key=lambda path: path.count(":"))) if fits else None


async def test_every_route_is_a_call() -> None:
    found: dict[str, set[tuple[str, str] | None]] = {}
    async with faulty(answer(404, {"error": "no"})) as server, open_client(server.url, "secret") as client:
        for name in calls():
            before = len(server.requests)
            with trio.fail_after(5):
                await requested(client, name)
            found[name] = {route_of(request.line) for request in server.requests[before:]}
    assert [name for name, reached in found.items() if not reached or None in reached] == []
    reached = set().union(*found.values())
    known = {(route["method"], route["path"]) for route in routes()} - {("GET", "/bus")}
    assert {route for route in known if TWINS.get(route, route) not in reached} == set()


def test_what_has_a_twin_is_a_route() -> None:
    assert TWINS.keys() <= {(route["method"], route["path"]) for route in routes()}
