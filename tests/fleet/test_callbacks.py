"""Callbacks: who is called, how often, in which order, and what a crash leaves of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import trio
from callouts import SECRET, Network, integration, refusing, rows, settled, task, tell, write

from relay.actors import System
from relay.fleet import Fleet, callbacks, open_fleet
from relay.fleet.callbacks import Callout, Due, Sweep, Tried
from relay.fleet.integrations import Integrations
from relay.store import Store


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def fleet(system: System, store: Store, network: Network) -> AsyncIterator[Fleet]:
    known = Integrations([integration("ci"), integration("cd"), integration("mute", callback_url=None)])
    async with open_fleet(system, store, integrations=known, outgoing=network) as fleet:
        yield fleet


@pytest.mark.spec("INT-20", "INT-22")
async def test_the_source_of_a_task_hears_of_it(fleet: Fleet, store: Store, network: Network) -> None:
    await tell(fleet, task(7, metadata={"build": 1}), event="task.updated")
    await settled(store)
    [tried] = network.tried
    assert (tried.place, tried.callout.event, tried.callout.secret) == ("ci", "task.updated", SECRET)
    assert orjson.loads(tried.callout.body) == {
        "event": "task.updated",
        "task": {
            "id": 7,
            "source": "ci",
            "target": "a1",
            "title": "task 7",
            "status": "open",
            "severity": "info",
            "metadata": {"build": 1},
        },
    }
    assert rows(store) == [(7, "sent", 1, None)]


@pytest.mark.spec("INT-20")
@pytest.mark.parametrize(
    ("configured", "members", "called"),
    [
        ({}, {}, True),
        ({}, {"source": "cd"}, False),
        ({}, {"source": "root"}, False),
        ({"callback_url": None}, {}, False),
        ({"targets": ["a1"]}, {}, True),
        ({"targets": ["a2"]}, {}, False),
        ({"targets": ["channel:c"]}, {"metadata": {"relayRequestedTarget": "channel:c"}}, True),
        ({"targets": ["channel:c"]}, {"metadata": {"relayRequestedTarget": "channel:d"}}, False),
        ({"targets": ["channel:c"]}, {"metadata": {"relayRequestedTarget": ["channel:c"]}}, False),
        ({"targets": ["channel:c"]}, {"metadata": {}}, False),
        ({"channels": ["c"]}, {}, True),
        ({"channels": ["c"]}, {"channel": "c"}, True),
        ({"channels": ["c"]}, {"channel": "d"}, False),
        ({"targets": ["a1"], "channels": ["c"]}, {"channel": "d"}, False),
    ],
)
async def test_who_is_called(
    fleet: Fleet, configured: dict[str, Any], members: dict[str, Any], called: bool
) -> None:
    fleet.integrations.replace([integration("ci", **configured)])
    assert await tell(fleet, task(1, **members)) == called


@pytest.mark.spec("O-36")
async def test_it_is_tried_again_after_1_5_and_25_seconds_and_then_given_up(
    fleet: Fleet, store: Store, network: Network
) -> None:
    network.places["ci"] = refusing()
    await tell(fleet, task(1))
    await settled(store)
    assert network.times("ci") == [0, 1, 6, 31]
    assert len({tried.callout.delivery for tried in network.tried}) == 1
    assert rows(store) == [(1, "failed", 4, "it answered 500")]


async def test_the_next_one_waits_until_the_one_before_has_ended(
    fleet: Fleet, store: Store, network: Network
) -> None:
    network.places["ci"] = refusing(5)
    for number in (1, 2, 3):
        await tell(fleet, task(number))
    await settled(store)
    assert [tried.task for tried in network.tried] == [1, 1, 1, 1, 2, 2, 3]
    assert network.most_busy == 1
    assert network.taken["ci"] == [2, 3]
    assert len({tried.callout.delivery for tried in network.tried}) == 3


@pytest.mark.spec("M-I38", "O-36")
async def test_who_does_not_answer_has_five_seconds_and_delays_nobody_else(
    fleet: Fleet, store: Store, network: Network
) -> None:
    async def never(callout: Callout) -> None:
        await trio.sleep_forever()

    network.places["ci"] = never
    await tell(fleet, task(1))
    for number in (2, 3, 4):
        await tell(fleet, task(number, source="cd"))
    with trio.fail_after(1):
        while network.taken["cd"] != [2, 3, 4]:
            await trio.sleep(0.01)
    await settled(store)
    assert network.times("ci") == [0, 6, 16, 46]
    assert rows(store)[0] == (1, "failed", 4, "no answer within 5 s")


async def test_a_network_that_breaks_is_a_failure_like_any_other(
    fleet: Fleet, store: Store, network: Network
) -> None:
    async def broken(callout: Callout) -> None:
        raise ZeroDivisionError("a defect")

    network.places["ci"] = broken
    await tell(fleet, task(1))
    await tell(fleet, task(2, source="cd"))
    await settled(store)
    assert rows(store) == [(1, "failed", 4, "ZeroDivisionError('a defect')"), (2, "sent", 1, None)]


async def test_no_more_than_so_many_are_called_at_once(fleet: Fleet, store: Store, network: Network) -> None:
    names = [f"n{number}" for number in range(callbacks.MOST_AT_ONCE + 5)]
    fleet.integrations.replace([integration(name) for name in names])
    most = 0

    async def slow(callout: Callout) -> None:
        nonlocal most
        most = max(most, sum(network.busy.values()))
        await trio.sleep(1)

    network.places = dict.fromkeys(names, slow)
    for name in names:
        await tell(fleet, task(1, source=name))
    await settled(store)
    assert most == callbacks.MOST_AT_ONCE
    assert sorted(network.taken) == sorted(names)


async def test_a_server_that_ended_in_the_middle_calls_again_with_the_same_id(
    system: System, store: Store, network: Network
) -> None:
    async def never(callout: Callout) -> None:
        await trio.sleep_forever()

    known = Integrations([integration("ci")])
    network.places["ci"] = never
    async with open_fleet(system, store, integrations=known, outgoing=network) as fleet:
        await tell(fleet, task(1))
        while not network.tried:
            await trio.sleep(0.1)
    del network.places["ci"]
    async with open_fleet(system, store, integrations=known, outgoing=network):
        await settled(store)
    assert len({tried.callout.delivery for tried in network.tried}) == 1
    assert rows(store) == [(1, "sent", 1, None)]


async def test_the_outcome_of_a_call_that_an_earlier_incarnation_made_is_not_that_of_the_present_one(
    fleet: Fleet, store: Store, network: Network
) -> None:
    answers = trio.Event()

    async def slow(callout: Callout) -> None:
        await answers.wait()

    network.places["ci"] = slow
    await tell(fleet, task(1), task(2))
    while not network.tried:
        await trio.sleep(0.1)
    first = network.tried[0].callout
    [(number, at)] = store.rows("select id, due_at from callbacks where task_id = 1")
    earlier = Due(number, first.delivery, "ci", first.event, first.body.decode(), 0, at)
    fleet.callbacks.tell(Tried(earlier, None))
    fleet.callbacks.tell(Tried(earlier, "it answered 500"))
    await trio.sleep(1)
    assert rows(store) == [(1, "due", 0, None), (2, "due", 0, None)]
    answers.set()
    await settled(store)
    assert [tried.task for tried in network.tried] == [1, 2]
    assert network.most_busy == 1


async def test_a_pause_goes_on_over_a_restart_but_never_for_longer(
    system: System, store: Store, network: Network
) -> None:
    known = Integrations([integration("ci")])
    network.places["ci"] = refusing(3)
    async with open_fleet(system, store, integrations=known, outgoing=network) as fleet:
        await tell(fleet, task(1))
        while len(network.tried) < 3:
            await trio.sleep(0.1)
        await system.idle()
    await write(
        store, "update callbacks set due_at = due_at + 86400000"
    )  # as if the clock had been a day ahead
    async with open_fleet(system, store, integrations=known, outgoing=network):
        began = trio.current_time()
        await settled(store)
    assert round(network.tried[-1].at - began, 1) == 25.0


async def test_what_nobody_is_configured_for_is_given_up(
    fleet: Fleet, store: Store, network: Network
) -> None:
    network.places["ci"] = refusing()
    for number in (1, 2):
        await tell(fleet, task(number))
    await tell(fleet, task(3, source="cd"))
    while network.taken["cd"] != [3] or len(network.tried) < 3:
        await trio.sleep(0.1)
    fleet.integrations.replace([integration("cd")])
    fleet.callbacks.tell(Sweep())
    await settled(store)
    gone = "the integration is not configured any more"
    assert [row[1] for row in rows(store)] == ["failed", "failed", "sent"]
    assert rows(store)[1][3] == gone


async def test_a_new_address_and_secret_count_from_the_next_try_on(
    fleet: Fleet, store: Store, network: Network
) -> None:
    network.places["ci"] = refusing()
    await tell(fleet, task(1))
    while not network.tried:
        await trio.sleep(0.1)
    fleet.integrations.replace([integration("ci", callback_url="http://new.example/")])
    await settled(store)
    assert [tried.place for tried in network.tried] == ["ci", "new"]


async def test_an_integration_without_an_address_any_more_is_not_called(
    fleet: Fleet, store: Store, network: Network
) -> None:
    network.places["ci"] = refusing()
    await tell(fleet, task(1))
    while not network.tried:
        await trio.sleep(0.1)
    fleet.integrations.replace([integration("ci", callback_url=None)])
    await settled(store)
    assert rows(store) == [(1, "failed", 4, "the integration is not called back any more")]


async def test_what_has_ended_is_kept_for_seven_days(fleet: Fleet, store: Store, network: Network) -> None:
    await tell(fleet, task(1), task(2))
    await settled(store)
    week = 7 * 24 * 3_600_000
    await write(store, "update callbacks set ended_at = ended_at - ? where task_id = 1", week)
    await write(store, "update callbacks set ended_at = ended_at - ? where task_id = 2", week - 60_000)
    fleet.callbacks.tell(Sweep())
    await trio.sleep(1)
    assert [row[0] for row in rows(store)] == [2]


async def test_of_those_that_wait_the_oldest_are_given_up_when_they_are_too_many(
    fleet: Fleet, store: Store, network: Network
) -> None:
    async def never(callout: Callout) -> None:
        await trio.sleep_forever()

    network.places["ci"] = never
    await tell(fleet, *(task(number) for number in range(1, callbacks.MOST_WAITING + 4)))
    await trio.sleep(callbacks.TRY_WITHIN + 0.5)
    ended = [row for row in rows(store) if row[1] != "due"]
    assert ended == [(number, "failed", 0, "too many wait") for number in (2, 3)]


async def test_long_reasons_are_cut(fleet: Fleet, store: Store, network: Network) -> None:
    async def verbose(callout: Callout) -> None:
        raise callbacks.Undelivered("x" * 10_000)

    network.places["ci"] = verbose
    await tell(fleet, task(1))
    await settled(store)
    [(_, _, _, error)] = rows(store)
    assert error == "x" * callbacks.LONGEST_ERROR
