"""A real runner process between a real agent process and a real server."""

from __future__ import annotations

import json

import pytest
import trio
from runnerkit import Host, Relay, alive, until


@pytest.mark.spec("R-1", "R-20", "R-29", "R-139", "R-I1", "R-I2")
async def test_what_waits_is_delivered_in_order_after_the_prompt_and_then_read(
    host: Host, relay: Relay
) -> None:
    await relay.http.post("/api/agents", json={"id": "a1", "status": "idle"})
    first, second = await relay.send("one"), await relay.send("two")
    host.info = host.folder / "missing" / "info.json"
    host.start(AGENT_RELAY_PROMPT="begin")
    await until(lambda: host.taken() == [first, second])
    third = await relay.send("three", "label:ada", claimable=True)
    fourth = await relay.send("four", "tag:blue")
    await until(lambda: host.taken() == [first, second, third, fourth])
    for number in (first, second, third, fourth):
        await until(lambda number=number: relay.is_read(number))
    lines = [json.loads(line)["event"] for line in host.journal.read_text().splitlines()]
    assert lines[:3] == ["started", "prompt", "offered"]
    info = json.loads(host.info.read_text())
    assert host.info.stat().st_mode & 0o777 == 0o600
    assert info["agentId"] == "a1"
    assert info["pid"] == host.processes[0].pid
    assert info["registeredAt"] >= info["startedAt"]


async def test_a_runner_does_not_log_its_requests(host: Host, relay: Relay) -> None:
    host.start()
    await until(relay.is_ready)
    await until(lambda: relay.has_status("idle"))
    number = await relay.send("one")
    await until(lambda: relay.is_read(number))
    assert "HTTP" not in host.log.read_text()


@pytest.mark.spec("R-I11", "R-36")
async def test_a_new_runner_delivers_what_was_not_acknowledged_and_nothing_else(
    host: Host, relay: Relay
) -> None:
    host.start()
    await until(relay.is_ready)
    first = await relay.send("one")
    await until(lambda: relay.is_read(first))
    host.flag("swallow").touch()
    second = await relay.send("swallow")
    await until(lambda: host.offered(second) == 1)
    host.processes[0].kill()
    host.processes[0].wait()
    assert await relay.readers(second) == []
    host.flag("swallow").unlink()
    host.start()
    await until(lambda: host.taken() == [first, second])
    assert len({entry["session"] for entry in host.noted("started")}) == 2


async def test_the_agent_that_a_killed_runner_left_behind_is_ended_by_the_next(
    host: Host, relay: Relay
) -> None:
    host.flag("stubborn").touch()
    first = host.start()
    await until(lambda: len(host.noted("started")) == 1)
    await until(relay.is_ready)
    first.kill()
    first.wait()
    host.start()
    await until(lambda: len(host.noted("started")) == 2)
    left = host.noted("started")[0]
    for pid in (left["pid"], *left["children"]):
        await until(lambda pid=pid: not alive(pid))


@pytest.mark.spec("R-3")
async def test_a_runner_that_relay_refuses_starts_no_agent(host: Host, relay: Relay) -> None:
    process = host.start(AGENT_RELAY_TOKEN="not the token")
    await until(lambda: process.poll() is not None)
    assert process.returncode == 1
    assert host.noted("started") == []
    assert "does not accept" in host.log.read_text()


async def test_sigterm_ends_the_whole_process_group_of_the_agent(host: Host, relay: Relay) -> None:
    host.flag("stubborn").touch()
    config = {**host.provider, "headless": {"shutdownTimeoutMs": 200}}
    process = host.start(AGENT_RELAY_PROVIDER_CONFIG_JSON=json.dumps(config))
    await until(relay.is_ready)
    process.terminate()
    await until(lambda: process.poll() is not None)
    assert process.returncode == 0
    (started,) = host.noted("started")
    assert started["children"]
    for pid in (started["pid"], *started["children"]):
        assert not alive(pid)
    assert (await relay.agent())["status"] == "offline"
    assert (await relay.agent())["ready"] is False
    assert not host.info.exists()


async def test_a_second_signal_ends_everything_at_once(host: Host, relay: Relay) -> None:
    host.flag("stubborn").touch()
    config = {**host.provider, "headless": {"shutdownTimeoutMs": 60_000}}
    process = host.start(AGENT_RELAY_PROVIDER_CONFIG_JSON=json.dumps(config))
    await until(relay.is_ready)
    process.terminate()

    async def asked_again() -> bool:
        process.terminate()
        return process.poll() is not None

    await until(asked_again)
    assert process.returncode != 0
    (started,) = host.noted("started")
    assert not alive(started["pid"])


@pytest.mark.spec("R-I2", "R-I11")
async def test_fifty_messages_in_a_burst_arrive_once_and_in_order(host: Host, relay: Relay) -> None:
    host.start()
    await until(relay.is_ready)
    sent: list[int] = []

    async def send_ten(sender: int) -> None:
        for number in range(10):
            sent.append(await relay.send(f"{sender}/{number}"))  # noqa: PERF401 - in the order of the answers

    async with trio.open_nursery() as nursery:
        for sender in range(5):
            nursery.start_soon(send_ten, sender)
    await until(lambda: len(host.taken()) >= 50)
    assert host.taken() == sorted(sent)
    assert all(host.offered(number) == 1 for number in sent)
    for number in sent:
        await until(lambda number=number: relay.is_read(number))
