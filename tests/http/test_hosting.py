"""Connections, with Hypercorn's own handling and with the lean one: both must keep the same promises."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.config import Config
from rawhttp import connect, eventually, request, serving

from relay.http import hosting
from relay.http.hosting import Hosting, hypercorn_config
from relay.http.lean import LeanConfig

both = pytest.mark.parametrize("lean", [True, False], ids=["lean", "stock"])


async def hello(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Answers every request with the body it came with."""
    assert scope["type"] == "http", "no lifespan"
    await answer(await read(receive), send)


async def read(receive: Callable[..., Any]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def answer(body: bytes, send: Callable[..., Any]) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def endless(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})


@both
async def test_requests_follow_each_other_on_a_connection(lean: bool) -> None:
    async with serving(hello, lean=lean) as port, connect(port) as client:
        for body in (b"one", b"two", b"x" * 100_000, b"last"):
            assert (await client.request("POST", "/", body)).body == body


@both
async def test_pipelined_requests_are_answered_in_order(lean: bool) -> None:
    async with serving(hello, lean=lean) as port, connect(port) as client:
        await client.send(b"".join(request("POST", "/", body) for body in (b"one", b"two", b"three")))
        assert [(await client.answer()).body for _ in range(3)] == [b"one", b"two", b"three"]


@both
async def test_a_client_may_wait_to_be_asked_for_the_body(lean: bool) -> None:
    async with serving(hello, lean=lean) as port, connect(port) as client:
        await client.send(request("POST", "/", expect="100-continue", content_length="4"))
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await client.send(b"body")
        assert (await client.answer()).body == b"body"


@both
async def test_a_client_that_stops_reading_does_not_hold_up_the_end(lean: bool) -> None:
    async with serving(endless, lean=lean, stalled=0.3) as port, connect(port) as client:
        await client.send(request("GET", "/"))
        await client.until(b"xxxx")
        await trio.testing.wait_all_tasks_blocked(0.05)  # all buffers are full now


async def test_a_client_that_stops_reading_is_dropped_while_the_server_goes_on() -> None:
    stalls = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await endless(scope, receive, send)
        finally:
            stalls.set()

    async with serving(app, stalled=0.2) as port, connect(port) as client:
        await client.send(request("GET", "/"))
        with trio.fail_after(10):
            await stalls.wait()


@both
async def test_an_idle_connection_is_closed(lean: bool) -> None:
    async with serving(hello, lean=lean, idle=0.1) as port, connect(port) as client:
        assert (await client.request("POST", "/", b"x")).status == 200
        assert await client.closed()


@both
async def test_a_connection_that_never_sends_a_request_is_closed(lean: bool) -> None:
    async with serving(hello, lean=lean, idle=0.1) as port, connect(port) as client:
        await client.send(b"GET / HTT")
        assert await client.closed()


@both
async def test_idle_connections_do_not_hold_up_the_end(lean: bool) -> None:
    stop = trio.Event()
    async with serving(hello, lean=lean, stop=stop, grace=60.0) as port, connect(port) as client:
        assert (await client.request("POST", "/", b"x")).status == 200
        stop.set()
        assert await client.closed()


@both
async def test_a_running_request_is_answered_after_the_stop(lean: bool) -> None:
    stop, running, let_go = trio.Event(), trio.Event(), trio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "no lifespan"
        running.set()
        await let_go.wait()
        await hello(scope, receive, send)

    async with serving(slow, lean=lean, stop=stop, grace=60.0) as port, connect(port) as client:
        await client.send(request("POST", "/", b"x"))
        await running.wait()
        stop.set()
        let_go.set()
        assert (await client.answer()).body == b"x"


async def test_lean_head_and_body_come_in_one_piece() -> None:
    async with serving(hello, lean=True) as port, connect(port) as client:
        await client.send(request("POST", "/", b"body"))
        with trio.fail_after(10):
            assert (await client.stream.receive_some()).endswith(b"\r\n\r\nbody")


