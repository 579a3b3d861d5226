"""What is answered below the application, to whoever does not speak HTTP: the bytes on the wire."""

from typing import Any

import apsw
import pytest
import trio
from rawhttp import Connection, Received, connect, serving

from relay.http.guard import Guard

both = pytest.mark.parametrize("lean", [True, False], ids=["lean", "stock"])

HOST = b"host: localhost\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST
UPGRADE = (
    b"GET /ws HTTP/1.1\r\n"
    + HOST
    + b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\n"
)

BAD = {
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    "no request line": (400, b"Hello there\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    "NUL in the path": (400, b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "raw UTF-8 in the path": (400, "GET /ä HTTP/1.1\r\n".encode() + HOST + b"\r\n"),
    "a header without a name": (400, b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n\r\n"),
    "a length that is none": (400, POST + b"content-length: ten\r\n\r\n"),
    "a negative length": (400, POST + b"content-length: -1\r\n\r\n"),
    "two lengths": (400, POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx"),
    "a bad chunk": (400, POST + b"transfer-encoding: chunked\r\n\r\nzz\r\nx\r\n"),
    "a bad chunk for HEAD": (
        400,
        b"HEAD / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ),
    "a long bad chunk": (400, POST + b"transfer-encoding: chunked\r\n\r\n" + b"z" * 5_000 + b"\r\n"),
    "another version": (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "another version for HEAD": (505, b"HEAD / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "another encoding": (501, POST + b"transfer-encoding: gzip\r\n\r\n"),
    "a long head": (431, POST + b"x-long: " + b"x" * 70_000 + b"\r\n\r\n"),
    "a bad version of WebSocket": (400, UPGRADE + b"sec-websocket-version: 12\r\n\r\n"),
    "frames before a bad handshake": (400, UPGRADE + b"sec-websocket-version: 12\r\n\r\n\x81\x01x"),
    "a subprotocol that is not text": (
        400,
        UPGRADE + b"sec-websocket-version: 13\r\nsec-websocket-protocol: \xff\r\n\r\n",
    ),
}


class Application:
    """Notes which requests reach it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] != "lifespan", "no lifespan"
        self.reached.append(scope["path"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def refusal(client: Connection, *, head_only: bool = False) -> Received:
    """The answer that is the last thing on the connection."""
    status_line = (await client.until(b"\r\n")).decode()
    version, status, reason = status_line.split(" ", 2)
    assert version == "HTTP/1.1"
    assert reason
    head = (await client.until(b"\r\n\r\n")).decode()
    headers = dict(line.split(": ", 1) for line in head.lower().split("\r\n"))
    body = b"" if head_only else await client.exactly(int(headers["content-length"]))
    assert await client.closed()
    return Received(int(status), headers, body)


@both
@pytest.mark.parametrize("case", BAD)
async def test_whatever_is_no_request_is_refused_like_one(case: str, lean: bool) -> None:
    status, raw = BAD[case]
    application = Application()
    async with serving(Guard(application), lean=lean) as port:
        async with connect(port) as client, connect(port) as other:
            await client.send(raw)
            received = await refusal(client, head_only=raw.startswith(b"HEAD"))
            assert received.status == status
            assert received.headers["connection"] == "close"
            assert received.headers["content-type"] == "application/json"
            assert received.headers["x-content-type-options"] == "nosniff"
            if received.body:
                assert 10 < len(received.error) < 300
            assert application.reached == []
            assert (await other.request("GET", "/fine")).status == 200
    assert application.reached == ["/fine"]


@both
async def test_a_refusal_says_what_is_wrong(lean: bool) -> None:
    async with serving(Guard(Application()), lean=lean) as port, connect(port) as client:
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert "Host" in (await refusal(client)).error


@both
async def test_an_answer_has_a_reason(lean: bool) -> None:
    async with serving(Guard(Application()), lean=lean) as port, connect(port) as client:
        await client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await client.until(b"\r\n") == b"HTTP/1.1 200 OK"


@both
async def test_a_websocket_that_is_not_accepted_is_refused_and_ends(lean: bool) -> None:
    async with serving(Guard(Application()), lean=lean) as port, connect(port) as client:
        await client.send(UPGRADE + b"sec-websocket-version: 13\r\n\r\n")
        assert "not accepted" in (await refusal(client)).error


@both
async def test_what_came_before_is_answered_first(lean: bool) -> None:
    application = Application()
    async with serving(Guard(application), lean=lean) as port, connect(port) as client:
        await client.send(b"GET /one HTTP/1.1\r\n" + HOST + b"\r\nno request\r\n\r\n")
        assert (await client.answer()).status == 200
        assert (await refusal(client)).status == 400
        assert application.reached == ["/one"]


@both
@pytest.mark.parametrize("settings", [b"AAMAAABkAAQCAAAAAAIAAAAA", b"\xff"])
async def test_the_way_to_another_version_is_not_taken(settings: bytes, lean: bool) -> None:
    async with serving(Guard(Application()), lean=lean) as port, connect(port) as client:
        upgrade = (
            b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: %s\r\n\r\n" % settings
        )
        await client.send(b"GET / HTTP/1.1\r\n" + HOST + upgrade)
        assert (await client.answer()).status == 200


@both
async def test_a_preface_of_another_version_is_refused(lean: bool) -> None:
    application = Application()
    async with serving(Guard(application), lean=lean) as port, connect(port) as client:
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await refusal(client)).status == 505
        assert application.reached == []


async def test_a_connection_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else may be wrong in the libraries below: it is one client's."""
    async with serving(Guard(Application())) as port, connect(port) as client, connect(port) as other:
        await client.request("GET", "/")
        await other.request("GET", "/")
        with monkeypatch.context() as patch:
            patch.setattr("hypercorn.protocol.h11.HTTPStream", None)
            await client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            with trio.fail_after(10):
                assert await client.closed()
        assert (await other.request("GET", "/")).status == 200


async def test_the_real_server_stores_nothing_of_it(server: Any) -> None:
    def stored() -> list[int]:
        connection = apsw.Connection(str(server.database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            tables = ("messages", "agents", "activity", "events")
            return [connection.execute(f"select count(*) from {table}").fetchall()[0][0] for table in tables]
        finally:
            connection.close()

    before = stored()
    body = b'{"from":"a","to":"b","body":"x"}'
    token = b"x-agent-relay-token: %s\r\ncontent-type: application/json\r\n" % server.token.encode()
    start = b"POST /api/messages HTTP/1.1\r\n" + token
    length = b"content-length: %d\r\n" % len(body)
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    for raw in (
        start + length + b"\r\n" + body,
        start + HOST + HOST + length + b"\r\n" + body,
        start + HOST + length + b"content-length: 1\r\n\r\n" + body,
        start + HOST + length + b"transfer-encoding: gzip\r\n\r\n" + body,
        start + HOST + length + b"x-long: " + b"x" * 70_000 + b"\r\n\r\n" + body,
        start + HOST + b"transfer-encoding: chunked\r\n\r\n" + chunk + b"zz\r\n",
    ):
        async with connect(server.port) as client:
            await client.send(raw)
            assert (await refusal(client)).error
    assert stored() == before
