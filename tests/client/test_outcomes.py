"""Outcomes of commands on their way to relay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faulty as f
import trio
from faulty import Faulty, answer, faulty

from relay import wire
from relay.client import Outcomes, open_client

DONE = wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED, result={"n": 1})
TAKEN = answer(200, {"id": "c1", "type": "t", "source": "s", "target": "t"})


@asynccontextmanager
async def delivering(server: Faulty, outcomes: Outcomes) -> AsyncIterator[None]:
    async with open_client(server.url, "secret") as client, trio.open_nursery() as nursery:
        nursery.start_soon(outcomes.deliver, client)
        yield
        nursery.cancel_scope.cancel()


async def test_an_outcome_reaches_relay_once(server: Any, tmp_path: Path) -> None:
    async with open_client(server.base_url, server.token) as client, trio.open_nursery() as nursery:
        made = await client.create_command(wire.NewCommand(type="t", source="s", target="t"))
        outcomes = Outcomes(tmp_path)
        outcomes.put(made.id, DONE)
        assert made.id in outcomes
        assert Outcomes(tmp_path).pending() == {made.id: wire.to_json(DONE)}
        nursery.start_soon(outcomes.deliver, client)
        with trio.fail_after(10):
            await outcomes.settled()
        assert made.id not in outcomes
        after = await client.command(made.id)
        assert (after.status, after.result) == ("succeeded", {"n": 1})
        nursery.cancel_scope.cancel()


async def test_an_outcome_is_kept_until_relay_has_answered(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path)
    outcomes.put("../c/1", DONE)
    trouble = [answer(503, {"error": "busy"}, retry_after="0"), f.cut(b""), answer(401, {"error": "no"})]
    async with faulty(*trouble, TAKEN) as server:
        async with delivering(server, outcomes):
            await outcomes.settled()
        assert {request.line for request in server.requests} == {"PATCH /api/commands/..%2Fc%2F1 HTTP/1.1"}
        assert {request.body for request in server.requests} == {wire.encode(DONE)}
        assert len(server.requests) == 4
    assert list(tmp_path.iterdir()) == []


async def test_an_outcome_that_relay_will_never_take_does_not_hold_up_the_others(tmp_path: Path) -> None:
    (tmp_path / "c0.json").write_text('{"status": "no such status"}')
    (tmp_path / "broken.json").write_text("{")
    outcomes = Outcomes(tmp_path)
    outcomes.put("c1", DONE)
    outcomes.put("c2", DONE)
    async with faulty(answer(404, {"error": "no such command"}), TAKEN) as server:
        async with delivering(server, outcomes):
            await outcomes.settled()
        assert [request.line.split()[1] for request in server.requests] == [
            "/api/commands/c1",
            "/api/commands/c2",
        ]
