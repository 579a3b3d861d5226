"""The calls of the client, each with the routes that it goes to, and the page that lists them.

`python tests/client/callkit.py > docs/client.md` writes the page anew.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import trio
from faulty import answer, faulty

from relay.client import Client, Refused, _calls, open_client
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


Reached = dict[str, set[tuple[str, str] | None]]


async def reached() -> Reached:
    """Each call, and the routes that it goes to; None stands for what is no route."""
    found: Reached = {}
    async with faulty(answer(404, {"error": "no"})) as server, open_client(server.url, "secret") as client:
        for name in calls():
            before = len(server.requests)
            with trio.fail_after(5):
                await requested(client, name)
            found[name] = {route_of(request.line) for request in server.requests[before:]}
    return found


HEAD = """\
# The client

`relay.client` is the HTTP API as methods, on trio and typed: records are classes of `relay.wire`, their instants seconds since 1970.

```python
import trio
from relay import wire
from relay.client import open_client


async def main() -> None:
    async with open_client() as client:  # AGENT_RELAY_URL, and the token as the command line finds it
        await client.send(wire.SendMessage(from_="user", to="planner", body="the tests are green"))
        print([agent.id for agent in await client.agents()])


trio.run(main)
```

Every call raises `RelayError`: `Refused` with the `status` that the docstring of the call explains (`Unauthorized` for 401 and 403),
`Unreachable`, `Overloaded`, `ServerFailed`, or `Garbled` when something else than relay answers. What may be made twice is tried three
times; of other calls that end in trouble nobody knows whether they were done, and their docstrings say so. The surrounding cancel scope is
the limit.

Beside the calls: `client.open_bus(hello)` is [the bus](bus.md), `client.events()` and `client.follow_log()` go on until they are closed,
`client.use_token(text)` shows another token from now on, and `client.when_refused(another)` says where one is found.
"""


async def page() -> str:
    """docs/client.md, as the code has it."""
    routes_of = await reached()
    parts = [HEAD]
    for kind in (*vars(_calls).values(), Client):
        if not inspect.isclass(kind):
            continue
        own = [name for name in vars(kind) if name in routes_of]
        module = inspect.getmodule(kind)
        title = "The server: whether it is well, and what happens" if kind is Client else _about(module)
        parts.append(f"\n## {title}\n\n| call | route | |\n|---|---|---|\n")
        parts += [_row(name, vars(kind)[name], routes_of[name]) for name in own]
    return "".join(parts)


def _about(module: Any) -> str:
    return str(inspect.getdoc(module)).partition("\n\n")[0].replace("\n", " ").rstrip(".")


def _row(name: str, method: Any, routes_of: set[tuple[str, str] | None]) -> str:
    names = [each for each in inspect.signature(method).parameters if each != "self"]
    led = ", ".join(f"`{verb} {path}`" for verb, path in sorted(route for route in routes_of if route))
    said = re.split(r"\.(?= |$)", " ".join(str(method.__doc__).split()))[0]
    said = re.sub(r" \([A-Z]{2,}-[A-Z0-9a-z]+(?: to [A-Z]+-\d+)?\)| \(\d+\.\d+\)", "", said)
    return f"| `{name}({', '.join(names)})` | {led} | {said.replace('|', ',')} |\n"


if __name__ == "__main__":
    sys.stdout.write(trio.run(page))
