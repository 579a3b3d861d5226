"""The runner's token: whose it is, when it is renewed, and what happens when relay does not know it any more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runnerkit import Host, Relay, until

from relay.runner.credential import Credential, delay


@pytest.mark.spec("R-78", "1.21")
@pytest.mark.parametrize(
    ("left", "chance", "expected"),
    [
        (86_400, 0.0, 82_800),
        (86_400, 0.999999, 82_771),
        (3_600, 0.0, 2_880),
        (120, 0.0, 60),
        (30, 0.0, 1),
        (0, 0.0, None),
        (-5, 0.0, None),
        (float("inf"), 0.0, None),
    ],
)
def test_a_token_is_renewed_in_time(left: float, chance: float, expected: float | None) -> None:
    assert delay(left, chance) == expected


@pytest.mark.parametrize("token", [None, "opaque", "a.b.c", "..", "a.e30.c", "a.bnVsbA.c"])
def test_what_is_no_token_of_relays_making_says_nothing_of_itself(token: str | None) -> None:
    assert not Credential.of(token).is_own


async def facts(relay: Relay) -> dict[str, Any]:
    return dict((await relay.http.get("/api/agents/a1")).json()["meta"].get("auth") or {})


async def tokens(relay: Relay) -> list[dict[str, Any]]:
    """Those of the runner, newest first."""
    answer = await relay.http.get("/api/tokens", params={"sub": "runner:a1"})
    return list(answer.json())


@pytest.mark.spec("R-9", "1.6.1")
async def test_a_runner_with_the_root_token_gets_one_of_its_agents_own(host: Host, relay: Relay) -> None:
    async with host.running():
        await until(lambda: bool(host.noted("started")))
        (record,) = await tokens(relay)
        assert (record["profileId"], record["constraints"]["agents"]) == ("provider-interactive", ["a1"])
        env = host.noted("started")[0]["env"]
        assert env["AGENT_RELAY_TOKEN"] != host.token
        assert env["AGENT_RELAY_TOKEN_JTI"] == record["jti"]
        assert Path(env["AGENT_RELAY_TOKEN_FILE"]).read_text().strip() == env["AGENT_RELAY_TOKEN"]
        assert Path(env["AGENT_RELAY_TOKEN_FILE"]).stat().st_mode & 0o077 == 0
        known = await facts(relay)
        assert known == {
            "profileId": "provider-interactive",
            "jti": record["jti"],
            "expiresAt": record["expiresAt"],
            "rootTokenFallback": False,
        }


@pytest.mark.spec("R-76", "R-80")
async def test_a_runner_whose_token_was_revoked_gets_another(host: Host, relay: Relay) -> None:
    async with host.running(liveness=0.1):
        await until(lambda: bool(host.noted("started")))
        (first,) = await tokens(relay)
        await relay.http.post(f"/api/tokens/{first['jti']}/revoke")

        async def another() -> bool:
            return (await tokens(relay))[0]["jti"] != first["jti"]

        await until(another)
        sent = await relay.http.post("/api/messages", json={"from": "user", "to": "a1", "body": "hello"})
        await until(lambda: sent.json()["id"] in host.taken())
        text = Path(host.noted("started")[0]["env"]["AGENT_RELAY_TOKEN_FILE"]).read_text().strip()
        headers = {"X-Agent-Relay-Token": text}
        assert (await relay.http.get("/api/agents/a1", headers=headers)).status_code == 200


@pytest.mark.spec("R-80", "BUS-7")
async def test_a_token_that_is_due_is_renewed_and_used(host: Host, relay: Relay) -> None:
    asked = {
        "role": "provider",
        "profileId": "provider-agent",
        "sub": "runner:a1",
        "constraints": {"agents": ["a1"]},
        "ttlSeconds": 60,
    }
    given = (await relay.http.post("/api/tokens", json=asked)).json()
    async with host.running(token=given["token"]):

        async def renewed() -> bool:
            return (await tokens(relay))[0]["createdBy"] == f"renewal:{given['record']['jti']}"

        await until(renewed)
        newest = (await tokens(relay))[0]

        async def told() -> bool:
            return (await facts(relay)).get("jti") == newest["jti"]

        await until(told)
        kept = json.loads((host.state / "token.json").read_text())
        assert kept["first"] == given["record"]["jti"]
        assert kept["token"] != given["token"]
    async with host.running(token=given["token"]):
        await until(lambda: len(host.noted("started")) == 2)
