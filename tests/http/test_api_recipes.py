"""`/api/recipes` on a whole server."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

SOLO = """
name = "solo"
description = "One agent, one task."
[[roles]]
role = "worker"
provider = "claude"
[[steps]]
id = "work"
to = "worker"
body = "do it"
"""


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """As everywhere, with a host."""
    await api.post("/api/orchestrators", json={"id": "h1", "hostname": "h1", "baseDir": "/srv"})
    return api


@pytest.fixture
def folder(server: Any) -> Path:
    """Where the user's recipes are."""
    path: Path = server.home / "recipes"
    path.mkdir()
    return path


async def start(api: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await api.post("/api/recipes/start", json={"name": "debug", **body})
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def instance(api: httpx2.AsyncClient, key: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/api/recipes/instances/{key}")).json()
    return found


@pytest.mark.spec("M-210", "REC-1", "REC-3", "O-38")
async def test_the_bundled_recipes_are_listed(api: httpx2.AsyncClient) -> None:
    found = {each["name"]: each for each in (await api.get("/api/recipes")).json()}
    assert list(found) == ["code-review", "debug", "feature", "refactor", "test"]
    for name, each in found.items():
        assert each["source"] == "bundled"
        assert Path(each["path"]).stem == name
        assert each["recipe"]["name"] == name
        assert len(each["recipe"]["roles"]) >= 2
        assert each["recipe"]["steps"]
    assert (await api.get("/api/recipes/debug")).json() == found["debug"]


@pytest.mark.spec("REC-3")
async def test_recipes_of_the_user_go_first(api: httpx2.AsyncClient, folder: Path) -> None:
    (folder / "solo.toml").write_text(SOLO)
    (folder / "mine.yaml").write_text("name: debug\ndescription: mine\nroles: [{role: r, provider: codex}]\n")
    found = {each["name"]: each for each in (await api.get("/api/recipes")).json()}
    assert found["solo"]["path"] == str(folder / "solo.toml")
    assert (found["debug"]["source"], found["debug"]["recipe"]["description"]) == ("user", "mine")
    made = await start(api)
    assert [step["id"] for step in made["instance"]["steps"]] == ["spawn:r"]
    (folder / "mine.yaml").unlink()
    assert (await api.get("/api/recipes/debug")).json()["source"] == "bundled"


@pytest.mark.spec("REC-3", "REC-5")
async def test_a_broken_recipe_is_neither_listed_nor_started(api: httpx2.AsyncClient, folder: Path) -> None:
    (folder / "debug.toml").write_text(SOLO.replace('"solo"', '"debug"').replace("claude", "cloud"))
    assert "debug" not in [each["name"] for each in (await api.get("/api/recipes")).json()]
    for answer, status in (
        (await api.get("/api/recipes/debug"), 404),
        (await api.post("/api/recipes/start", json={"name": "debug"}), 400),
    ):
        assert answer.status_code == status
        assert f"{folder}/debug.toml: roles[0].provider: expected one of claude" in answer.json()["error"]
    assert (await api.get("/api/recipes/instances")).json() == []


@pytest.mark.spec("RTE-1", "RTE-2", "M-216")
async def test_literal_paths_go_before_names(api: httpx2.AsyncClient) -> None:
    assert (await api.get("/api/recipes/instances")).json() == []
    assert (await api.get("/api/recipes/start")).status_code == 404
    assert (await api.get("/api/recipes/zz")).status_code == 404
    assert (await api.get("/api/recipes/instances/zz")).status_code == 404
    assert (await api.get("/api/recipes/instances", params={"status": "bogus"})).json() == []


@pytest.mark.spec("M-211", "REC-4", "REC-6", "REC-7")
@pytest.mark.parametrize("name", ["code-review", "debug", "feature", "refactor", "test"])
async def test_every_bundled_recipe_can_be_started_by_its_name(api: httpx2.AsyncClient, name: str) -> None:
    answer = await api.post("/api/recipes/start", json={"recipe": name})
    assert answer.status_code == 202
    made = answer.json()
    run = made["instance"]
    assert (run["recipeName"], run["status"], run["startedBy"]) == (name, "starting", "api")
    pending = (await api.get("/api/commands", params={"status": "pending"})).json()
    assert pending == made["commands"]
    for command in made["commands"]:
        assert "{{" not in command["params"]["prompt"]
        assert len(command["params"]["prompt"]) > 200
    assert all("{{" not in step.get("body", "") for step in run["steps"])
    assert (await instance(api, run["id"])) == run
    record = (await api.get("/api/activity", params={"view": "activity"})).json()[0]
    assert record["clientId"] == f"server-recipe-start-{run['id']}"
    assert record["metadata"]["commands"] == [command["id"] for command in made["commands"]]
    assert record["metadata"]["authSub"] == "root"
    longest = await api.post("/api/recipes/start", json={"name": name, "input": "x" * 2_000})
    assert longest.status_code == 202


@pytest.mark.spec("M-212", "REC-4", "REC-5")
async def test_what_is_no_start(api: httpx2.AsyncClient) -> None:
    for body in (
        [],
        7,
        {},
        {"name": "nope"},
        {"name": "", "recipe": "debug"},
        {"name": 7, "recipe": "debug"},
        {"recipe": "x" * 121},
        {"name": "nope", "recipe": "debug"},
        {"name": "debug", "cwd": "/tmp"},
        {"name": "debug", "cwd": "x" * 501},
        {"name": "debug", "orchestratorId": "h2"},
        {"name": "debug", "input": "x" * 2_001},
        {"name": "debug", "startedBy": "x" * 121},
    ):
        answer = await api.post("/api/recipes/start", json=body)
        assert answer.status_code == 400, body
        assert answer.json()["error"]
    assert (await api.post("/api/recipes/start", json={"name": None, "recipe": "debug"})).status_code == 202
    await api.delete("/api/orchestrators/h1")
    answer = await api.post("/api/recipes/start", json={"name": "debug"})
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "there is no host; start an orchestrator"},
    )
    assert len((await api.get("/api/recipes/instances")).json()) == 1


