"""The queue of a policy: waiting, release, expiry, and whose the policy is."""

from __future__ import annotations

from typing import Any

import policykit
import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import System, open_system, virtual_wall
from relay.fleet import Fleet, NotFound, _queue, agents, maintenance, messages, open_fleet, policies
from relay.fleet._policy_rules import Last
from relay.fleet.policies import Stop, find_policy_state
from relay.store import Store, open_store

A = wire.AgentStatus
D = wire.DeliveryStatus


async def send(fleet: Fleet, to: str = "policy:P", **rest: Any) -> wire.Message:
    asked = wire.SendMessage(**{"from_": "u", "body": "x", **rest}, to=to)
    return (await fleet.post_office.ask(messages.Send(asked))).message


REQUESTS: dict[str, str] = {}
"""The spawn requests by the names that the tests have for them."""


async def begin(fleet: Fleet, request: str = "R", policy: str = "P") -> None:
    REQUESTS[request] = await policykit.begin(fleet, policy)


async def register(fleet: Fleet, name: str = "w", request: str = "R", policy: str = "P", **card: Any) -> None:
    meta = {"policyName": policy, "spawnRequestId": REQUESTS.get(request, request)}
    await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name, meta=meta, **card)))


async def expire(fleet: Fleet, missed: float = 0.0) -> list[int]:
    """As a maintenance run does it."""
    found: list[int] = []
    while some := await fleet.post_office.ask(messages.ExpireQueued(missed)):
        found += some
        missed = 0.0
    return found


async def reap(fleet: Fleet) -> tuple[int, ...]:
    return (await fleet.maintenance.ask(maintenance.Reap())).expired_queued_message_ids


def states(fleet: Fleet) -> dict[int, tuple[str, str | None]]:
    rows = fleet.store.rows("select id, delivery, resolved_to from messages order by id")
    return {number: (status, agent_id) for number, status, agent_id in rows}


def told(log: Log, kind: str) -> list[int]:
    return [event["data"]["id"] for event in log.events(kind)]


state = policykit.state


@pytest.fixture
async def served(fleet: Fleet) -> Fleet:
    """A fleet in which the agent w serves the policy P."""
    await begin(fleet)
    await register(fleet)
    return fleet


# -- queued


@pytest.mark.spec("M-080", "MSG-31", "MSG-32", "MSG-33", "MSG-19")
async def test_mail_for_a_policy_without_an_agent_waits(fleet: Fleet, log: Log) -> None:
    message = await send(fleet)
    assert (message.delivery_status, message.resolved_to_agent) == (D.QUEUED, None)
    (event,) = log.events("message.queued", "message.new")
    assert (event["type"], event["source"], event["subject"]) == ("message.queued", "u", str(message.id))
    assert event["data"] == wire.to_json(message)
    assert len(log.audits(f"server-message-{message.id}")) == 1


@pytest.mark.spec("M-081", "MSG-34")
async def test_what_waits_is_listed_by_its_address_or_the_name_of_the_policy(fleet: Fleet) -> None:
    numbers = [(await send(fleet)).id for _ in range(3)]
    await send(fleet, "policy:Q")
    await send(fleet, "P")
    now = fleet.system.wall()
    for name in ("policy:P", "P"):
        assert [found.id for found in messages.list_queued(fleet.store, name, now=now)] == numbers
    assert [found.id for found in messages.list_queued(fleet.store, "P", now=now, limit=2)] == numbers[:2]
    assert messages.list_queued(fleet.store, "policy:R", now=now) == []


@pytest.mark.spec("MSG-34", "MSG-30", "O-20", "O-22")
async def test_what_is_too_old_is_not_listed_though_nobody_swept_it(fleet: Fleet) -> None:
    first = await send(fleet, max_age_seconds=10)
    at_once = await send(fleet, max_age_seconds=0)
    default = await send(fleet)

    def listed() -> list[int]:
        return [found.id for found in messages.list_queued(fleet.store, "P", now=fleet.system.wall())]

    await trio.sleep(9.9)
    assert listed() == [first.id, at_once.id, default.id]
    await trio.sleep(0.2)
    assert listed() == [at_once.id, default.id]


