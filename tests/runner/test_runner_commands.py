"""Commands that relay has for an agent, carried out by its runner."""

from __future__ import annotations

from typing import Any

import pytest
from runnerkit import Host, Relay, until

from relay import wire
from relay.client import Outcomes
from relay.runner import Patience
from relay.runner.deeds import limit, shutdown_time


@pytest.mark.spec("R-55", "R-I23", "R-I26")
async def test_a_command_is_answered_with_what_the_agent_said(host: Host, relay: Relay) -> None:
    async with host.running():
        found = await relay.done("agent.compact", reason="too long")
        assert found["status"] == "succeeded"
        assert found["result"]["action"] == "agent.compact"
        assert found["result"]["agentId"] == "a1"
        assert found["result"]["reason"] == "too long"
        assert found["result"]["providerResult"] == {"saved": 1}
        await until(lambda: relay.has_status("idle"))


@pytest.mark.spec("R-54", "R-60")
async def test_what_the_agent_cannot_do_fails_and_leaves_it_alone(host: Host, relay: Relay) -> None:
    async with host.running():
        interrupted = await relay.done("agent.interrupt")
        assert interrupted["result"]["providerResult"] == {"interrupted": False}
        script = host.folder / "agent.py"
        script.write_text(script.read_text().replace('"compact": True, ', ""))
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        failed = await relay.done("agent.compact")
        assert failed["status"] == "failed"
        assert "does not support compact" in failed["error"]
        await until(lambda: relay.has_status("idle"))


async def test_a_type_that_no_runner_knows_is_rejected(host: Host, relay: Relay) -> None:
    async with host.running():
        found = await relay.done("agent.unheard-of")
        assert found["status"] == "rejected"
        assert found["result"]["code"] == "unknown-type"


@pytest.mark.spec("R-46", "R-47", "R-I25")
async def test_commands_for_the_agent_and_for_the_runner_are_its_own_and_no_others(
    host: Host, relay: Relay
) -> None:
    async with host.running(instance_id="runner-1"):
        other = await relay.command("agent.compact", target="a2")
        assert (await relay.done("agent.compact", target="runner-1"))["status"] == "succeeded"
        assert (await relay.done("agent.compact", target="a1"))["status"] == "succeeded"
        assert await relay.status(other) == "pending"
        assert len(host.noted("compact")) == 2


@pytest.mark.spec("R-53", "R-8", "R-I13")
async def test_a_restart_on_command_is_no_accident_however_often(host: Host, relay: Relay) -> None:
    async with host.running() as runner:
        for _ in range(5):
            assert (await relay.done("agent.restart"))["status"] == "succeeded"
        assert runner.code is None
        assert len({entry["session"] for entry in host.noted("started")}) == 6
        number = await relay.send("after")
        await until(lambda: host.taken() == [number])

        async def is_over() -> bool:
            return (await relay.agent())["meta"].get("lifecycleAction") is None

        await until(is_over)


@pytest.mark.spec("R-53")
async def test_an_agent_that_ends_with_an_error_when_asked_to_is_started_again(
    host: Host, relay: Relay
) -> None:
    script = host.folder / "agent.py"
    script.write_text(script.read_text().replace("sys.exit(0)", "sys.exit(7)"))
    async with host.running() as runner:
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        await until(relay.is_ready)
        assert runner.code is None


async def test_a_restart_while_the_agent_still_starts_is_no_accident_either(host: Host, relay: Relay) -> None:
    host.flag("mute").touch()
    script = host.folder / "agent.py"
    script.write_text(script.read_text().replace("sys.exit(0)", "say(type='ready'); sys.exit(7)"))
    async with host.running(prompt="begin") as runner:
        await until(lambda: len(host.noted("started")) == 1)
        host.flag("mute").unlink()
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        assert len(host.noted("started")) == 2
        await until(relay.is_ready)
        assert runner.code is None


async def test_a_restart_that_does_not_come_up_again_fails_and_ends_the_runner(
    host: Host, relay: Relay
) -> None:
    async with host.running() as runner:
        await until(relay.is_ready)
        host.flag("faulty").touch()
        found = await relay.done("agent.restart")
        assert found["status"] == "failed"
        await until(lambda: runner.code is not None)
        assert runner.code == 1


@pytest.mark.spec("R-48", "R-I21", "R-I15")
async def test_a_shutdown_ends_agent_and_runner_and_takes_the_agent_off_the_list(
    host: Host, relay: Relay
) -> None:
    async with host.running() as runner:
        found = await relay.done("agent.shutdown")
        assert found["status"] == "succeeded"
        await until(lambda: runner.code is not None)
        assert runner.code == 0
        assert await relay.agent() == {}
        assert len(host.noted("started")) == 1


