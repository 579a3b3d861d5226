"""`/api/commands` on a whole server."""

from typing import Any

import httpx2
import pytest
import trio
from tokenkit import as_, make

NEW = {"type": "t", "source": "s", "target": "a1"}


async def create(api: httpx2.AsyncClient, **members: Any) -> dict[str, Any]:
    answer = await api.post("/api/commands", json={**NEW, **members})
    assert answer.status_code == 201
    command: dict[str, Any] = answer.json()
    return command


@pytest.mark.spec("M-130", "CMD-1", "CMD-5")
async def test_a_command_is_made_pending(api: httpx2.AsyncClient) -> None:
    command = await create(api)
    assert (command["status"], command["params"]) == ("pending", {})
    assert (await api.get(f"/api/commands/{command['id']}")).json() == command
    assert (await api.get("/api/commands/zz")).status_code == 404


@pytest.mark.spec("M-131", "M-132", "M-133")
@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"type": None}, 400),
        ({"type": "x" * 120}, 201),
        ({"type": "x" * 121}, 400),
        ({"target": "x" * 241}, 400),
        ({"params": []}, 400),
        ({"params": {"a": "x" * (65_536 - 8)}}, 201),
        ({"params": {"a": "x" * (65_537 - 8)}}, 400),
        ({"ttlMs": 1}, 201),
        ({"ttlMs": 0}, 400),
        ({"ttlMs": -5}, 400),
        ({"ttlMs": 1.5}, 400),
        ({"ttlMs": "10"}, 400),
        ({"ttlMs": None}, 400),
        ({"executionMs": 1}, 201),
        ({"executionMs": 0}, 400),
        ({"executionMs": "10"}, 400),
    ],
)
async def test_the_members_of_a_new_command(api: httpx2.AsyncClient, members: Any, status: int) -> None:
    assert (await api.post("/api/commands", json={**NEW, **members})).status_code == status


@pytest.mark.spec("M-134", "M-138", "CMD-6", "CMD-11")
async def test_a_command_goes_forward_only(api: httpx2.AsyncClient) -> None:
    path = f"/api/commands/{(await create(api))['id']}"
    for patch in ({"status": "accepted"}, {"status": "running"}, {"status": "succeeded", "result": {"a": 1}}):
        answer = await api.patch(path, json=patch)
        assert answer.status_code == 200
        assert answer.json()["status"] == patch["status"]
    assert answer.json()["result"] == {"a": 1}
    assert (await api.patch(path, json={"status": "failed"})).status_code == 409
    assert (await api.patch(path, json={"status": "succeeded"})).status_code == 200
    assert (await api.get(path)).json()["status"] == "succeeded"


@pytest.mark.spec("M-135", "M-136")
async def test_patches_that_do_not_fit_are_refused(api: httpx2.AsyncClient) -> None:
    path = f"/api/commands/{(await create(api))['id']}"
    assert (await api.patch(path, json={"status": "done"})).status_code == 400
    assert (await api.patch(path, json={"error": "x" * 4_001})).status_code == 400
    assert (await api.patch("/api/commands/zz", json={"status": "running"})).status_code == 404
    assert (await api.patch("/api/commands/zz", content=b"3")).status_code == 400


@pytest.mark.spec("M-137", "M-138", "CMD-9")
async def test_a_command_is_canceled_once(api: httpx2.AsyncClient) -> None:
    path = f"/api/commands/{(await create(api))['id']}"
    assert (await api.delete(path)).json() == {"ok": True}
    assert (await api.get(path)).json()["status"] == "canceled"
    assert (await api.delete(path)).status_code == 404
    assert (await api.delete("/api/commands/zz")).status_code == 404


@pytest.mark.spec("CMD-14", "H-18")
async def test_one_of_many_may_execute_a_command(api: httpx2.AsyncClient) -> None:
    path = f"/api/commands/{(await create(api))['id']}/claim"
    told: list[bool] = []

    async def claim() -> None:
        told.append((await api.post(path)).json()["claimed"])

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(claim)
    assert sorted(told) == [False] * 7 + [True]
    assert (await api.post("/api/commands/zz/claim")).status_code == 404


@pytest.mark.spec("CMD-14")
async def test_a_claim_gives_the_token_that_reports_must_carry(api: httpx2.AsyncClient) -> None:
    path = f"/api/commands/{(await create(api))['id']}"
    for token in (1, 2):
        answer = await api.post(f"{path}/claim", json={"claimant": "h1/a"})
        assert answer.json() == {"claimed": True, "token": token}
    assert (await api.post(f"{path}/claim", json={"claimant": "h1/b"})).json() == {"claimed": False}
    assert (await api.post(f"{path}/claim", json={"claimant": 7})).status_code == 400
    late = await api.patch(path, json={"status": "succeeded", "token": 1})
    assert (late.status_code, (await api.get(path)).json()["status"]) == (409, "accepted")
    assert (await api.patch(path, json={"status": "succeeded", "token": 2})).json()["claimToken"] == 2


