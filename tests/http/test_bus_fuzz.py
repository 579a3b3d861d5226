"""Whatever a client of the bus sends, it is answered or cut off as the rules say, and nobody else notices."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Any

import httpx2
import pytest
import trio
from busclient import Closed, Socket, bus, hello
from hypothesis import HealthCheck, given, settings, strategies as st

from relay.wire.bus import FRAMES

CODES = {None, 1000, 1002, 1007, 1009, 4400, 4401, 4404, 4408, 4409}
ANSWERS = {"welcome", "result", "message.new", "command", "event", "events", "reset", "ping", "pong", "error"}
NAMES = [
    "id", "role", "componentId", "agentId", "instanceId", "token", "machine", "capabilities", "tags", "meta", "status",
    "ready", "protocol", "after", "agentStatus", "commandId", "result", "error", "messages", "messageIds", "eventId",
    "taskId", "body", "metadata", "limit", "bytes", "holding", "acks",
]  # fmt: skip

words = st.sampled_from(["w", "provider", "dashboard", "idle", "busy", "done", "running", "", " ", "x" * 300])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.integers()
    | st.floats()
    | words
    | st.text(max_size=20)
)
letters = st.fixed_dictionaries({"from": words, "to": words, "body": words})
values = st.recursive(
    scalars | letters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
members = st.dictionaries(st.sampled_from(NAMES), values, max_size=8)
frames = st.builds(
    lambda kind, given: json.dumps({**given, "type": kind}), st.sampled_from([*FRAMES, "fly", 7]), members
)
texts = frames | values.map(json.dumps) | st.text(max_size=100)


async def play(server: Any, other: Socket, greets: bool, sent: list[str | bytes], raw: bytes) -> None:
    async with bus(server) as socket:
        with suppress(Closed, trio.BrokenResourceError):
            if greets:
                await hello(socket, role="provider", componentId="f", agentId="fuzz")
            for each in sent:
                await (socket.text(each) if isinstance(each, str) else socket.bytes(each))
            if raw:
                await socket.raw(raw)
        await answers_or_ends(socket, raw)
    assert (await other.ask("heartbeat"))["ok"]


async def answers_or_ends(socket: Socket, raw: bytes) -> None:
    try:
        if not raw:
            await socket.say("ping", id="the end")
        while True:
            frame = await socket.frame()
            assert frame["type"] in ANSWERS
            assert frame.get("code") != "internal", frame
            if frame.get("id") == "the end":
                return
    except (Closed, trio.BrokenResourceError) as error:
        assert getattr(error, "code", None) in CODES


async def fuzzed(server: Any, sent: Any, raw: Any, examples: int) -> None:
    async with bus(server, role="dashboard", componentId="other") as other:

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.booleans(), st.lists(sent, max_size=8), raw)
        def plays(greets: bool, sent: list[str | bytes], raw: bytes) -> None:
            trio.from_thread.run(play, server, other, greets, sent, raw)

        await trio.to_thread.run_sync(plays)


async def test_any_frames_are_answered_or_end_the_connection(
    server: Any, api: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await fuzzed(server, texts | st.binary(max_size=50), st.just(b""), 150)
    assert (await api.get("/api/health")).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_any_bytes_end_only_the_own_connection(
    server: Any, api: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The bytes may be the beginning of a frame: then nothing comes of them, and the client goes."""
    cut = st.binary(min_size=1, max_size=200).map(lambda data: data + b"\x88\xff" + b"\xff" * 200)
    await fuzzed(server, frames, cut, 60)
    assert (await api.get("/api/health")).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