@pytest.mark.spec("M-082", "MSG-35", "O-23")
async def test_the_status_tells_when_it_was_queued_released_and_is_over(fleet: Fleet) -> None:
    waits = await send(fleet, max_age_seconds=60)
    created = waits.created_at
    assert created is not None
    before = messages.delivery(fleet.store, waits.id)
    assert before.delivery_status is D.QUEUED
    assert (before.queued_at, before.expires_at) == (created, created + 60)
    assert (before.available_at, before.expired_at) == (None, None)
    await begin(fleet)
    await trio.sleep(10)
    await register(fleet)
    after = messages.delivery(fleet.store, waits.id)
    assert (after.delivery_status, after.resolved_to_agent) == (D.AVAILABLE, "w")
    assert (after.queued_at, after.expires_at, after.expired_at) == (created, created + 60, None)
    assert after.available_at is not None and after.available_at >= created + 9.9
    direct = await send(fleet, "w")
    plain = messages.delivery(fleet.store, direct.id)
    assert (plain.queued_at, plain.available_at, plain.expires_at) == (None, direct.created_at, None)
    gone = await send(fleet, "policy:Q", max_age_seconds=0)
    assert await expire(fleet) == [gone.id]
    expired = messages.delivery(fleet.store, gone.id)
    assert (expired.delivery_status, expired.available_at) == (D.EXPIRED, None)
    assert expired.expired_at is not None


# -- released


@pytest.mark.spec("M-083", "AGT-3", "AGT-9", "MSG-40", "MSG-41", "MSG-42", "M-I10")
async def test_a_registration_with_the_right_request_releases_the_queue(fleet: Fleet, log: Log) -> None:
    await begin(fleet)
    numbers = [(await send(fleet)).id for _ in range(3)]
    other = await send(fleet, "policy:Q")
    seen = len(log.events())
    await register(fleet)
    events = [event for event in log.events()[seen:] if event["type"] != "activity.created"]
    assert [event["type"] for event in events] == [
        "policy.state.changed",
        "message.available",
        *["message.new"] * 3,
        "agent.status",
    ]
    changed, available, *new, _ = events
    assert (changed["source"], changed["subject"]) == ("server", "P")
    assert (changed["data"]["status"], changed["data"]["agentId"]) == ("running", "w")
    assert changed["data"]["healthySince"] > 0
    assert (available["source"], available["subject"]) == ("server", "policy:P")
    assert available["data"] == {"policyName": "P", "agentId": "w", "messageIds": numbers, "count": 3}
    assert [event["data"]["id"] for event in new] == numbers
    assert {event["data"]["resolvedToAgent"] for event in new} == {"w"}
    assert {event["data"]["deliveryStatus"] for event in new} == {"available"}
    assert states(fleet)[other.id] == ("queued", None)
    assert [found.id for found in messages.list_messages(fleet.store, for_="w", unread=True)] == numbers
    assert messages.get_message(fleet.store, numbers[0]).resolved_to_agent == "w"


@pytest.mark.spec("M-084", "AGT-6", "MSG-40", "M-I8", "M-I11")
async def test_a_repeated_registration_releases_nothing_twice(fleet: Fleet, log: Log) -> None:
    await send(fleet)
    await begin(fleet)
    await register(fleet)
    seen, healthy = len(log.events()), state(fleet).healthy_since
    await trio.sleep(1)
    await register(fleet)
    await register(fleet, "w2")
    types = [event["type"] for event in log.events()[seen:] if event["type"] != "activity.created"]
    assert types == ["policy.state.changed", "agent.status"] * 2
    assert state(fleet).agent_id == "w2"
    assert (state(fleet).healthy_since or 0) > (healthy or 0)
    assert states(fleet) == {1: ("available", "w")}


@pytest.mark.spec("M-085", "AGT-5", "M-I12")
async def test_an_older_request_links_nobody(fleet: Fleet, log: Log) -> None:
    await send(fleet)
    await begin(fleet, "R1")
    await begin(fleet, "R2")
    before = state(fleet)
    await register(fleet, request="R1")
    await register(fleet, "stranger", policy="Q")
    assert state(fleet) == before
    assert find_policy_state(fleet.store, "Q") is None
    assert states(fleet) == {1: ("queued", None)}
    assert [event["data"]["id"] for event in log.events("agent.status")][-2:] == ["w", "stranger"]


@pytest.mark.spec("AGT-5")
@pytest.mark.parametrize("meta", [{"policyName": "P"}, {"policyName": "P", "spawnRequestId": 7}, {"spawnRequestId": "R"},
                                  {"policyName": "", "spawnRequestId": "R"}])  # fmt: skip