@pytest.mark.spec("R-50")
async def test_a_kill_does_not_wait_for_what_the_agent_was_asked(host: Host, relay: Relay) -> None:
    for flag in ("slow", "stubborn"):
        host.flag(flag).touch()
    async with host.running() as runner:
        slow = await relay.command("agent.compact")
        await until(lambda: len(host.noted("compact")) == 1)
        assert (await relay.done("agent.kill"))["status"] == "succeeded"
        assert (await relay.outcome(slow))["status"] == "failed"
        await until(lambda: runner.code == 0)
        assert await relay.agent() == {}


@pytest.mark.spec("R-I15")
async def test_a_kill_preempts_a_slow_restart(host: Host, relay: Relay) -> None:
    host.flag("stubborn").touch()
    async with host.running() as runner:
        await until(relay.is_ready)
        restart = await relay.command("agent.restart", timeoutMs=60_000)

        async def begun() -> bool:
            return (await relay.agent()).get("meta", {}).get("lifecycleAction") == "restarting"

        await until(begun)
        busy = await relay.done("agent.compact")
        assert (busy["status"], busy["result"]["code"]) == ("failed", "busy")
        assert (await relay.done("agent.kill"))["status"] == "succeeded"
        found = await relay.outcome(restart)
        assert (found["status"], found["result"]["code"]) == ("failed", "preempted")
        await until(lambda: runner.code == 0)
        assert len(host.noted("started")) == 1


@pytest.mark.spec("R-50")
async def test_a_kill_hurries_a_shutdown(host: Host, relay: Relay) -> None:
    host.flag("stubborn").touch()
    async with host.running() as runner:
        await until(relay.is_ready)
        shutdown = await relay.command("agent.shutdown", timeoutMs=60_000)

        async def begun() -> bool:
            return await relay.status(shutdown) == "running"

        await until(begun)
        assert (await relay.done("agent.kill"))["status"] == "succeeded"
        assert (await relay.outcome(shutdown))["status"] == "succeeded"
        await until(lambda: runner.code == 0)


async def test_a_command_is_announced_and_not_only_found_by_polling(host: Host, relay: Relay) -> None:
    async with host.running(poll=3_600.0):
        await until(relay.is_ready)
        number = await relay.send("one")
        await until(lambda: host.taken() == [number])
        assert (await relay.done("agent.compact"))["status"] == "succeeded"


@pytest.mark.spec("R-59")
async def test_an_injected_prompt_reaches_the_agent_once_and_its_message_counts_as_read(
    host: Host, relay: Relay
) -> None:
    async with host.running():
        number = await relay.send("hello", kind="session")
        found = await relay.done("prompt.inject", body="hello", messageId=number)
        assert found["result"]["providerResult"] == {"messageId": number}
        await until(lambda: relay.is_read(number))
        assert [entry["text"] for entry in host.noted("prompt")] == ["hello"]
        assert host.offered(number) == 0


@pytest.mark.parametrize("body", ["", 7, None])
async def test_a_prompt_that_is_none_fails(host: Host, relay: Relay, body: Any) -> None:
    async with host.running():
        assert (await relay.done("prompt.inject", body=body))["status"] == "failed"
        assert host.noted("prompt") == []


async def test_prompts_reach_the_agent_in_the_order_of_asking(host: Host, relay: Relay) -> None:
    async with host.running():
        texts = [str(number) for number in range(8)]
        for text in texts:
            last = await relay.command("prompt.inject", body=text)
        await relay.outcome(last)
        assert [entry["text"] for entry in host.noted("prompt")] == texts


@pytest.mark.spec("R-57")
async def test_injected_context_is_one_message_from_nobody(host: Host, relay: Relay) -> None:
    async with host.running():
        found = await relay.done("agent.injectContext", content="remember", memoryIds=["a", 1, "b"])
        assert found["result"]["providerResult"] == {"memoryIds": ["a", "b"], "injectedMemoryCount": 2}
        ((message,),) = [entry["messages"] for entry in host.noted("offered")]
        assert (message["id"], message["from"], message["kind"]) == (0, "system", "system")
        assert message["payload"] == {"memoryInjection": True, "memoryIds": ["a", "b"]}


@pytest.mark.spec("R-56")
async def test_injected_context_without_content_fails(host: Host, relay: Relay) -> None:
    async with host.running():
        assert (await relay.done("agent.injectContext", content="  "))["status"] == "failed"
        assert host.noted("offered") == []


@pytest.mark.spec("R-48", "R-49", "R-I27")
@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90_000, 60.0),
        ("5", 10.0),
        (2_500, 2.5),
        (0, 10.0),
        (-1, 10.0),
        (True, 10.0),
        (1.5, 10.0),
        (None, 10.0),
    ],
)
def test_how_long_an_agent_may_take_to_end(given: Any, seconds: float) -> None:
    command = wire.Command(
        id="c", type="agent.shutdown", source="s", target="a1", params={"timeoutMs": given}
    )
    assert shutdown_time(command) == seconds
    assert seconds < limit(command)


