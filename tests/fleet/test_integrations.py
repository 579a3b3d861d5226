"""Integrations in the fleet: their windows, their permissions, and whom their work is for."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from callouts import SECRET, integration
from fleetlog import Log

from relay import wire
from relay.fleet import Fleet, Forbidden, Invalid, agents, tasks
from relay.fleet.integrations import Integrations, ingest, list_integrations


def event(**members: Any) -> wire.IntegrationEvent:
    return wire.decode(wire.IntegrationEvent, {"title": "build broke", "target": "a1", **members})


@pytest.mark.spec("M-118", "O-34", "INT-3")
async def test_a_window_is_a_minute_from_the_first_that_passes_and_refused_ones_do_not_count(
    fleet: Fleet,
) -> None:
    known = Integrations([integration("ci"), integration("cd")], per_minute=2)
    now = fleet.system.now
    await trio.sleep(17)
    assert known.admit("ci", now()) == 0
    await trio.sleep(30)
    assert known.admit("ci", now()) == 0
    for _ in range(5):
        assert known.admit("ci", now()) == 30
    assert known.admit("cd", now()) == 0
    await trio.sleep(29.5)
    assert known.admit("ci", now()) == 0.5
    await trio.sleep(0.5)
    assert [known.admit("ci", now()) for _ in range(3)] == [0, 0, 60]
    await trio.sleep(1_000)
    assert known.admit("ci", now()) == 0


def test_a_window_outlives_other_settings_but_not_the_integration() -> None:
    known = Integrations([integration("ci")], per_minute=1)
    assert known.admit("ci", 100.0) == 0
    known.replace([integration("ci", targets=["a1"]), integration("cd")])
    assert known.admit("ci", 101.0) == 59
    known.replace([])
    known.replace([integration("ci")])
    assert known.admit("ci", 102.0) == 0


@pytest.mark.spec("INT-2")
def test_what_is_listed_has_no_secret() -> None:
    [listed] = list_integrations(Integrations([integration("ci", callback_allow=["127.0.0.1"])]))
    assert SECRET not in repr(integration("ci"))
    assert wire.to_json(listed).keys() == {"name", "targets", "channels", "scopes", "callbackUrl"}


@pytest.mark.spec("M-110", "M-116", "INT-5", "INT-6")
@pytest.mark.parametrize(
    ("targets", "channels", "members", "allowed"),
    [
        ([], [], {}, True),
        (["a1"], [], {}, True),
        (["a2"], [], {}, False),
        (["A1"], [], {}, False),
        ([], ["c"], {}, True),
        ([], ["c"], {"channel": "c"}, True),
        ([], ["c"], {"channel": "d"}, False),
        (["a1"], ["c"], {"channel": "d"}, False),
        (["a2"], ["c"], {"channel": "c"}, False),
        ([], ["d"], {"target": "channel:c"}, False),
        (["a1"], [], {"target": "channel:c"}, False),
        ([], ["d"], {"target": "channel:c", "channel": "d"}, None),
        (["channel:c"], ["c"], {"target": "channel:c"}, None),
    ],
)
async def test_who_may_report_what(
    fleet: Fleet, targets: list[str], channels: list[str], members: Any, allowed: bool | None
) -> None:
    """None: it may, and then there is no such channel."""
    caller = integration("ci", targets=targets, channels=channels)
    expected = {False: Forbidden, None: Invalid}
    if allowed:
        made = await ingest(fleet, caller, event(**members))
        assert made.task.source == "ci"
        return
    with pytest.raises(expected[allowed]):
        await ingest(fleet, caller, event(**members))
    assert tasks.list_tasks(fleet.store) == []


@pytest.mark.spec("M-111", "M-I37")
@pytest.mark.parametrize("said", ["other", "root", "", None, 7, ["ci"]])
async def test_no_word_of_the_body_changes_the_source(fleet: Fleet, log: Log, said: Any) -> None:
    await fleet.agents["a1"].ask(agents.Register(wire.RegisterAgent(id="a1")))
    made = await ingest(fleet, integration("ci"), event(source=said, metadata={"source": said}))
    assert made.task.source == "ci"
    assert [told["data"]["source"] for told in log.events("task.created")] == ["ci"]
    assert (await ingest(fleet, None, event(source=said))).task.source == "root"


@pytest.mark.spec("M-113")
@pytest.mark.parametrize("target", ["channel:", "channel:   ", "channel:\t"])
async def test_a_channel_needs_a_name(fleet: Fleet, target: str) -> None:
    asked = wire.IntegrationEvent(title="t", target=target)
    with pytest.raises(Invalid, match="must be followed by the id of a channel"):
        await ingest(fleet, integration("ci", targets=["a1"]), asked)


@pytest.mark.parametrize(
    ("members", "identity"),
    [
        ({}, None),
        ({"key": "a", "externalId": "b", "idempotencyKey": "c"}, "a"),
        ({"externalId": "b", "idempotencyKey": "c"}, "b"),
        ({"key": "  ", "idempotencyKey": "c"}, "c"),
    ],
)
def test_a_report_is_known_by_its_key(members: Any, identity: str | None) -> None:
    assert event(**members).identity == identity
