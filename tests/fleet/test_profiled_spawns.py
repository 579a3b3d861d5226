"""Spawns with profiles and provider configs: who has the last word, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from policykit import add_host, put_policy, state

from relay import wire
from relay.fleet import Conflict, Fleet, Invalid, config, orchestrators, providers
from relay.fleet._outfits import completed, fetched, outfitted
from relay.fleet.policies import Exited, Start

A = wire.ApprovalMode
CLAUDE = wire.Provider.CLAUDE


async def put_profile(fleet: Fleet, name: str = "p", **value: Any) -> None:
    await config.set_value(fleet, "agent-profile", name, value, None)


async def configure(fleet: Fleet, **given: Any) -> None:
    asked = wire.SetProviderConfig(command="claude", **given)
    await fleet.providers["claude"].ask(providers.Replace(asked))


def asked(**given: Any) -> wire.SpawnAgent:
    return wire.SpawnAgent(**{"provider": CLAUDE, "profile": "p", **given})


async def test_what_is_asked_for_wins(fleet: Fleet) -> None:
    await put_profile(
        fleet, model="m", effort="low", prompt="hello", approvalMode="open", tags=["a", "b"], capabilities=["c"],
        providerArgs=["-v"],
    )  # fmt: skip
    found = outfitted(fleet.store, asked())
    assert (found.model, found.effort, found.prompt, found.approval_mode) == ("m", "low", "hello", A.OPEN)
    own = asked(
        model="n", prompt="bye", approval_mode=A.READ_ONLY, tags=["b", "d"], provider_args=["-v", "-q"]
    )
    found = outfitted(fleet.store, own)
    assert (found.model, found.effort, found.prompt, found.approval_mode) == ("n", "low", "bye", A.READ_ONLY)
    assert (found.tags, found.capabilities, found.provider_args) == (
        ["a", "b", "d"],
        ["c"],
        ["-v", "-v", "-q"],
    )


@pytest.mark.parametrize(
    ("usual", "expected"),
    [("open", A.OPEN), ("read-only", A.READ_ONLY), ("whatever", A.GUARDED), (None, A.GUARDED)],
)
async def test_the_usual_approval_mode_of_a_provider_counts_where_nobody_says_any(
    fleet: Fleet, usual: str | None, expected: A
) -> None:
    await put_profile(fleet)
    await configure(fleet, default_approval_mode=usual)
    assert outfitted(fleet.store, asked()).approval_mode is expected
    assert outfitted(fleet.store, asked(profile=None)).approval_mode is expected
    assert outfitted(fleet.store, asked(approval_mode=A.GUARDED)).approval_mode is A.GUARDED
    other = asked(profile=None, provider=wire.Provider.COMMAND)
    assert outfitted(fleet.store, other).approval_mode is A.GUARDED


@pytest.mark.parametrize(
    ("profile", "given", "why"),
    [
        ({"provider": "codex"}, {}, "profile: 'p' is for agents of codex, and this is one of claude"),
        ({}, {"profile": "q"}, "profile: there is none 'q'"),
        (
            {"tags": [f"t{n}" for n in range(60)]},
            {"tags": [f"u{n}" for n in range(60)]},
            "tags: with those of",
        ),
    ],
)
async def test_what_does_not_go_together_is_refused(
    fleet: Fleet, profile: dict[str, Any], given: dict[str, Any], why: str
) -> None:
    await put_profile(fleet, **profile)
    await add_host(fleet)
    with pytest.raises(Invalid, match=why):
        await fleet.orchestrators["h1"].ask(orchestrators.Spawn(asked(**given)))
    assert fleet.store.rows("select * from commands") == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("instructions", {"system": 7}),
        ("instructions", {"append": ["x" * 32_001]}),
        ("instructions", {"append": "one"}),
        ("instructions", {"repoInstructions": "yes"}),
        ("approvalMode", "all"),
        ("effort", 1),
        ("tags", "a"),
        ("env", {"A": 1}),
        ("env", {"": "x"}),
        ("env", {"A=B": "x"}),
        ("env", {"A": "x\0"}),
        ("skills", {}),
    ],
)
async def test_a_profile_that_makes_no_sense_is_refused_with_the_place(
    fleet: Fleet, member: str, value: Any
) -> None:
    with pytest.raises(wire.Invalid, match=member):
        await put_profile(fleet, **{member: value})
    assert config.find_entry(fleet.store, "agent-profile", "p") is None


async def test_the_provider_of_a_profile_is_that_of_a_spawn_without_one(fleet: Fleet) -> None:
    await put_profile(fleet, "codes", provider="codex")
    await put_profile(fleet, "any", provider="any")
    known = completed(fleet.store, {"profile": "codes"})
    assert wire.decode(wire.SpawnAgent, known).provider is wire.Provider.CODEX
    for body in ({"profile": "any"}, {"profile": "gone"}, {"profile": 7}, {}, [], None):
        assert completed(fleet.store, body) == body
    assert completed(fleet.store, {"profile": "codes", "provider": "claude"})["provider"] == "claude"


async def test_a_policy_whose_profile_is_not_there_starts_nothing_and_says_so(fleet: Fleet) -> None:
    await add_host(fleet)
    await put_policy(fleet, profile="p")
    with pytest.raises(Conflict, match="there is none 'p'"):
        await fleet.policies["P"].ask(Start())
    assert fleet.store.rows("select * from commands") == []
    await put_profile(fleet, model="m")
    command = await fleet.policies["P"].ask(Start())
    assert (command.params["model"], command.params["profile"]) == ("m", "p")


@pytest.mark.spec("POL-21")
async def test_an_agent_that_failed_waits_for_its_profile(fleet: Fleet) -> None:
    await add_host(fleet)
    await put_profile(fleet, model="m")
    await put_policy(fleet, profile="p", restart={"mode": "always", "delayMs": 1_000})
    first = await fleet.policies["P"].ask(Start())
    await config.delete_value(fleet, "agent-profile", "p", None)
    assert first.correlation_id is not None
    await fleet.policies["P"].ask(Exited(first.correlation_id, "it fell"))
    await fleet.system.idle()
    await trio.sleep(5)
    assert state(fleet).status == "failed"
    assert "there is none 'p'" in (state(fleet).last_error or "")
    await put_profile(fleet, model="n")
    await trio.sleep(15)
    assert state(fleet).status == "starting"
    ((record,),) = fleet.store.rows("select record from commands order by seq desc limit 1")
    assert wire.decode(wire.Command, record).params["model"] == "n"


async def test_what_a_host_is_given_is_the_provider_s_with_the_spawn_s_own(fleet: Fleet) -> None:
    assert fetched(fleet.store, {"provider": "claude"}) == {"provider_config": None, "agent_profile": None}
    await configure(fleet, default_args=["-a"], env={"K": "1", "L": "2"})
    own = {"defaultArgs": None, "env": {"L": "3"}, "headless": {"shutdownTimeoutMs": 5}, "protocol": "jsonl"}
    given = fetched(fleet.store, {"provider": "claude", "providerConfig": own})["provider_config"]
    assert (given["command"], given["defaultArgs"], given["protocol"]) == ("claude", ["-a"], "jsonl")
    assert given["env"] == {"K": "1", "L": "3"}
    assert given["headless"] == {"tmuxPrefix": "ar", "shutdownTimeoutMs": 5}
    assert fetched(fleet.store, {"provider": "command"})["provider_config"] is None
    with pytest.raises(Conflict, match="any more"):
        fetched(fleet.store, {"profile": "gone"})