async def test_closed_connections_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Config] = []

    def remember(settings: Hosting) -> Config:
        made.append(hypercorn_config(settings))
        return made[-1]

    monkeypatch.setattr(hosting, "hypercorn_config", remember)
    async with serving(hello) as port:
        async with connect(port) as client:
            await client.request("POST", "/", b"x")
            assert isinstance(made[0], LeanConfig)
            assert len(made[0].connections) == 1
        await eventually(lambda: not made[0].connections)  # type: ignore[attr-defined]


async def test_a_failed_server_is_started_again(autojump_clock: trio.testing.MockClock) -> None:
    runs = 0

    async def child() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise RuntimeError("failed")

    await hosting._supervise(child)
    assert runs == 4


async def test_a_server_that_keeps_failing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def child() -> None:
        raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        await hosting._supervise(child)


@both
async def test_an_application_hears_that_its_client_is_gone(lean: bool) -> None:
    running, heard = trio.Event(), trio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "no lifespan"
        assert (await receive())["type"] == "http.request"
        running.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    async with serving(waits, lean=lean) as port:
        async with connect(port) as client:
            await client.send(request("GET", "/"))
            await running.wait()
        with trio.fail_after(10):
            await heard.wait()


@both
async def test_a_request_that_comes_while_another_is_answered_waits_its_turn(lean: bool) -> None:
    let_go = trio.Event()

    async def attentive(scope: Any, receive: Any, send: Any) -> None:
        """Answers while it listens for its client to go."""
        assert scope["type"] == "http", "no lifespan"
        async with trio.open_nursery() as nursery:
            body = await read(receive)
            nursery.start_soon(receive)
            await let_go.wait()
            await answer(body, send)
            nursery.cancel_scope.cancel()

    async with serving(attentive, lean=lean) as port, connect(port) as client:
        await client.send(request("POST", "/", b"one"))
        await trio.testing.wait_all_tasks_blocked(0.02)
        await client.send(request("POST", "/", b"two"))
        await trio.testing.wait_all_tasks_blocked(0.02)
        let_go.set()
        assert [(await client.answer()).body for _ in range(2)] == [b"one", b"two"]


@both
async def test_a_body_may_come_in_many_pieces_at_once(lean: bool) -> None:
    pieces = b"".join(b"1\r\n%c\r\n" % digit for digit in b"0123456789" * 5) + b"0\r\n\r\n"
    async with serving(hello, lean=lean) as port, connect(port) as client:
        await client.send(request("POST", "/", transfer_encoding="chunked") + pieces)
        assert (await client.answer()).body == b"0123456789" * 5


@both
async def test_a_header_of_an_answer_cannot_bring_in_another(lean: bool) -> None:
    async def tricked(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "no lifespan"
        headers = [(b"content-length", b"0"), (b"location", b"/there\r\nset-cookie: a=b")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with serving(tricked, lean=lean) as port, connect(port) as client:
        await client.send(request("GET", "/"))
        assert b"set-cookie" not in (await client.until(b"\r\n\r\n")).lower()


@both
async def test_a_client_that_asks_for_it_is_told_that_the_connection_ends(lean: bool) -> None:
    async with serving(hello, lean=lean) as port, connect(port) as client:
        answer = await client.request("POST", "/", b"x", connection="close")
        assert (answer.headers["connection"], answer.body) == ("close", b"x")
        assert await client.closed()


@both
async def test_an_answer_of_unknown_length_is_sent_in_chunks(lean: bool) -> None:
    async def parts(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "no lifespan"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-more", b"yes")]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two", "more_body": False})

    async with serving(parts, lean=lean) as port, connect(port) as client:
        received = await client.request("GET", "/")
        assert (received.headers["transfer-encoding"], received.headers["x-more"]) == ("chunked", "yes")
        assert await client.until(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n"
