"""The guard around a plain Quart application: what reaches it, and what the client is told otherwise."""

import pytest
import trio.testing
from quart import request as quart_request, websocket
from quart_trio import QuartTrio
from rawhttp import connect, eventually, request, serving

from relay.http.guard import Guard, Hosts, Limits, Refusal

SMALL = Limits(body=1_000, body_seconds=0.2, discarded=100_000)


def app() -> QuartTrio:
    quart = QuartTrio(__name__, static_folder=None)

    @quart.post("/echo")
    async def echo() -> bytes:
        body: bytes = await quart_request.get_data(as_text=False)
        return body

    @quart.get("/fails")
    async def fails() -> str:
        raise RuntimeError("inside")

    return quart


async def test_a_refusal_before_the_body_has_come_leaves_the_connection_usable() -> None:
    async with serving(Guard(app())) as port, connect(port) as client:
        await client.send(request("POST", "/no-such-route", content_length="5"))
        await trio.testing.wait_all_tasks_blocked(0.05)  # whoever answers without the body has done so now
        await client.send(b"hello")
        assert (await client.answer()).status == 404
        assert (await client.request("POST", "/echo", b"again")).body == b"again"


@pytest.mark.parametrize("path", ["/no-such-route", "/echo"])
async def test_a_connection_that_is_to_be_closed_is_closed(path: str) -> None:
    async with serving(Guard(app())) as port:
        for _ in range(10):
            async with connect(port) as client:
                await client.send(request("POST", path, content_length="0", connection="close"))
                assert (await client.answer()).status == (404 if path == "/no-such-route" else 200)
                assert await client.closed()


@pytest.mark.spec("BODY-1", "O-01")
async def test_a_body_over_the_limit_is_413_and_closes_the_connection() -> None:
    async with serving(Guard(app(), limits=SMALL)) as port, connect(port) as client:
        answer = await client.request("POST", "/echo", b"x" * 1_001)
        assert answer.status == 413
        assert "1000 bytes" in answer.error
        assert answer.headers["connection"] == "close"
        assert await client.closed()


@pytest.mark.spec("BODY-1")
async def test_a_body_of_just_the_limit_passes() -> None:
    async with serving(Guard(app(), limits=SMALL)) as port, connect(port) as client:
        assert len((await client.request("POST", "/echo", b"x" * 1_000)).body) == 1_000


async def test_a_chunked_body_over_the_limit_is_413_too() -> None:
    async with serving(Guard(app(), limits=SMALL)) as port, connect(port) as client:
        await client.send(request("POST", "/echo", transfer_encoding="chunked"))
        await client.send(b"3e9\r\n" + b"x" * 1_001 + b"\r\n0\r\n\r\n")
        assert (await client.answer()).status == 413


async def test_a_client_that_sends_far_too_much_still_reads_the_413() -> None:
    async with serving(Guard(app(), limits=SMALL)) as port, connect(port) as client:
        answer = await client.request("POST", "/echo", b"x" * 90_000)
        assert answer.status == 413


async def test_a_body_that_does_not_come_is_408_and_closes_the_connection() -> None:
    async with serving(Guard(app(), limits=SMALL)) as port, connect(port) as client:
        await client.send(request("POST", "/echo", content_length="5") + b"he")
        answer = await client.answer()
        assert answer.status == 408
        assert answer.error
        assert answer.headers["connection"] == "close"
        assert await client.closed()


async def test_a_client_that_leaves_in_the_middle_of_its_body_costs_nothing_afterwards() -> None:
    guard = Guard(app())
    async with serving(guard) as port:
        async with connect(port) as client:
            await client.send(request("POST", "/echo", content_length="5") + b"he")
            await eventually(lambda: (guard.open, guard.held) == (1, 2))
        async with connect(port) as client:
            assert (await client.request("POST", "/echo", b"x")).body == b"x"
        await eventually(lambda: (guard.open, guard.held) == (0, 0))


