"""The edge between a request and its handler: checks in their order, and failures as answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from rawhttp import Connection, connect, eventually, request, serving

from relay import fleet, wire
from relay.actors import ActorFailed, ActorStopped, DeadlineExpired, MailboxFull, NoReply, open_system
from relay.http import edge as edge_module
from relay.http.answers import Answer, Stream, Write, created, ok
from relay.http.auth import ROOT, Authenticator, Principal
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.routing import Call, Routes, Table
from relay.store import open_store

TOKENS = Authenticator({"root-token": ROOT, "reader": Principal("reader", frozenset({"thing:read"}))})
ROOTED = {"x_agent_relay_token": "root-token"}

FAILURES: dict[str, tuple[Exception, int]] = {
    "invalid": (fleet.Invalid("no such kind"), 400),
    "forbidden": (fleet.Forbidden("not yours"), 403),
    "not-found": (fleet.NotFound("no agent a1"), 404),
    "conflict": (fleet.Conflict("taken"), 409),
    "unprocessable": (fleet.Unprocessable("offline"), 422),
    "full": (MailboxFull("secret"), 503),
    "stopped": (ActorStopped("secret"), 503),
    "late": (DeadlineExpired("secret"), 504),
    "too-slow": (trio.TooSlowError("secret"), 504),
    "failed": (ActorFailed("secret"), 500),
    "no-reply": (NoReply("secret"), 500),
    "defect": (KeyError("secret"), 500),
    "group": (ExceptionGroup("secret", [ValueError("secret"), fleet.NotFound("secret")]), 500),
}


def declare(route: Routes) -> None:
    @route("GET", "/api/health", scope="public")
    async def health(call: Call[None]) -> Answer:
        return ok({"caller": call.principal.subject})

    @route("GET", "/api/things", scope="thing:read")
    async def things(call: Call[None]) -> Answer:
        return ok({"limit": call.query.integer("limit", 1, 5)})

    @route("POST", "/api/things", scope="thing:write", body=wire.SetLabel)
    async def make(call: Call[wire.SetLabel]) -> Answer:
        return created({"label": call.body.label})

    @route("POST", "/api/things/:id/touch", scope="thing:write", optional=wire.SetLabel)
    async def touch(call: Call[wire.SetLabel | None]) -> Answer:
        return ok({"body": call.body and call.body.label, "id": call.path["id"]})

    @route("POST", "/api/things/:id/actions", scope="thing:write", body=dict, late=True)
    async def act(call: Call[dict[str, Any]]) -> Answer:
        if call.path["id"] == "unknown":
            raise fleet.NotFound("unknown")
        call.need("thing:write")
        return ok(call.body)

    @route("GET", "/api/fails/:how", scope="thing:read")
    async def fails(call: Call[None]) -> Answer:
        raise FAILURES[call.path["how"]][0]

    @route("GET", "/api/never", scope="thing:read")
    async def never(call: Call[None]) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    @route("GET", "/api/ticks", scope="thing:read")
    async def ticks(call: Call[None]) -> Stream:
        async def run(write: Write) -> None:
            await write(b"tick\n")
            await trio.sleep_forever()

        return Stream((b"content-type", b"text/plain"), run)


@asynccontextmanager
async def made_edge(**options: Any) -> AsyncIterator[Edge]:
    route = Routes()
    declare(route)
    async with (
        open_system() as system,
        open_store(None, system) as store,
        fleet.open_fleet(system, store) as behind,
    ):
        yield Edge(behind, Table(route), TOKENS, cast(Any, None), **{"answer_within": 30.0, **options})


@pytest.fixture
async def client() -> AsyncIterator[Connection]:
    async with made_edge() as edge, serving(Guard(edge)) as port, connect(port) as connection:
        yield connection


async def test_a_public_route_needs_no_token(client: Connection) -> None:
    assert (await client.request("GET", "/api/health")).json == {"caller": "nobody"}
    assert (await client.request("GET", "/api/health", **ROOTED)).json == {"caller": "root"}


@pytest.mark.spec("AUTH-4")
@pytest.mark.parametrize("headers", [{}, {"x_agent_relay_token": "wrong"}, {"authorization": "Bearer wrong"}])
async def test_every_other_route_is_401_without_a_valid_token(
    client: Connection, headers: dict[str, str]
) -> None:
    answer = await client.request("GET", "/api/things", **headers)
    assert answer.status == 401
    assert "X-Agent-Relay-Token" in answer.error


@pytest.mark.spec("AUTH-4", "COM-2")
async def test_a_valid_token_without_the_scope_is_403(client: Connection) -> None:
    answer = await client.request("POST", "/api/things", b'{"label": "x"}', x_agent_relay_token="reader")
    assert (answer.status, answer.error) == (403, "forbidden")


async def test_the_token_is_looked_at_before_the_body_and_the_body_before_the_scope(
    client: Connection,
) -> None:
    broken = b'{"label":'
    assert (await client.request("POST", "/api/things", broken)).status == 401
    assert (await client.request("POST", "/api/things", broken, x_agent_relay_token="reader")).status == 400


@pytest.mark.spec("AUTH-5")
async def test_a_late_scope_check_comes_after_the_existence_check(client: Connection) -> None:
    reader = {"x_agent_relay_token": "reader"}
    assert (await client.request("POST", "/api/things/unknown/actions", b"{}", **reader)).status == 404
    assert (await client.request("POST", "/api/things/known/actions", b"{}", **reader)).status == 403
    assert (await client.request("POST", "/api/things/known/actions", b'{"a":1}', **ROOTED)).json == {"a": 1}


@pytest.mark.spec("BODY-2", "BODY-4", "BODY-5", "M-001")
@pytest.mark.parametrize(
    "body", [b'{"label":', b"[]", b"7", b"null", b"\xff\xfe", b'{"label": "\xff"}', b"{}", b""]
)
@pytest.mark.parametrize("path", ["/api/things", "/api/things/unknown/actions"])
async def test_a_body_that_is_no_such_object_is_400(client: Connection, path: str, body: bytes) -> None:
    answer = await client.request("POST", path, body, **ROOTED)
    if path.endswith("actions") and body == b"{}":
        assert answer.status == 404
    else:
        assert answer.status == 400
        assert answer.error


@pytest.mark.spec("BODY-3")
@pytest.mark.parametrize("body", [b"", b"null", b"  "])
async def test_an_optional_body_may_be_left_out(client: Connection, body: bytes) -> None:
    answer = await client.request("POST", "/api/things/a%2Fb/touch", body, **ROOTED)
    assert answer.json == {"body": None, "id": "a/b"}


async def test_an_optional_body_is_checked_when_it_is_there(client: Connection) -> None:
    assert (await client.request("POST", "/api/things/a/touch", b'{"label":"n"}', **ROOTED)).json[
        "body"
    ] == "n"
    assert (await client.request("POST", "/api/things/a/touch", b"[]", **ROOTED)).status == 400


async def test_query_refusals_are_400(client: Connection) -> None:
    assert (await client.request("GET", "/api/things?limit=6", **ROOTED)).status == 400
    assert (await client.request("GET", "/api/things?limit=5", **ROOTED)).json == {"limit": 5}


@pytest.mark.spec("COM-8", "O-50")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/nothing"),
        ("DELETE", "/api/things"),
        ("GET", "/"),
        ("GET", "/api/things/"),
        ("OPTIONS", "/api/things"),
    ],
)
async def test_unknown_routes_and_methods_are_404(client: Connection, method: str, path: str) -> None:
    answer = await client.request(method, path, **ROOTED)
    assert answer.status == 404
    assert answer.error


@pytest.mark.parametrize("how", list(FAILURES))
async def test_a_failure_has_its_status_and_tells_nothing_of_the_inside(client: Connection, how: str) -> None:
    answer = await client.request("GET", f"/api/fails/{how}", **ROOTED)
    assert answer.status == FAILURES[how][1]
    assert "secret" not in answer.error
    assert (answer.headers.get("retry-after") is not None) == (answer.status == 503)


async def test_refusals_say_why(client: Connection) -> None:
    assert (await client.request("GET", "/api/fails/not-found", **ROOTED)).error == "no agent a1"


async def test_a_handler_that_never_answers_is_504() -> None:
    async with made_edge(answer_within=0.05) as edge, serving(Guard(edge)) as port, connect(port) as client:
        assert (await client.request("GET", "/api/never", **ROOTED)).status == 504
        assert (await client.request("GET", "/api/things", **ROOTED)).status == 200


async def test_a_stream_ends_when_the_client_goes() -> None:
    async with made_edge() as edge, serving(Guard(edge)) as port:
        async with connect(port) as client:
            await client.send(request("GET", "/api/ticks", **ROOTED))
            await client.until(b"tick\n")
            assert edge.streams == 1
        await eventually(lambda: edge.streams == 0)


async def test_a_stream_ends_properly_when_the_server_stops() -> None:
    async with made_edge() as edge, serving(Guard(edge), grace=60.0) as port, connect(port) as client:
        await client.send(request("GET", "/api/ticks", **ROOTED))
        await client.until(b"tick\n")
        edge.close_streams()
        await client.until(b"0\r\n\r\n")
        answer = await client.request("GET", "/api/ticks", **ROOTED)
        assert answer.status == 503


async def test_other_paths_are_left_to_quart() -> None:
    async with made_edge() as edge:

        @edge.get("/page")
        async def page() -> str:
            return "from Quart"

        async with serving(Guard(edge)) as port, connect(port) as client:
            assert (await client.request("GET", "/page")).body == b"from Quart"


def test_nothing_runs_in_quarts_own_nursery() -> None:
    """A task that fails there cancels its siblings in silence, while the server goes on answering."""
    sources = [path.read_text() for path in Path(edge_module.__file__).parent.glob("*.py")]
    assert len(sources) > 10
    for name in (".add_background_task(", "app.nursery", "edge.nursery", "self.nursery"):
        assert not any(name in source for source in sources), name