@pytest.mark.spec("M-214", "M-I17", "REC-12")
@pytest.mark.parametrize("how", ["patch", "cancel"])
async def test_a_command_that_ends_badly_fails_the_run(api: httpx2.AsyncClient, how: str) -> None:
    made = await start(api)
    key, command = made["instance"]["id"], made["commands"][0]["id"]
    if how == "patch":
        await api.patch(f"/api/commands/{command}", json={"status": "failed", "error": "no room"})
    else:
        await api.delete(f"/api/commands/{command}")
    run = await instance(api, key)
    assert run["status"] == "failed"
    assert run["error"].startswith("spawn:investigator: ")
    assert [each["id"] for each in (await api.get("/api/recipes/instances?status=failed")).json()] == [key]


@pytest.mark.spec("M-213", "M-215", "REC-10", "REC-11")
async def test_a_run_is_stopped(api: httpx2.AsyncClient) -> None:
    assert (await api.post("/api/recipes/instances/zz/stop")).status_code == 404
    made = await start(api)
    path = f"/api/recipes/instances/{made['instance']['id']}"
    assert (await api.post(f"{path}/stop", json={"stoppedBy": 7})).status_code == 400
    answer = await api.post(f"{path}/stop")
    assert answer.status_code == 202
    stopped = answer.json()
    assert (stopped["instance"]["status"], stopped["instance"]["stoppedBy"]) == ("stopping", "api")
    assert {command["type"] for command in stopped["commands"]} == {"agent.shutdown"}
    assert len(stopped["commands"]) == 2
    assert (await api.post(f"{path}/stop", json={"stoppedBy": "ada"})).status_code == 400
    for command in stopped["commands"]:
        await api.patch(f"/api/commands/{command['id']}", json={"status": "succeeded"})
    for command in made["commands"]:
        assert (await api.get(f"/api/commands/{command['id']}")).json()["status"] == "canceled"
    assert (await api.get(path)).json()["status"] == "stopped"


async def test_a_step_that_is_held_is_decided(api: httpx2.AsyncClient) -> None:
    made = await start(api)
    key, (first, second) = made["instance"]["id"], made["commands"]
    step = f"/api/recipes/instances/{key}/steps/spawn:investigator"
    retry = {"decision": "retry", "decidedBy": "ada"}
    assert (await api.post(step, json=retry)).status_code == 409
    await api.patch(f"/api/commands/{second['id']}", json={"status": "succeeded"})
    for status in ("running", "timed_out"):
        await api.patch(f"/api/commands/{first['id']}", json={"status": status})
    assert (await instance(api, key))["status"] == "held"
    assert (await api.post(step, json={})).status_code == 400
    assert (await api.post(step, json={"decision": "perhaps"})).status_code == 400
    assert (await api.post("/api/recipes/instances/zz/steps/s", json=retry)).status_code == 404
    assert (await api.post(f"/api/recipes/instances/{key}/steps/s", json=retry)).status_code == 404
    answer = await api.post(step.replace(":", "%3A"), json=retry)
    assert (answer.status_code, answer.json()["status"]) == (200, "starting")
    again = answer.json()["steps"][0]
    assert (again["attempt"], again["decidedBy"]) == (2, "ada")
    await api.patch(f"/api/commands/{again['commandId']}", json={"status": "succeeded"})
    assert (await instance(api, key))["status"] == "running"


async def test_scopes(limited_to: Any) -> None:
    async with limited_to("recipe:read") as (root, limited):
        await root.post("/api/orchestrators", json={"id": "h1", "hostname": "h1", "baseDir": "/srv"})
        made = await start(root)
        for path in ("", "/debug", "/instances", f"/instances/{made['instance']['id']}"):
            assert (await limited.get(f"/api/recipes{path}")).status_code == 200
        for path, body in (
            ("/start", {"name": "debug"}),
            (f"/instances/{made['instance']['id']}/stop", {}),
            (f"/instances/{made['instance']['id']}/steps/s", {"decision": "retry"}),
        ):
            assert (await limited.post(f"/api/recipes{path}", json=body)).status_code == 403


async def test_a_limit_counts_only_runs_that_the_token_is_for(api: httpx2.AsyncClient) -> None:
    await api.post("/api/orchestrators", json={"id": "h2", "hostname": "h2", "baseDir": "/srv"})
    own = [(await start(api, orchestratorId="h1"))["instance"]["id"] for _ in range(2)]
    for _ in range(3):
        await start(api, orchestratorId="h2")
    asked = {"role": "operator", "scope": ["recipe:read"], "constraints": {"orchestrators": ["h1"]}}
    token = (await api.post("/api/tokens", json=asked)).json()["token"]
    headers = {"X-Agent-Relay-Token": token}
    for limit, expected in ((1, own[1:]), (2, own[::-1]), (500, own[::-1])):
        found = await api.get("/api/recipes/instances", params={"limit": limit}, headers=headers)
        assert [run["id"] for run in found.json()] == expected