async def test_unfinished_requests_that_hold_too_much_are_503_with_retry_after() -> None:
    guard = Guard(app(), limits=Limits(held=1_500))
    async with serving(guard) as port:
        async with connect(port) as first, connect(port) as second:
            await first.send(request("POST", "/echo", content_length="1001") + b"x" * 1_000)
            await eventually(lambda: guard.held == 1_000)
            answer = await second.request("POST", "/echo", b"x" * 1_000)
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            await first.send(b"x")
            assert (await first.answer()).status == 200


async def test_a_failure_of_the_application_is_json_and_tells_nothing() -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("secret detail")

    async with serving(Guard(broken)) as port, connect(port) as client:
        answer = await client.request("GET", "/")
        assert answer.status == 500
        assert "secret" not in answer.error


async def test_every_answer_carries_the_security_headers() -> None:
    quart = app()

    @quart.get("/page")
    async def page() -> tuple[str, dict[str, str]]:
        return "<p>", {"Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'"}

    async with serving(Guard(quart)) as port, connect(port) as client:
        headers = (await client.request("GET", "/page")).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["referrer-policy"] == "no-referrer"
        for path in ("/no-such-route", "/fails"):
            headers = (await client.request("GET", path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert "server" not in headers


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:4850", "127.8.9.1", "[::1]", "[::1]:4850",
        "relay.example", "relay.example:1", "10.0.0.5",
    ],
)  # fmt: skip
def test_the_names_of_this_server_are_allowed_at_any_port(host: str) -> None:
    assert Hosts(["relay.example", "10.0.0.5"]).allow(host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "evil.com#localhost", "localhost@evil.com",
        "user@localhost", "localhost:", "localhost:x", "localhost:80:80", "127.1", "0x7f000001", "[::1", "::1",
        "[::1].evil.com", "[localhost]", "xrelay.example", "relay.example.", "10.0.0.50", "0.0.0.0", "localhost/x",
        " localhost", "localhost\n",
    ],
)  # fmt: skip
def test_every_other_host_is_foreign(host: str) -> None:
    assert not Hosts(["relay.example", "10.0.0.5"]).allow(host.encode())


async def test_a_foreign_host_is_421() -> None:
    async with serving(Guard(app())) as port, connect(port) as client:
        answer = await client.request("POST", "/echo", b"x", host="127.0.0.1.evil.com")
        assert answer.status == 421
        assert answer.error


async def test_a_missing_host_is_421() -> None:
    async with serving(Guard(app())) as port, connect(port) as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.com"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.com"},
        {"origin": "http://localhost:1"},
        {"origin": "file://localhost"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_a_browser_elsewhere_is_403(headers: dict[str, str]) -> None:
    async with serving(Guard(app())) as port, connect(port) as client:
        assert (await client.request("POST", "/echo", b"x", **headers)).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://localhost"},
        {"origin": "https://localhost"},
        {"host": "127.0.0.1:4850", "origin": "http://127.0.0.1:4850", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
async def test_a_browser_here_is_served(headers: dict[str, str]) -> None:
    async with serving(Guard(app())) as port, connect(port) as client:
        assert (await client.request("POST", "/echo", b"x", **headers)).body == b"x"


UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec_websocket_version": "13",
    "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def test_a_websocket_from_another_origin_is_403() -> None:
    async with serving(Guard(app())) as port, connect(port) as client:
        await client.send(request("GET", "/ws", **UPGRADE, origin="http://evil.com"))
        assert (await client.answer()).status == 403


async def test_a_loop_that_sends_to_a_closed_websocket_does_not_freeze_the_server() -> None:
    quart = app()

    @quart.websocket("/ws")
    async def flood() -> None:
        while True:
            await websocket.send("x")

    async with serving(Guard(quart)) as port:
        async with connect(port) as client:
            await client.send(request("GET", "/ws", **UPGRADE))
            await client.until(b"\r\n\r\n")
        async with connect(port) as client:
            assert (await client.request("POST", "/echo", b"alive")).body == b"alive"


def test_the_refusal_of_a_foreign_host_names_what_to_do() -> None:
    with pytest.raises(Refusal, match="--allow-host") as caught:
        Guard(app()).check({b"host": b"evil.com"})
    assert caught.value.status == 421