@pytest.mark.spec("M-140", "M-141", "CMD-4", "O-24")
async def test_commands_are_listed_by_all_filters_together(api: httpx2.AsyncClient) -> None:
    made = [await create(api, target=target) for target in ("x", "y", "x")]
    await api.patch(f"/api/commands/{made[0]['id']}", json={"status": "running"})

    async def listed(**query: Any) -> list[str]:
        return [command["id"] for command in (await api.get("/api/commands", params=query)).json()]

    assert await listed() == [command["id"] for command in made]
    assert await listed(target="x", status="pending", limit=50) == [made[2]["id"]]
    assert await listed(status="") == await listed()
    assert await listed(since=made[1]["createdAt"]) == [made[1]["id"], made[2]["id"]]
    assert await listed(type="other") == []
    for query in ({"status": "open"}, {"since": "-1"}, {"since": "x"}):
        assert (await api.get("/api/commands", params=query)).status_code == 400


@pytest.mark.spec("CMD-11", "CMD-12", "CMD-14")
async def test_a_late_report_is_answered_with_how_the_command_has_ended(api: httpx2.AsyncClient) -> None:
    made = await create(api, executionMs=600_000)
    assert "expiresAt" not in made
    path = f"/api/commands/{made['id']}"
    begun = (await api.post(f"{path}/claim", json={"claimant": "h1/a"})).json()
    assert (await api.get(path)).json()["expiresAt"] >= made["createdAt"] + 600_000
    assert (await api.delete(path)).json() == {"ok": True}
    late = await api.patch(path, json={"status": "succeeded", "token": begun["token"]})
    assert late.status_code == 409
    assert late.json()["command"] == (await api.get(path)).json()
    assert (late.json()["command"]["status"], late.json()["command"]["outcomeUnknown"]) == ("canceled", True)


async def test_a_life_that_is_longer_than_time_never_ends(api: httpx2.AsyncClient) -> None:
    """What cannot be written as an instant must not be stored as one: nobody could list commands any more."""
    forever = 2**53 - 1
    made = await create(api, ttlMs=forever, executionMs=forever)
    assert (made["ttlMs"], "expiresAt" in made) == (forever, False)
    path = f"/api/commands/{made['id']}"
    assert "expiresAt" not in (await api.patch(path, json={"status": "running"})).json()
    assert (await api.get("/api/commands")).json() == [(await api.get(path)).json()]
    assert (await api.post("/api/system/reap")).json()["expiredCommandIds"] == []


@pytest.mark.spec("CMD-4")
async def test_a_list_goes_on_after_its_last_command(api: httpx2.AsyncClient) -> None:
    made = [(await create(api))["id"] for _ in range(3)]
    answer = await api.get("/api/commands", params={"after": made[0], "limit": 1})
    assert [command["id"] for command in answer.json()] == [made[1]]
    answer = await api.get("/api/commands", params={"after": "cmd_x"})
    assert (answer.status_code, answer.json()) == (400, {"error": "after: there is no command cmd_x"})


@pytest.mark.spec("W-I11", "W-I17", "CMD-22")
async def test_who_is_for_some_only_makes_no_commands_whose_end_moves_what_is_not_its_own(
    api: httpx2.AsyncClient,
) -> None:
    """An agent settles its own commands: it must not make one that says of somebody's workspace that it is gone."""
    card = {"id": "h1", "hostname": "h", "baseDir": "/srv"}
    place = {
        "id": "w2",
        "mode": "isolated",
        "repoRoot": "/srv/r",
        "worktreePath": "/srv/w",
        "sourceCwd": "/srv/r",
    }
    await api.post("/api/orchestrators", json=card)
    await api.patch(
        "/api/orchestrators/h1/agents",
        json={"agents": [{"agentId": "a2", "provider": "claude", "workspace": place}]},
    )
    await api.post("/api/agents", json={"id": "a1"})
    limits = ({"agents": ["a1"]}, {"orchestrators": ["h1"]})
    for target, limit in zip(("a1", "orchestrator-h1"), limits, strict=True):
        token = (await make(api, scope=["*"], constraints=limit))["token"]
        for asked in (
            {"type": "workspace.reconcile", "correlationId": "w2"},
            {"type": "workspace.merge", "correlationId": "w2"},
            {"type": "agent.spawn", "params": {"orchestratorId": "h1"}},
            {"type": "orchestrator.upgrade"},
            {"type": "agent.shutdown", "params": {"policyName": "p", "policyEpoch": 1}},
            {"type": "agent.shutdown", "params": {"recipeInstanceId": "rec_1"}},
        ):
            body = {**NEW, "target": target, **asked}
            answer = await as_(api, token, "POST", "/api/commands", body)
            assert (answer.status_code, asked["type"] in answer.json()["error"]) == (403, True), asked
        allowed = await as_(api, token, "POST", "/api/commands", {**NEW, "target": target})
        assert allowed.status_code == 201
    assert [each["type"] for each in (await api.get("/api/commands")).json()] == ["t", "t"]
