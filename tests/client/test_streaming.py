"""The event stream when the connection, or what comes over it, is not in order."""

from __future__ import annotations

from contextlib import aclosing

import faulty as f
import pytest
import trio
from faulty import Faulty, answer, event, event_stream, faulty

from relay.client import Garbled, Refused, StreamedEvent, Unauthorized, _streams, open_client


async def heard(server: Faulty, count: int, *, after: int | None = None) -> list[StreamedEvent]:
    """The next `count` events of a new stream."""
    found: list[StreamedEvent] = []
    async with open_client(server.url, "secret") as client:
        async with aclosing(client.events("a1", after)) as events:
            async for each in events:
                found.append(each)
                if len(found) == count:
                    break
        await server.closed()
    return found


def resumed(server: Faulty) -> list[str | None]:
    return [request.headers.get("last-event-id") for request in server.requests]


async def test_a_lost_stream_is_resumed_after_the_last_event() -> None:
    async with faulty(
        f.cut(event_stream(event(1), event(2))),
        f.cut(b""),
        answer(503, {"error": "starting"}),
        answer(500, {"error": "internal error"}),
        answer(502, b"<html>"),
        f.cut(event_stream(event(3), event(4)[:-1])),  # without the empty line that ends it
        f.stall(event_stream(event(4), event(5))),
    ) as server:
        assert [each.id for each in await heard(server, 5)] == [1, 2, 3, 4, 5]
        assert resumed(server) == [None, "2", "2", "2", "2", "2", "3"]
        assert server.requests[0].line == "GET /api/events?agentId=a1 HTTP/1.1"


async def test_a_stream_that_is_lost_before_its_first_event_is_resumed_where_it_began() -> None:
    begun = b": relay\nid: 41\n\n"
    async with faulty(f.cut(event_stream(begun)), f.stall(event_stream(begun, event(42)))) as server:
        assert [each.id for each in await heard(server, 1)] == [42]
        assert resumed(server) == [None, "41"]


async def test_a_stream_begins_after_what_is_known() -> None:
    async with faulty(f.stall(event_stream(event(8)))) as server:
        await heard(server, 1, after=7)
        assert resumed(server) == ["7"]


async def test_comments_and_unknown_fields_are_passed_over() -> None:
    data = b': hello\n\nretry: 5\nid: 1\nevent: x\nfoo: bar\ndata: {"a":\ndata: 1}\n\n: more\n\n'
    async with faulty(f.stall(event_stream(data))) as server:
        assert await heard(server, 1) == [StreamedEvent(1, "x", {"a": 1})]


async def test_line_ends_of_unicode_within_an_event_are_text() -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    data = 'id: 1\nevent: x\ndata: {"body":"' + text + '"}\n\n'
    data = data.replace("\x0b", "\\u000b").replace("\x0c", "\\f").replace("\x1c", "\\u001c")
    async with faulty(f.stall(event_stream(data.encode()))) as server:
        assert (await heard(server, 1))[0].data == {"body": text}


async def test_events_may_come_in_any_pieces() -> None:
    text = event(1, "x", {"body": "é😀"}).replace(b"\n", b"\r\n") + event(2)

    async def drip(stream: trio.SocketStream, _: f.Request) -> None:
        await stream.send_all(event_stream())
        for number in range(len(text)):
            await stream.send_all(text[number : number + 1])
        await stream.receive_some(1)

    async with faulty(drip) as server:
        assert [each.id for each in await heard(server, 2)] == [1, 2]


async def test_a_reset_is_told_and_followed() -> None:
    reset = event(90, "reset", {"oldest": 80, "last": 90})
    async with faulty(f.cut(event_stream(reset)), f.stall(event_stream(event(91)))) as server:
        assert [each.type for each in await heard(server, 2, after=5)] == ["reset", "x"]
        assert resumed(server) == ["5", "90"]


async def test_a_silent_stream_is_given_up_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_streams, "SILENCE", 0.2)
    async with faulty(f.stall(event_stream(event(1))), f.stall(event_stream(event(2)))) as server:
        assert [each.id for each in await heard(server, 2)] == [1, 2]
        assert resumed(server) == [None, "1"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (answer(401, {"error": "no"}), Unauthorized),
        (answer(404, {"error": "no such route"}), Refused),
        (answer(200, b"<html>"), Garbled),
        (f.stall(event_stream(b"id: x\nevent: x\ndata: {}\n\n")), Garbled),
        (f.stall(event_stream(b"id: 1\nevent: x\ndata: {\n\n")), Garbled),
        (f.stall(event_stream(b"id: 1\nevent: x\ndata: []\n\n")), Garbled),
        (f.stall(event_stream(b"id: \xff\nevent: x\ndata: {}\n\n")), Garbled),
    ],
)
async def test_a_stream_that_cannot_get_better_ends_with_an_error(
    fault: f.Behaviour, kind: type[Exception]
) -> None:
    async with faulty(fault) as server:
        with pytest.raises(kind):
            await heard(server, 1)
        assert len(server.requests) == 1
        await server.closed()


async def test_an_event_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_streams, "LARGEST_EVENT", 100_000)
    async with faulty(f.endless(event_stream(b"data: "), b"x" * 10_000)) as server:
        with pytest.raises(Garbled):
            await heard(server, 1)
        await server.closed()


async def test_cancelling_who_listens_closes_the_connection() -> None:
    async with faulty(f.stall(event_stream(event(1)))) as server:
        async with open_client(server.url, "secret") as client:
            with trio.CancelScope() as scope:
                async with aclosing(client.events()) as events:
                    async for _ in events:
                        scope.cancel()
            assert scope.cancelled_caught
            await server.closed()
