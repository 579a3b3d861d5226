"""Messages from relay into an agent: batches, failures, claims."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from runnerkit import Host, Relay, until

from relay import wire
from relay.runner import Options, Patience
from relay.runner.inbox import accepts


@pytest.mark.spec("R-26", "R-21", "R-I4", "R-I5")
async def test_what_is_not_for_it_is_neither_delivered_nor_read(host: Host, relay: Relay) -> None:
    async with host.running():
        observed = await relay.send("seen", kind="session")
        other = await relay.send("not yours", "label:grace")
        mine = await relay.send("yours")
        await until(lambda: host.taken() == [mine])
    assert await relay.readers(observed) == []
    assert await relay.readers(other) == []


async def test_a_hundred_messages_that_are_not_delivered_hold_up_nobody(host: Host, relay: Relay) -> None:
    await relay.http.post("/api/agents", json={"id": "a1", "status": "idle"})
    for number in range(101):
        await relay.send(f"observed {number}", kind="session")
    mine = await relay.send("yours")
    async with host.running():
        await until(lambda: host.taken() == [mine])


@pytest.mark.spec("R-24", "R-25", "R-I4")
@pytest.mark.parametrize(
    ("message", "accepted"),
    [
        ({"to": "a1"}, True),
        ({"to": "somebody", "resolved_to_agent": "a1"}, True),
        ({"to": "label:ada"}, True),
        ({"to": "label:bob"}, False),
        ({"to": "tag:command"}, True),
        ({"to": "tag:blue"}, True),
        ({"to": "tag:red"}, False),
        ({"to": "cap:review"}, True),
        ({"to": "cap:blue"}, False),
        ({"to": "broadcast"}, True),
        ({"to": "broadcast", "from_": "a1"}, False),
        ({"to": "a1", "kind": wire.MessageKind.SESSION}, False),
        ({"to": "nobody"}, False),
    ],
)
def test_what_an_agent_accepts(tmp_path: Any, message: dict[str, Any], accepted: bool) -> None:
    options = Options(
        provider="command",
        agent_id="a1",
        label="ada",
        tags=("blue",),
        cwd=tmp_path,
        relay_url="",
        token=None,
        provider_config={"command": "x", "defaultCapabilities": ["review"]},
        state_dir=tmp_path,
    )
    plain = wire.Message(id=1, from_="b1", to="", body="hi")
    assert accepts(attrs.evolve(plain, **message), options) is accepted


async def test_a_batch_is_bounded_in_bytes(host: Host, relay: Relay) -> None:
    await relay.http.post("/api/agents", json={"id": "a1", "status": "idle"})
    sent = [await relay.send("x" * 90_000) for _ in range(7)]
    async with host.running():
        await until(lambda: host.taken() == sent)
    sizes = [sum(len(message["body"]) for message in entry["messages"]) for entry in host.noted("offered")]
    assert len(sizes) > 2
    assert max(sizes) <= 256 * 1024


@pytest.mark.spec("R-40", "R-I3")
async def test_what_arrives_during_a_delivery_is_the_next_one(host: Host, relay: Relay) -> None:
    host.flag("swallow").touch()
    async with host.running(patience=Patience(ack=60.0)):
        first = await relay.send("swallow")
        await until(lambda: host.offered(first) == 1)
        second = await relay.send("two")
        assert (await relay.done("agent.interrupt"))["status"] == "succeeded"
        assert host.offered(second) == 0
        host.flag("swallow").unlink()
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        await until(lambda: host.taken() == [first, second])


@pytest.mark.spec("R-141", "R-36", "R-I7", "R-I1", "R-I8")
async def test_a_message_that_is_always_refused_is_set_aside_and_reported(host: Host, relay: Relay) -> None:
    await relay.http.post("/api/agents", json={"id": "a1", "status": "idle"})
    before, refused, after = [
        await relay.send(body, claimable=True) for body in ("before", "refuse", "after")
    ]
    async with host.running():
        await until(lambda: host.taken() == [before, after])

        async def reports() -> list[dict[str, Any]]:
            found = await relay.get("/api/activity")
            return [
                each for each in found if each.get("messageId") == refused and each.get("agentId") == "a1"
            ]

        async def reported() -> bool:
            return bool(await reports())

        await until(reported)
        assert host.offered(refused) == 1 + 8
        assert await relay.readers(refused) == []
        (report,) = await reports()
        assert "I will not" in report["body"]
        await until(lambda: relay.has_status("idle"))
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        await until(lambda: host.offered(refused) > 1 + 8)


@pytest.mark.spec("R-I11")
async def test_a_message_that_kills_the_agent_is_set_aside_before_the_agent_is_given_up(
    host: Host, relay: Relay
) -> None:
    await relay.http.post("/api/agents", json={"id": "a1", "status": "idle"})
    before, deadly, after = [await relay.send(body) for body in ("before", "deadly", "after")]
    async with host.running() as runner:
        await until(lambda: host.taken() == [before, after])
        assert host.offered(deadly) == 3
        assert runner.code is None


async def test_an_acknowledgement_that_comes_late_counts(host: Host, relay: Relay) -> None:
    async with host.running():
        late = await relay.send("late")
        await until(lambda: relay.is_read(late))
        after = await relay.send("after")
        await until(lambda: after in host.taken())
    assert host.offered(late) == 2


@pytest.mark.spec("R-38", "R-I1")
async def test_an_acknowledged_message_is_not_handed_over_by_a_later_runner(host: Host, relay: Relay) -> None:
    async with host.running():
        number = await relay.send("one")
        await until(lambda: relay.is_read(number))
    known = host.state / "acknowledged"
    assert known.read_bytes().startswith(b"[%d," % number)
    second = await relay.send("two")
    sent = (await relay.get(f"/api/messages/{second}"))["createdAt"]
    with known.open("a") as file:
        file.write(f'[{second},{sent},"b1"]\n')  # acknowledged in an earlier life that relay never heard of
    third = await relay.send("three")
    async with host.running():
        await until(lambda: relay.is_read(second))
        await until(lambda: third in host.taken())
    assert host.offered(second) == 0


@pytest.mark.spec("R-27", "R-I6")
async def test_a_message_that_another_agent_has_claimed_is_left_alone(host: Host, relay: Relay) -> None:
    for agent in ("a1", "b2"):
        await relay.http.post("/api/agents", json={"id": agent, "status": "idle", "tags": ["blue"]})
    claimed = await relay.send("one", "tag:blue", claimable=True)
    answer = await relay.http.post(f"/api/messages/{claimed}/claim", json={"agentId": "b2"})
    assert answer.status_code == 200
    free = await relay.send("two", "tag:blue", claimable=True)
    async with host.running():
        await until(lambda: host.taken() == [free])
        await until(lambda: relay.has_status("idle"))
    assert host.offered(claimed) == 0


async def claim_ends(relay: Relay, number: int) -> float:
    return float((await relay.get(f"/api/messages/{number}")).get("claimExpiresAt") or 0)


@pytest.mark.spec("R-28", "R-I8")
async def test_a_mailbox_of_refused_claims_leaves_the_agent_idle(host: Host, relay: Relay) -> None:
    for agent in ("a1", "b2"):
        await relay.http.post("/api/agents", json={"id": agent, "status": "idle", "tags": ["blue"]})
    claimed = await relay.send("one", "tag:blue", claimable=True)
    await relay.http.post(f"/api/messages/{claimed}/claim", json={"agentId": "b2"})
    async with host.running():
        await until(relay.is_ready)
        assert (await relay.done("agent.compact"))["status"] == "succeeded"
        await until(lambda: relay.has_status("idle"))
    assert host.noted("offered") == []


async def test_a_claim_is_renewed_while_its_message_waits_for_the_agent(host: Host, relay: Relay) -> None:
    host.flag("swallow").touch()
    async with host.running(patience=Patience(ack=60.0), renewal=0.1):
        number = await relay.send("swallow", claimable=True)
        await until(lambda: host.offered(number) == 1)
        first = await claim_ends(relay, number)

        async def renewed() -> bool:
            return await claim_ends(relay, number) > first

        await until(renewed)


async def test_the_claim_on_a_task_is_kept_up_until_a_turn_has_ended(host: Host, relay: Relay) -> None:
    async with host.running(renewal=0.1):
        task = await relay.send("do it", claimable=True, payload={"taskId": 7})
        await until(lambda: relay.is_read(task))
        first = await claim_ends(relay, task)

        async def renewed() -> bool:
            return await claim_ends(relay, task) > first

        await until(renewed)
        await relay.send("rest")  # the end of a turn that nobody saw begin proves nothing
        await until(lambda: len(host.taken()) == 2)
        assert await relay.has_status("busy")
        await relay.send("work")
        await until(lambda: len(host.taken()) == 3)
        await relay.send("rest")
        await until(lambda: relay.has_status("idle"))


@pytest.mark.spec("R-42")
async def test_a_claim_that_cannot_be_renewed_stays_until_it_expires(
    host: Host, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    async with host.running(renewal=0.1):
        task = await relay.send("do it", claimable=True, payload={"taskId": 7})
        await until(lambda: relay.is_read(task))
        await relay.http.delete(f"/api/messages/{task}")
        await until(lambda: "is not renewed" in caplog.text)
        assert await relay.has_status("busy")


async def test_a_turn_that_the_agent_died_in_does_not_end_its_task(host: Host, relay: Relay) -> None:
    async with host.running():
        task = await relay.send("work", claimable=True, payload={"taskId": 7})
        await until(lambda: relay.is_read(task))
        await relay.send("mortal")
        await until(lambda: len(host.noted("started")) == 2)
        await relay.send("rest")
        await until(lambda: len(host.taken()) == 3)
        assert await relay.has_status("busy")


@pytest.mark.spec("R-43")
@pytest.mark.parametrize("task", ["12", 1.5, True, None])
async def test_what_is_no_number_is_no_task(host: Host, relay: Relay, task: Any) -> None:
    async with host.running():
        number = await relay.send("do it", claimable=True, payload={"taskId": task})
        await until(lambda: relay.is_read(number))
        await until(lambda: relay.has_status("idle"))


@pytest.mark.spec("R-139", "R-I20")
async def test_turns_are_seen_as_busy_and_idle(host: Host, relay: Relay) -> None:
    async with host.running():
        for body, status in (
            ("work", "busy"),
            ("rest", "idle"),
            ("begin both", "busy"),
            ("end a", "busy"),
            ("end b", "idle"),
        ):
            number = await relay.send(body)
            await until(lambda number=number: relay.is_read(number))
            await until(lambda status=status: relay.has_status(status))


async def test_a_reply_is_stored_once_for_its_sender(host: Host, relay: Relay) -> None:
    async with host.running():
        asked = await relay.send("echo")

        async def answered() -> bool:
            return len(await relay.get(f"/api/messages/{asked}/thread")) == 2

        await until(answered)
        reply = (await relay.get(f"/api/messages/{asked}/thread"))[1]
        assert (reply["from"], reply["to"], reply["body"], reply["replyTo"]) == ("a1", "b1", "echo", asked)


async def test_what_the_agent_thinks_of_a_message_and_refers_to_reaches_relay(
    host: Host, relay: Relay
) -> None:
    async with host.running():
        await relay.send("odd")
        liked, asked = await relay.send("like"), await relay.send("show")

        async def told() -> bool:
            message = await relay.get(f"/api/messages/{liked}")
            return (
                bool(message.get("reactions")) and len(await relay.get(f"/api/messages/{asked}/thread")) == 2
            )

        await until(told)
    (reaction,) = (await relay.get(f"/api/messages/{liked}"))["reactions"]
    assert (reaction["agentId"], reaction["emoji"]) == ("a1", "+1")
    reply = (await relay.get(f"/api/messages/{asked}/thread"))[1]
    assert reply["attachments"] == [{"id": "art_1", "name": "log.txt"}]