async def test_only_texts_name_a_policy(fleet: Fleet, meta: dict[str, Any]) -> None:
    await begin(fleet)
    await fleet.agents["w"].ask(agents.Register(wire.RegisterAgent(id="w", meta=meta)))
    assert state(fleet).status is wire.PolicyStatus.STARTING


@pytest.mark.spec("AGT-4", "H-01")
async def test_an_agent_that_is_being_stopped_gets_no_mail(fleet: Fleet, log: Log) -> None:
    await send(fleet)
    await begin(fleet)
    await fleet.policies["P"].ask(Stop())
    await register(fleet)
    assert (state(fleet).status, state(fleet).agent_id) == (wire.PolicyStatus.STOPPING, "w")
    assert states(fleet) == {1: ("queued", None)}
    assert log.events("policy.state.changed")[-1]["data"]["agentId"] == "w"
    assert (await send(fleet)).delivery_status is D.QUEUED


@pytest.mark.spec("M-086", "MSG-31", "O-21")
async def test_mail_for_a_policy_with_an_agent_goes_there_at_once(served: Fleet, log: Log) -> None:
    message = await send(served)
    assert (message.delivery_status, message.resolved_to_agent) == (D.AVAILABLE, "w")
    assert told(log, "message.new") == [message.id]
    assert log.events("message.queued", "message.available") == []
    assert [found.id for found in messages.list_messages(served.store, for_="w")] == [message.id]


@pytest.mark.spec("O-21", "M-I9")
async def test_mail_waits_while_the_agent_is_offline_and_goes_out_when_it_is_back(
    served: Fleet, log: Log
) -> None:
    await served.agents["w"].ask(agents.SetStatus(A.STALE))
    assert (await send(served)).resolved_to_agent == "w"
    await served.agents["w"].ask(agents.SetStatus(A.OFFLINE))
    waits = await send(served)
    assert waits.delivery_status is D.QUEUED
    await served.agents["w"].ask(agents.Heartbeat())
    with trio.fail_after(5):
        while states(served)[waits.id] != ("available", "w"):
            await trio.sleep(0.1)
    assert [event["data"]["messageIds"] for event in log.events("message.available")] == [[waits.id]]


@pytest.mark.spec("M-I9", "M-I10")
async def test_older_mail_goes_first(served: Fleet, log: Log) -> None:
    """A send may find mail waiting whose release has not been asked for yet, or a policy that has not heard who is back."""
    await served.agents["w"].ask(agents.SetStatus(A.OFFLINE))
    first = await send(served)
    await served.agents["w"].ask(agents.SetStatus(A.IDLE))
    second = await send(served)
    await served.system.idle()
    assert states(served) == dict.fromkeys((first.id, second.id), ("available", "w"))
    assert told(log, "message.new") == [first.id, second.id]


@pytest.mark.spec("MSG-47", "M-085")
async def test_a_new_start_takes_the_policy_from_its_agent(served: Fleet) -> None:
    await begin(served, "R2")
    assert state(served).agent_id is None
    assert (await send(served)).delivery_status is D.QUEUED
    await register(served)
    assert states(served)[1] == ("queued", None)
    await register(served, "w2", "R2")
    assert states(served)[1] == ("available", "w2")


@pytest.mark.spec("M-I8", "M-I10")
async def test_a_long_queue_is_released_in_pieces(fleet: Fleet, log: Log) -> None:
    size = 2 * _queue.AT_ONCE + 3
    asked = [wire.SendMessage(from_="u", to="policy:P", body="x")] * size
    await fleet.post_office.ask(messages.SendMany(tuple(asked), audited=False))
    await begin(fleet)
    await register(fleet)
    pieces = [event["data"]["messageIds"] for event in log.events("message.available")]
    assert [len(piece) for piece in pieces] == [_queue.AT_ONCE, _queue.AT_ONCE, 3]
    assert (
        [number for piece in pieces for number in piece]
        == told(log, "message.new")
        == list(range(1, size + 1))
    )
    assert log.types()[-1] == "agent.status"


