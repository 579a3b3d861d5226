"""Refused access on record: the first at once, what is alike in the minute after it as one, and never without bound."""

from __future__ import annotations

import pytest
import trio

from relay.fleet import Caller, Fleet, activity, denials
from relay.fleet.denials import LONGEST, MOST, Denied
from relay.wire import Activity

BY = Caller("curious", "tester", "tok_1")


async def recorded(fleet: Fleet) -> list[Activity]:
    """Oldest first."""
    await fleet.system.idle()
    await fleet.store.drain()
    found = activity.list_activity(fleet.store, view="security", limit=500)
    return found[::-1]


def counts(found: list[Activity]) -> list[int]:
    return [each.metadata["count"] for each in found if each.metadata]


@pytest.mark.spec("AUTH-4")
async def test_the_first_is_recorded_at_once_and_the_rest_of_the_minute_counted(fleet: Fleet) -> None:
    refusal = Denied(403, "forbidden", "GET /api/x", "10.0.0.1", BY)
    for _ in range(4):
        fleet.denials.tell(refusal)
    (first,) = await recorded(fleet)
    assert first.metadata == {
        "status": 403,
        "route": "GET /api/x",
        "peer": "10.0.0.1",
        "reason": "forbidden",
        "count": 1,
        "authSub": "curious",
        "authRole": "tester",
        "authJti": "tok_1",
    }
    await trio.sleep(denials.MINUTE + 1)
    assert counts(await recorded(fleet)) == [1, 3]
    await trio.sleep(denials.MINUTE + 1)
    assert counts(await recorded(fleet)) == [1, 3]
    fleet.denials.tell(refusal)
    assert counts(await recorded(fleet)) == [1, 3, 1]


async def test_what_differs_is_recorded_apart(fleet: Fleet) -> None:
    for refusal in (
        Denied(401, "unknown", peer="10.0.0.1"),
        Denied(401, "unknown", peer="10.0.0.2"),
        Denied(401, "expired", peer="10.0.0.1"),
        Denied(403, "forbidden", "GET /api/x", by=BY),
        Denied(403, "forbidden", "GET /api/y", by=BY),
    ):
        fleet.denials.tell(refusal)
    assert counts(await recorded(fleet)) == [1] * 5


async def test_of_a_long_reason_the_begin_is_recorded(fleet: Fleet) -> None:
    """Those that differ only after it are alike."""
    for end in "ab":
        fleet.denials.tell(Denied(403, "scope: " + "x" * 10_000 + end, "POST /api/tokens", by=BY))
    (first,) = await recorded(fleet)
    assert first.metadata is not None
    assert len(first.metadata["reason"]) == len(first.body or "") == LONGEST


async def test_nobody_fills_the_record(fleet: Fleet) -> None:
    for number in range(3 * MOST):
        fleet.denials.tell(Denied(401, "unknown", peer=f"10.0.{number // 256}.{number % 256}"))
    found = await recorded(fleet)
    assert len(found) == MOST + 1
    await trio.sleep(denials.MINUTE + 1)
    found = await recorded(fleet)
    assert len(found) == MOST + 2
    assert sum(counts(found)) == 3 * MOST
