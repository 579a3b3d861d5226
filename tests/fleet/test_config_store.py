"""Configured values: versions, deletions, history, and what the namespaces that relay reads take."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log
from hypothesis import given, settings, strategies as st

from relay import wire
from relay.actors import System, open_system, virtual_wall
from relay.fleet import Fleet, NotFound, config, open_fleet
from relay.store import Store, open_store


async def put(fleet: Fleet, value: Any, key: str = "k", by: str | None = None) -> wire.ConfigEntry:
    return await config.set_value(fleet, "ns", key, value, by)


async def drop(fleet: Fleet, key: str = "k") -> bool:
    try:
        await config.delete_value(fleet, "ns", key, None)
    except NotFound:
        return False
    return True


def versions(fleet: Fleet, key: str = "k") -> list[int]:
    return [entry.version for entry in config.history(fleet.store, "ns", key, 500)]


@pytest.mark.spec("CFG-1", "CFG-6", "CFG-7", "CFG-11", "M-180")
async def test_every_write_is_a_version_and_is_announced_without_its_value(fleet: Fleet, log: Log) -> None:
    first = await put(fleet, None, by="me")
    second = await put(fleet, None)
    assert (first.version, first.value, first.updated_by, second.version) == (1, None, "me", 2)
    assert config.find_entry(fleet.store, "ns", "k") == second
    assert log.events("config.changed") == [
        {
            "type": "config.changed",
            "source": "server",
            "subject": "ns:k",
            "data": {"namespace": "ns", "key": "k", "version": version},
        }
        for version in (1, 2)
    ]


@pytest.mark.spec("CFG-8", "CFG-9", "CFG-10", "M-182", "M-183", "M-I22")
async def test_a_deletion_is_a_version_that_later_ones_follow(fleet: Fleet) -> None:
    await put(fleet, "one")
    await put(fleet, "two")
    assert await drop(fleet)
    assert config.find_entry(fleet.store, "ns", "k") is None
    assert not await drop(fleet)
    before = config.history(fleet.store, "ns", "k")
    assert (await put(fleet, "three")).version == 4
    after = config.history(fleet.store, "ns", "k")
    assert after[1:] == before
    assert [(entry.version, entry.value, entry.deleted) for entry in after] == [
        (4, "three", None),
        (3, None, True),
        (2, "two", None),
        (1, "one", None),
    ]


@pytest.mark.spec("CFG-3", "CFG-10", "O-45")
async def test_a_namespace_lists_what_is_live_by_key(fleet: Fleet) -> None:
    for key in ("b", "a", "c"):
        await put(fleet, key, key)
    await drop(fleet, "c")
    assert [entry.key for entry in config.list_entries(fleet.store, "ns")] == ["a", "b"]
    assert config.list_entries(fleet.store, "nowhere") == []
    assert config.history(fleet.store, "ns", "nothing") == []


@pytest.mark.spec("CFG-12", "M-185", "M-I21", "W-I47")
async def test_writes_at_once_are_versions_one_after_the_other(fleet: Fleet, log: Log) -> None:
    given: list[int] = []

    async def write(value: int) -> None:
        given.append((await put(fleet, value)).version)

    async with trio.open_nursery() as nursery:
        for value in range(20):
            nursery.start_soon(write, value)
    assert sorted(given) == list(range(1, 21))
    assert [event["data"]["version"] for event in log.events("config.changed")] == list(range(1, 21))


@pytest.mark.spec("M-I21", "M-I22")
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "drop"]), st.sampled_from(["a", "b"])), max_size=12))
def test_any_mixture_of_writes_and_deletions_leaves_versions_without_gap(
    deeds: list[tuple[str, str]],
) -> None:
    async def main() -> None:
        async with (
            open_system(wall=virtual_wall(), seed=1) as system,
            open_store(None, system) as store,
            open_fleet(system, store) as fleet,
        ):
            done = {"a": 0, "b": 0}
            live: dict[str, int | None] = {"a": None, "b": None}

            async def do(number: int, deed: str, key: str) -> None:
                if deed == "put":
                    entry = await put(fleet, number, key)
                    done[key] += 1
                    assert entry.version == done[key]
                    live[key] = number
                elif await drop(fleet, key):
                    done[key] += 1
                    live[key] = None

            for number, (deed, key) in enumerate(deeds):
                await do(number, deed, key)
            for key, count in done.items():
                assert versions(fleet, key) == list(range(count, 0, -1))
                entry = config.find_entry(store, "ns", key)
                assert (entry.value if entry else None) == live[key]
            told = [event["subject"] for event in Log(store).events("config.changed")]
            assert sorted(told) == sorted(f"ns:{key}" for key, count in done.items() for _ in range(count))

    trio.run(main)


@pytest.mark.spec("CFG-9", "M-I21")
async def test_versions_go_on_after_a_restart_of_the_server(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await put(fleet, {"a": [1, None, "ü"]})
    async with open_fleet(system, store) as fleet:
        assert config.get_entry(store, "ns", "k").value == {"a": [1, None, "ü"]}
        assert await drop(fleet)
        assert versions(fleet) == [2, 1]


@pytest.mark.spec("CFG-5", "M-187", "W-114", "O-46")
@pytest.mark.parametrize(
    ("namespace", "key", "value", "wrong"),
    [
        ("spawn-policy", "P", [], "body must be an object"),
        ("spawn-policy", "P", {"provider": "claude"}, "orchestratorId: is required"),
        (
            "spawn-policy",
            "P",
            {"orchestratorId": "h", "provider": "gemini"},
            "provider: expected one of claude",
        ),
        (
            "spawn-policy",
            "P",
            {"orchestratorId": "h", "provider": "claude", "name": "Q"},
            "name: expected 'P', which is what it is stored under",
        ),
        (
            "spawn-policy",
            "P",
            {"orchestratorId": "h", "provider": "claude", "restart": {"mode": "sometimes"}},
            "restart.mode: expected one of never, on-failure, always",
        ),
        (
            "spawn-policy",
            "P",
            {"orchestratorId": "h", "provider": "claude", "prompt": "x" * 4001},
            "prompt: longer than 4000 characters",
        ),
        (
            "spawn-policy",
            "P" * 121,
            {"orchestratorId": "h", "provider": "claude"},
            "key: the name of a policy has at most 120 characters",
        ),
        ("steward", "global", {"enabled": "yes"}, "enabled: expected true or false"),
        ("steward", "global", {"enbled": True}, "enbled: unknown; expected one of enabled, autoMerge"),
        ("steward", "other", {}, "key: steward has one entry, 'global'"),
        ("agent-profile", "p", {"skills": "all"}, "skills: expected a list"),
        ("agent-profile", "p", {"env": {"A": 1}}, "env: the values of A are no texts"),
    ],
)
async def test_a_value_that_does_not_fit_is_refused_with_its_place_and_not_stored(
    fleet: Fleet, log: Log, namespace: str, key: str, value: Any, wrong: str
) -> None:
    with pytest.raises(wire.Invalid) as refused:
        await config.set_value(fleet, namespace, key, value, None)
    assert wrong in str(refused.value)
    assert config.history(fleet.store, namespace, key) == []
    assert log.events("config.changed") == []


@pytest.mark.spec("POL-4", "M-186", "W-113", "H-17")
@pytest.mark.parametrize(
    ("body", "value", "by"),
    [
        ({"value": {"a": 1}, "updatedBy": "me"}, {"a": 1}, "me"),
        ({"a": 1, "updatedBy": "me"}, {"a": 1}, "me"),
        ({"a": 1}, {"a": 1}, None),
        ({"value": None}, None, None),
        ([1], [1], None),
    ],
)
def test_a_value_comes_wrapped_or_bare(body: Any, value: Any, by: str | None) -> None:
    given = config.wrapped(body)
    assert (given.value, given.updated_by) == (value, by)


@pytest.mark.spec("W-112", "W-115")
async def test_the_steward_has_a_configuration_before_anybody_wrote_one(fleet: Fleet) -> None:
    usual = config.steward_entry(fleet.store)
    assert (usual.version, usual.value["enabled"], usual.value["strategy"]) == (0, False, "auto")
    stored = await config.set_value(fleet, "steward", "global", {"enabled": True}, None)
    assert config.steward_entry(fleet.store) == stored
    assert stored.value == {"enabled": True}