@pytest.mark.spec("M-I9")
async def test_what_is_sent_meanwhile_waits_behind_a_long_queue(fleet: Fleet, log: Log) -> None:
    await begin(fleet)
    asked = [wire.SendMessage(from_="u", to="policy:P", body="x")] * (_queue.AT_ONCE + 1)
    await fleet.post_office.ask(messages.SendMany(tuple(asked), audited=False))
    row = wire.to_json(wire.Agent(id="w"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(register, fleet)
        while state(fleet).status is not wire.PolicyStatus.RUNNING:
            await trio.lowlevel.checkpoint()
        late = await send(fleet)
    assert row["id"] == "w"
    await fleet.system.idle()
    assert told(log, "message.new") == list(range(1, late.id + 1))
    assert set(states(fleet).values()) == {("available", "w")}


@pytest.mark.spec("M-I8")
async def test_large_mail_is_released_in_pieces_too(fleet: Fleet, log: Log, monkeypatch: Any) -> None:
    monkeypatch.setattr(_queue, "BYTES_AT_ONCE", 1_000)
    for length in (10, 990, 5_000):
        await send(fleet, body="x" * length)
    await begin(fleet)
    await register(fleet)
    assert [event["data"]["messageIds"] for event in log.events("message.available")] == [[1], [2], [3]]


# -- expired


@pytest.mark.spec("M-087", "M-088", "MSG-43", "MSG-44", "M-I13")
async def test_mail_expires_when_it_has_waited_for_too_long(fleet: Fleet, log: Log) -> None:
    waits = await send(fleet, max_age_seconds=60)
    await trio.sleep(59)
    assert await reap(fleet) == ()
    assert states(fleet)[waits.id] == ("queued", None)
    await trio.sleep(2)
    assert set(await reap(fleet)) | set(told(log, "message.expired")) == {waits.id}
    (event,) = log.events("message.expired")
    assert (event["source"], event["subject"]) == ("server", str(waits.id))
    assert event["data"]["deliveryStatus"] == "expired"
    assert event["data"]["body"] == "x"
    await begin(fleet)
    await register(fleet)
    assert states(fleet)[waits.id] == ("expired", None)
    assert log.events("message.available", "message.new") == []
    assert await expire(fleet) == []
    assert messages.get_message(fleet.store, waits.id).delivery_status is D.EXPIRED


@pytest.mark.spec("MSG-40", "MSG-44")
async def test_mail_that_is_too_old_is_not_released_though_nobody_swept_it(fleet: Fleet) -> None:
    waits = await send(fleet, max_age_seconds=10)
    await begin(fleet)
    await trio.sleep(10.1)
    await register(fleet)
    assert states(fleet)[waits.id] == ("queued", None)
    assert (await send(fleet)).resolved_to_agent == "w"
    assert await expire(fleet) == [waits.id]


@pytest.mark.spec("MSG-30", "O-20")
async def test_mail_that_never_waits_goes_to_whoever_comes_before_the_sweep(fleet: Fleet) -> None:
    swept = await send(fleet, max_age_seconds=0)
    assert await expire(fleet) == [swept.id]
    waits = await send(fleet, max_age_seconds=0)
    await trio.sleep(5)
    await begin(fleet)
    await register(fleet)
    assert states(fleet) == {swept.id: ("expired", None), waits.id: ("available", "w")}


@pytest.mark.spec("M-063", "MSG-30", "O-20")
@pytest.mark.parametrize(("age", "lifetime"), [(None, 86_400), (1, 1)])
async def test_how_long_mail_waits(fleet: Fleet, log: Log, age: int | None, lifetime: int) -> None:
    waits = await send(fleet, max_age_seconds=age)
    await trio.sleep(lifetime - 0.1)
    assert await expire(fleet) == []
    await trio.sleep(0.2)
    await expire(fleet)
    assert told(log, "message.expired") == [waits.id]


@pytest.mark.spec("M-063", "MSG-30")
async def test_mail_can_wait_for_thirty_days(fleet: Fleet) -> None:
    waits = await send(fleet, max_age_seconds=2_592_000)
    assert messages.delivery(fleet.store, waits.id).expires_at == (waits.created_at or 0) + 2_592_000


@pytest.mark.spec("M-I7")
async def test_a_long_queue_expires_in_pieces(fleet: Fleet, log: Log) -> None:
    size = 2 * _queue.AT_ONCE + 3
    asked = [wire.SendMessage(from_="u", to="policy:P", body="x", max_age_seconds=0)] * size
    await fleet.post_office.ask(messages.SendMany(tuple(asked), audited=False))
    assert len(await fleet.post_office.ask(messages.ExpireQueued())) == _queue.AT_ONCE
    await expire(fleet)
    assert told(log, "message.expired") == list(range(1, size + 1))


@pytest.mark.spec("M-I13")
async def test_time_that_the_server_missed_does_not_count(fleet: Fleet) -> None:
    waits = await send(fleet, max_age_seconds=10)
    at_once = await send(fleet, max_age_seconds=0)
    await trio.sleep(20)
    assert await expire(fleet, missed=11) == [at_once.id]
    assert states(fleet)[waits.id] == ("queued", None)
    await trio.sleep(1.1)
    assert await expire(fleet) == [waits.id]


# -- gone, and over restarts


@pytest.mark.spec("M-069", "MSG-26", "M-I7")
async def test_what_is_deleted_leaves_the_queue(fleet: Fleet, log: Log) -> None:
    waits = await send(fleet, max_age_seconds=0)
    await begin(fleet)
    await fleet.post_office.ask(messages.Delete(waits.id))
    assert await expire(fleet) == []
    await register(fleet)
    assert log.events("message.available", "message.new", "message.expired") == []
    with pytest.raises(NotFound):
        messages.delivery(fleet.store, waits.id)


@pytest.mark.spec("M-I9", "M-I11")
async def test_a_policy_is_served_and_its_queue_kept_over_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await begin(fleet)
        await register(fleet)
        await send(fleet, "policy:Q", max_age_seconds=60)
    async with open_fleet(system, store) as fleet:
        assert (await send(fleet)).resolved_to_agent == "w"
        await trio.sleep(61)
        assert await expire(fleet) == [1]
        with pytest.raises(NotFound):
            messages.delivery(fleet.store, 9)
        assert messages.delivery(fleet.store, 2).resolved_to_agent == "w"


@pytest.mark.spec("M-I9")
async def test_what_a_crash_kept_from_being_released_is_released_at_the_next_start(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        waits = await send(fleet)
        await fleet.agents["w"].ask(agents.Register(wire.RegisterAgent(id="w")))
        await begin(fleet)
    state_ = wire.PolicyState(
        policy_name="P", status=wire.PolicyStatus.RUNNING, agent_id="w", updated_at=wire.Instant(1)
    )
    async with open_fleet(system, store) as fleet:
        linked = policies.changed(state_, Last(), None)
        settled = trio.Event()
        store.stage(linked.writes, (), _owner(), lambda error: settled.set())
        await settled.wait()
    async with open_fleet(system, store) as fleet:
        await fleet.system.idle()
        assert states(fleet)[waits.id] == ("available", "w")


def _owner() -> Any:
    from relay.store import Owner

    return Owner()


@pytest.mark.spec("M-089", "M-I7")
def test_release_and_expiry_race_for_each_message(trials: int = 100) -> None:
    async def trial(seed: int) -> None:
        async with open_system(wall=virtual_wall(), seed=seed) as system, open_store(None, system) as store:
            async with open_fleet(system, store) as fleet:
                asked = [wire.SendMessage(from_="u", to="policy:P", body="x", max_age_seconds=60)] * 100
                await fleet.post_office.ask(messages.SendMany(tuple(asked), audited=False))
                await begin(fleet)
                await trio.sleep(59.99 + seed % 3 * 0.01)
                found: list[int] = []

                async def sweep() -> None:
                    found.extend(await expire(fleet))

                async with trio.open_nursery() as nursery:
                    for start in ((register, fleet), (sweep,))[:: 1 if seed % 2 else -1]:
                        nursery.start_soon(*start)  # type: ignore[arg-type]
                log = Log(store)
                released = told(log, "message.new")
                assert told(log, "message.expired") == found
                assert not set(released) & set(found)
                left = {number for number, (status, _) in states(fleet).items() if status == "queued"}
                assert not left or left == set(await expire(fleet))
                assert sorted([*released, *found, *left]) == list(range(1, 101))

    for seed in range(trials):
        trio.run(trial, seed, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_thousands_who_come_and_go_at_once_do_not_fill_the_mailbox_of_the_post_office(
    fleet: Fleet,
) -> None:
    async def come_and_go(name: str) -> None:
        await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name)))
        await fleet.agents[name].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))

    async with trio.open_nursery() as nursery:
        for number in range(1_500):
            nursery.start_soon(come_and_go, f"a{number}")
    buried = [letter for letter in fleet.system.dead_letters if letter.address == fleet.post_office.address]
    assert buried == []
