"""Runners of a relay that knows no deliveries: they poll, as the contract has it, and keep count themselves."""

from __future__ import annotations

from typing import Any

import pytest
from runnerkit import Host, Relay, until

from relay.http import api, deliveries


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MODULES", tuple(each for each in api.MODULES if each is not deliveries))


@pytest.fixture
def server(older: None, server: Any) -> Any:
    """A server without the ladder's routes."""
    return server


@pytest.mark.spec("R-I1", "R-I2", "R-I11")
async def test_without_a_ladder_messages_are_polled_and_marked_as_read(host: Host, relay: Relay) -> None:
    assert (await relay.http.post("/api/agents/a1/deliveries", json={})).status_code == 404
    async with host.running():
        sent = [await relay.send(f"{number}") for number in range(3)]
        sent.append(await relay.send("claim it", claimable=True))
        await until(lambda: host.taken() == sent)
        for number in sent:
            await until(lambda number=number: relay.is_read(number))


@pytest.mark.spec("R-I7", "R-I11")
async def test_without_a_ladder_the_runner_gives_up_and_says_so(host: Host, relay: Relay) -> None:
    await relay.http.post("/api/agents", json={"id": "a1", "status": "idle"})
    before, refused, after = [await relay.send(body) for body in ("before", "refuse", "after")]

    async def reported() -> bool:
        found = await relay.get("/api/activity")
        return any(each.get("messageId") == refused and "not taken" in each["title"] for each in found)

    async with host.running():
        await until(lambda: host.taken() == [before, after])
        await until(reported)
        assert host.offered(refused) == 1 + 8
        assert await relay.readers(refused) == []
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        await until(lambda: host.offered(refused) > 1 + 8)


async def test_an_agent_that_relay_does_not_know_is_no_reason_to_poll(host: Host, relay: Relay) -> None:
    async with host.running(liveness=0.2):
        first = await relay.send("one")
        await until(lambda: relay.is_read(first))
        await relay.http.delete("/api/agents/a1")
        await until(relay.is_ready)
        second = await relay.send("two")
        await until(lambda: relay.is_read(second))
    assert host.taken() == [first, second]
