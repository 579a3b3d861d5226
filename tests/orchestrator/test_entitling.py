"""The daemon's own token, and those of its runners: fetched, replaced, and never the root token."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hosts import Host, until

from relay import wire
from relay.client import Unauthorized, open_client
from relay.orchestrator._http import same_machine
from relay.orchestrator.entitling import Entitling
from relay.orchestrator.link import Link


def environment(pid: int | None) -> dict[str, str]:
    """What the process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


async def newest(host: Host, sub: str) -> wire.Token | None:
    found = await host.relay.tokens(sub=sub, live=True)
    return found[0] if found else None


async def renewed(host: Host, body: Any) -> httpx2.Response:
    """What the host's own API says to a runner."""
    url = host.config.api_url_file.read_text().strip()
    async with httpx2.AsyncClient(trust_env=False) as http:
        return await http.post(f"{url}/api/runtime-tokens/runner-renew", json=body)


@pytest.mark.spec("ORC-3", "W-I39")
async def test_a_runner_has_a_token_of_its_own_and_no_other(host: Host) -> None:
    async with host.running():
        entry = await host.spawned("ada")
        env = environment(entry.pid)
        assert env["AGENT_RELAY_TOKEN"] != host.config.token
        assert host.config.token not in env.values()
        record = await host.relay.one_token(env["AGENT_RELAY_TOKEN_JTI"])
        assert (record.sub, record.profile_id) == ("runner:ada", "provider-agent")
        assert record.constraints == wire.Constraints(agents=["ada"], orchestrators=["h1"], policies=[])
        assert record.created_by == "orchestrator:h1"
        own = await newest(host, "orchestrator:h1")
        assert own is not None
        for command in await host.relay.commands(limit=50):
            assert env["AGENT_RELAY_TOKEN"] not in wire.encode(command).decode()


@pytest.mark.spec("W-116", "W-119")
async def test_a_runner_gets_another_token_through_its_host(host: Host) -> None:
    async with host.running():
        entry = await host.spawned("ada")
        token = environment(entry.pid)["AGENT_RELAY_TOKEN"]
        for body in ({}, {"token": ""}, {"token": 7}, {"token": "x" * 8_193}, []):
            assert (await renewed(host, body)).status_code == 400, body
        refused = await renewed(host, {"token": token + "x"})
        assert (refused.status_code, token in refused.text) == (502, False)
        answer = await renewed(host, {"token": token})
        assert answer.status_code == 201, answer.text
        issued = wire.decode(wire.IssuedToken, answer.content)
        assert (issued.record.sub, issued.record.created_by) == ("runner:ada", "orchestrator-remint:h1")
        again = await renewed(host, {"token": token})
        assert again.status_code == 201, "nobody has had the first answer, says whoever asks again"
        newest = wire.decode(wire.IssuedToken, again.content)
        assert newest.record.family == issued.record.family


@pytest.mark.parametrize(
    ("ours", "peer", "here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", True),
        ("::1", "::1", True),
        ("10.0.0.7", "10.0.0.7", True),
        ("10.0.0.7", "10.0.0.8", False),
        ("10.0.0.7", "127.0.0.1", False),
        ("fe80::7", "fe80::8", False),
    ],
)
def test_who_asks_on_this_machine_is_known_by_both_ends(ours: str, peer: str, here: bool) -> None:
    assert same_machine(ours, peer) is here


@pytest.mark.spec("W-117", "W-I37")
async def test_nobody_vouches_for_whoever_asks_from_elsewhere(host: Host) -> None:
    """A token is minted anew for them as the contract says, and what was replaced is none."""
    async with host.running() as config, open_client(config.relay_url, config.token) as relay:
        token = environment((await host.spawned("ada")).pid)["AGENT_RELAY_TOKEN"]
        entitling = Entitling(config, relay, Link(config, relay))
        issued = await entitling.reminted(token, False)
        assert issued.record.sub == "runner:ada"
        with pytest.raises(Unauthorized):
            await entitling.reminted(token, False)
        assert (await entitling.reminted(token, True)).record.family == issued.record.family


@pytest.mark.spec("R-80", "W-I35")
async def test_a_runner_that_never_had_its_new_token_gets_another(host: Host) -> None:
    """The answer was lost: relay refuses what the runner has, its host is asked, and it goes on."""
    async with host.running():
        entry = await host.spawned("ada")
        lost = await renewed(host, {"token": environment(entry.pid)["AGENT_RELAY_TOKEN"]})

        async def on_its_way() -> bool:
            now = await newest(host, "runner:ada")
            return now is not None and now.jti != lost.json()["record"]["jti"]

        await until(on_its_way)
        now = await newest(host, "runner:ada")
        assert now is not None

        async def told() -> bool:
            card = await host.relay.agent("ada")
            return bool(card.meta.get("auth", {}).get("jti") == now.jti)

        await until(told)


async def test_a_daemon_whose_token_was_revoked_registers_anew(host: Host) -> None:
    async with host.running():
        first = await newest(host, "orchestrator:h1")
        assert first is not None
        await host.relay.revoke_token(first.jti)

        async def another() -> bool:
            now = await newest(host, "orchestrator:h1")
            return now is not None and now.jti != first.jti

        await until(another)
        assert (await host.spawned("ada")).agent_id == "ada"


async def test_a_daemon_with_a_token_for_its_host_alone_does_all_it_has_to(host: Host) -> None:
    asked = wire.NewToken(
        role="orchestrator",
        profile_id="orchestrator",
        sub="orchestrator:h1",
        constraints=wire.Constraints(agents=["orchestrator-h1"], orchestrators=["h1"]),
    )
    own = await host.relay.create_token(asked)
    async with host.running(token=own.token):
        entry = await host.spawned("ada")
        assert environment(entry.pid)["AGENT_RELAY_TOKEN"] != own.token
        given = await newest(host, "orchestrator:h1")
        assert given is not None
        assert given.family == own.record.family
        stopped = await host.done("agent.shutdown", agentId="ada")
        assert stopped.status is wire.CommandStatus.SUCCEEDED


async def test_a_runner_that_was_killed_goes_on_with_the_token_it_had_last(host: Host) -> None:
    async with host.running():
        entry = await host.spawned("ada")
        token = environment(entry.pid)["AGENT_RELAY_TOKEN"]
        before = await newest(host, "runner:ada")
        assert before is not None
        assert entry.pid is not None
        os.kill(entry.pid, signal.SIGKILL)
        again = await host.rostered("ada", after=entry.pid)
        assert environment(again.pid)["AGENT_RELAY_TOKEN"] == token
        after = await newest(host, "runner:ada")
        assert after == before
