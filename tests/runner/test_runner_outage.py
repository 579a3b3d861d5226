"""A relay that goes away and comes back: nothing is lost, nothing happens twice."""

from __future__ import annotations

import pytest
import trio
from runnerkit import Host, Relay, ServerProcess, alive, until

Killable = tuple[ServerProcess, Host, Relay]


@pytest.mark.spec("R-I11", "R-I23")
async def test_a_server_that_is_killed_and_started_again_loses_and_doubles_nothing(
    killable: Killable,
) -> None:
    server, host, relay = killable
    runner = host.start()
    await until(relay.is_ready)
    before = [await relay.send("echo", idempotencyKey=f"before/{number}") for number in range(10)]
    begun = [await relay.command("agent.compact") for _ in range(3)]
    await until(lambda: len(host.taken()) > 0)
    server.kill()
    await until(lambda: len(host.taken()) > 0)
    await server.start()
    after = [await relay.send("echo", idempotencyKey=f"after/{number}") for number in range(10)]
    sent = [*before, *after]
    await until(lambda: sorted(set(host.taken())) == sent)
    assert host.taken() == sent
    for number in sent:
        await until(lambda number=number: relay.is_read(number))

        async def answered_once(number: int = number) -> bool:
            return len(await relay.get(f"/api/messages/{number}/thread")) == 2

        await until(answered_once)
    for command in begun:
        assert (await relay.outcome(command))["status"] == "succeeded"
    assert len(host.noted("compact")) == len(begun)
    assert len(host.noted("started")) == 1
    assert runner.poll() is None


@pytest.mark.spec("R-38", "R-I1")
async def test_what_was_acknowledged_while_relay_was_away_is_read_and_not_repeated_also_by_a_later_runner(
    killable: Killable,
) -> None:
    server, host, relay = killable
    gate = host.folder / "gate"
    script = host.folder / "agent.py"
    wait = (
        f'import time\n        while "wait" in bodies and not os.path.exists({str(gate)!r}): time.sleep(0.01)'
    )
    script.write_text(
        script.read_text().replace(
            'bodies = [m["body"] for m in frame["messages"]]',
            f'bodies = [m["body"] for m in frame["messages"]]\n        {wait}',
        )
    )
    runner = host.start()
    await until(relay.is_ready)
    number = await relay.send("wait")
    await until(lambda: host.offered(number) == 1)
    server.kill()
    gate.touch()
    await until(lambda: host.taken() == [number])
    await until(lambda: (host.state / "acknowledged").read_bytes().startswith(b"[%d," % number))
    runner.kill()
    runner.wait()
    host.start()
    await server.start()
    await until(lambda: relay.is_read(number))
    second = await relay.send("two")
    await until(lambda: second in host.taken())
    assert host.offered(number) == 1


@pytest.mark.spec("R-I1", "R-I11")
@pytest.mark.parametrize("life", ["same runner", "later runner"])
async def test_a_database_that_gives_ids_out_again_costs_no_message(killable: Killable, life: str) -> None:
    server, host, relay = killable
    runner = host.start()
    await until(relay.is_ready)
    first = await relay.send("in the first database")
    await until(lambda: relay.is_read(first))
    server.kill()
    if life == "later runner":
        runner.kill()
        runner.wait()
    for file in server.home.glob("relay.db*"):
        file.unlink()
    await server.start()
    if life == "later runner":
        host.start()
    await until(relay.is_ready)
    again = await relay.send("in the second database")
    assert again == first
    await until(lambda: relay.is_read(again))
    assert [entry["messages"][0]["body"] for entry in host.noted("offered")] == [
        "in the first database",
        "in the second database",
    ]


@pytest.mark.spec("R-I23")
async def test_the_outcome_of_a_command_waits_for_relay(killable: Killable) -> None:
    server, host, relay = killable
    host.flag("stubborn").touch()
    runner = host.start()
    await until(relay.is_ready)
    (started,) = host.noted("started")
    shutdown = await relay.command("agent.shutdown", timeoutMs=3_000)
    await until(lambda: len(host.noted("shutdown")) == 1)
    server.kill()
    await until(lambda: not alive(started["pid"]))
    await until(lambda: len(list((host.state / "outcomes").glob("*.json"))) == 1)
    assert runner.poll() is None
    await server.start()
    assert (await relay.outcome(shutdown))["status"] == "succeeded"
    await until(lambda: runner.poll() is not None)
    assert runner.returncode == 0


async def test_a_runner_waits_for_a_relay_that_is_not_there_yet(killable: Killable) -> None:
    server, host, relay = killable
    server.kill()
    runner = host.start()
    await until(host.info.exists)
    await server.start()
    await until(relay.is_ready)
    assert runner.poll() is None


async def test_a_runner_can_be_stopped_while_relay_is_away(killable: Killable) -> None:
    server, host, relay = killable
    runner = host.start()
    await until(relay.is_ready)
    server.kill()
    runner.terminate()
    await until(lambda: runner.poll() is not None)
    assert runner.returncode == 0
    with trio.fail_after(5):
        assert not alive(host.noted("started")[0]["pid"])