@pytest.mark.spec("R-61", "R-I23")
async def test_an_outcome_that_nobody_could_be_told_is_told_by_the_next_runner(
    host: Host, relay: Relay
) -> None:
    await relay.http.post("/api/agents", json={"id": "a1", "status": "idle"})
    done, refused = await relay.command("agent.compact"), await relay.command("agent.compact")
    await relay.http.delete(f"/api/commands/{refused}")
    outcomes = Outcomes(host.state / "outcomes")
    succeeded = wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED, result={"from": "an earlier life"})
    for command in (done, refused, "cmd_nobody_knows"):
        outcomes.put(command, succeeded)
    async with host.running():
        found = await relay.outcome(done)
        assert found["result"] == {"from": "an earlier life"}
        await until(lambda: outcomes.pending() == {})
        assert await relay.status(refused) == "canceled"
        assert host.noted("compact") == []


@pytest.mark.spec("R-I23")
async def test_what_an_earlier_runner_had_begun_has_failed(host: Host, relay: Relay) -> None:
    host.flag("slow").touch()
    process = host.start()
    await until(relay.is_ready)
    slow = await relay.command("agent.compact")
    await until(lambda: len(host.noted("compact")) == 1)
    process.kill()
    process.wait()
    assert await relay.status(slow) == "running"
    async with host.running():
        found = await relay.outcome(slow)
        assert (found["status"], found["result"]["code"]) == ("failed", "interrupted")


@pytest.mark.spec("R-I23")
async def test_what_is_under_way_when_the_runner_is_stopped_has_failed(host: Host, relay: Relay) -> None:
    host.flag("slow").touch()
    process = host.start()
    await until(relay.is_ready)
    slow = await relay.command("agent.compact")
    await until(lambda: len(host.noted("compact")) == 1)
    process.terminate()
    await until(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert await relay.status(slow) == "failed"


# -- permissions


def asking(approval: str) -> dict[str, Any]:
    frame = {"type": "permission-request", "approvalId": approval, "toolName": "rm", "description": "all"}
    return {"payload": {"frames": [frame]}}


async def waits_for(relay: Relay, approval: str | None) -> bool:
    state = (await relay.agent())["meta"].get("providerState")
    return (state or {}).get("approvalId") == approval


@pytest.mark.spec("R-143", "R-63", "R-64", "R-65", "R-I28")
async def test_a_permission_is_asked_for_shown_and_decided_once(host: Host, relay: Relay) -> None:
    async with host.running():
        await relay.send("frames", **asking("ap-1"))
        await until(lambda: waits_for(relay, "ap-1"))
        await until(lambda: relay.has_status("busy"))
        wrong = await relay.done("agent.permissionDecision", approvalId="ap-1", decision="yes")
        assert wrong["status"] == "failed"
        unknown = await relay.done("agent.permissionDecision", approvalId="ap-2", decision="deny")
        assert unknown["status"] == "failed"
        decided = await relay.done(
            "agent.permissionDecision", approvalId="ap-1", decision="deny", reason="no"
        )
        assert decided["result"]["providerResult"] == {"approvalId": "ap-1", "decision": "deny"}
        again = await relay.done("agent.permissionDecision", approvalId="ap-1", decision="approve")
        assert again["status"] == "failed"
        await until(lambda: relay.has_status("idle"))
        await until(lambda: waits_for(relay, None))
        (answer,) = host.noted("permission")
        assert (answer["approvalId"], answer["decision"], answer["reason"]) == ("ap-1", "deny", "no")


async def test_a_request_of_a_process_that_has_ended_is_forgotten(host: Host, relay: Relay) -> None:
    async with host.running():
        await relay.send("frames", **asking("ap-1"))
        await until(lambda: waits_for(relay, "ap-1"))
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        await until(lambda: waits_for(relay, None))
        late = await relay.done("agent.permissionDecision", approvalId="ap-1", decision="approve")
        assert late["status"] == "failed"


@pytest.mark.spec("R-I28")
async def test_what_nobody_decides_on_in_time_is_denied(host: Host, relay: Relay) -> None:
    async with host.running(patience=Patience(decision=0.1)):
        await relay.send("frames", **asking("ap-1"))
        await until(lambda: len(host.noted("permission")) == 1)
        assert host.noted("permission")[0]["decision"] == "deny"
        await until(lambda: relay.has_status("idle"))


async def test_an_interrupt_does_not_wait_behind_a_slow_command(host: Host, relay: Relay) -> None:
    host.flag("slow").touch()
    async with host.running():
        slow = await relay.command("agent.compact")
        await until(lambda: len(host.noted("compact")) == 1)
        assert (await relay.done("agent.interrupt"))["status"] == "succeeded"
        assert await relay.status(slow) == "running"
