"""`/api/automations` and `/api/automation-runs` on a whole server."""

from typing import Any

import httpx2
import pytest

MESSAGE = {"type": "message", "to": "user", "body": "hello"}
TASK = {"type": "task", "target": "user", "title": "sweep"}
SPAWN = {"type": "spawn", "provider": "claude"}


async def make(api: httpx2.AsyncClient, **members: Any) -> httpx2.Response:
    body = {"name": "nightly", "schedule": {"type": "manual"}, "action": MESSAGE, **members}
    return await api.post("/api/automations", json=body)


@pytest.mark.spec("M-220", "AUT-1", "AUT-2", "AUT-3", "O-37")
async def test_an_automation_is_made_read_and_changed(api: httpx2.AsyncClient) -> None:
    answer = await make(
        api, schedule={"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"}
    )
    assert answer.status_code == 201
    made = answer.json()
    path = f"/api/automations/{made['id']}"
    assert made["schedule"] == {"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"}
    assert made["action"] == MESSAGE
    assert (made["enabled"], made["overlap"], made["createdBy"]) == (True, "skip", "root")
    assert made["nextRunAt"] > made["createdAt"]
    assert (await api.get(path)).json() == made
    assert (await api.get("/api/automations")).json() == [made]
    changed = (await api.patch(path, json={"enabled": False, "name": "weekly"})).json()
    assert (changed["name"], changed["enabled"], changed["action"]) == ("weekly", False, MESSAGE)
    assert "nextRunAt" not in changed
    assert (await api.get(path)).json() == changed
    assert (await api.get("/api/automations/none")).status_code == 404
    assert (await api.patch("/api/automations/none", json={"name": "x"})).status_code == 404


@pytest.mark.spec("M-221", "AUT-5")
async def test_it_is_run_now(api: httpx2.AsyncClient) -> None:
    for action, made in ((MESSAGE, {"message"}), (TASK, {"message", "task"})):
        key = (await make(api, action=action)).json()["id"]
        answer = await api.post(f"/api/automations/{key}/run")
        assert answer.status_code == 202
        assert answer.json().keys() == {"automation", "run"} | made
        assert answer.json()["run"]["trigger"] == "manual"
    key = (await make(api, action=SPAWN)).json()["id"]
    refused = await api.post(f"/api/automations/{key}/run")
    assert (refused.status_code, refused.json()["error"]) == (400, "no host is online")
    host = {"id": "h1", "hostname": "h1", "baseDir": "/base"}
    assert (await api.post("/api/orchestrators", json=host)).status_code == 201
    answer = await api.post(f"/api/automations/{key}/run")
    assert (answer.status_code, answer.json()["command"]["type"]) == (202, "agent.spawn")
    assert (await api.post("/api/automations/none/run")).status_code == 404


@pytest.mark.spec("M-222", "AUT-7")
async def test_runs_are_listed(api: httpx2.AsyncClient) -> None:
    first = (await make(api)).json()["id"]
    second = (await make(api, action=TASK, overlap="allow")).json()["id"]
    for key in (first, second, first):
        assert (await api.post(f"/api/automations/{key}/run")).status_code == 202
    assert [(await api.post(f"/api/automations/{first}/run")).status_code for _ in range(100)] == [202] * 100

    async def found(**query: Any) -> list[Any]:
        return (await api.get("/api/automation-runs", params=query)).json()

    assert len(await found()) == 100
    assert [run["automationId"] for run in await found(limit=2)] == [first, first], "the newest first"
    assert [run["status"] for run in await found(automationId=second)] == ["running"]
    assert len(await found(status="running")) == 1
    assert await found(status="bogus") == []
    assert await found(automationId="bogus") == []
    for limit in ("0", "501", "x", "-1"):
        assert (await api.get("/api/automation-runs", params={"limit": limit})).status_code == 400


@pytest.mark.spec("M-223", "AUT-4")
async def test_it_is_removed_once(api: httpx2.AsyncClient) -> None:
    path = f"/api/automations/{(await make(api)).json()['id']}"
    answer = await api.delete(path)
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert (await api.delete(path)).status_code == 404
    assert (await api.get(path)).status_code == 404


async def test_the_coming_times_are_told(api: httpx2.AsyncClient) -> None:
    made = (
        await make(api, schedule={"type": "cron", "expression": "0 2 * * *", "timezone": "Asia/Kolkata"})
    ).json()
    path = f"/api/automations/{made['id']}/next"
    times = (await api.get(path)).json()["times"]
    assert times == [made["nextRunAt"] + number * 86_400_000 for number in range(5)]
    assert len((await api.get(path, params={"limit": 100})).json()["times"]) == 100
    assert (await api.get(path, params={"limit": 101})).status_code == 400
    assert (await api.get("/api/automations/none/next")).status_code == 404


FAR = 9_000_000_000_000_000


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name: is required"),
    ({"name": "x" * 121}, "name: longer than 120 characters"),
    ({"enabled": "yes"}, "enabled: expected true or false"),
    ({"overlap": "queue"}, "overlap: expected one of skip, allow"),
    ({"schedule": None}, "schedule: expected an object"),
    ({"schedule": "daily"}, "schedule: expected an object"),
    ({"schedule": {}}, "schedule: type: expected one of manual, interval, cron, once, event"),
    ({"schedule": {"type": []}}, "schedule: type: expected one of"),
    ({"schedule": {"type": "interval"}}, "schedule.seconds: is required"),
    ({"schedule": {"type": "interval", "seconds": 59}}, "schedule.seconds: expected an integer from 60"),
    ({"schedule": {"type": "interval", "seconds": "60"}}, "schedule.seconds: expected an integer"),
    ({"schedule": {"type": "interval", "seconds": 10**9}}, "schedule.seconds: expected an integer from 60 to"),
    ({"schedule": {"type": "cron"}}, "schedule.expression: is required"),
    ({"schedule": {"type": "cron", "expression": "* * * *"}}, "schedule.expression: expected five fields"),
    ({"schedule": {"type": "cron", "expression": "61 * * * *"}}, "minute: cannot read 61; expected 0-59"),
    ({"schedule": {"type": "cron", "expression": "0 0 30 2 *"}}, "no month of 2 has a day 30"),
    ({"schedule": {"type": "cron", "expression": 7}}, "schedule.expression: expected a text"),
    (
        {"schedule": {"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berln"}},
        "schedule.timezone: there is no time zone 'Europe/Berln'; did you mean Europe/Berlin?",
    ),
    ({"schedule": {"type": "cron", "expression": "0 2 * * *", "timezone": 1}}, "schedule.timezone: expected a text"),
    ({"schedule": {"type": "once"}}, "schedule.at: is required"),
    ({"schedule": {"type": "once", "at": "2030-01-01"}}, "schedule.at: expected milliseconds since 1970"),
    ({"schedule": {"type": "once", "at": 1_000_000_000_000}}, "schedule.at: 2001-09-09 01:46 UTC is over"),
    ({"schedule": {"type": "once", "at": 1_900_000_000}}, "these look like seconds"),
    ({"schedule": {"type": "once", "at": -5}}, "schedule.at: 1969-12-31 23:59 UTC is over"),
    ({"schedule": {"type": "once", "at": FAR}}, "is more than fifty years ahead"),
    ({"schedule": {"type": "event"}}, "schedule.event: is required"),
    ({"schedule": {"type": "event", "event": "task created"}}, "schedule.event: expected the type of an event"),
    ({"schedule": {"type": "event", "event": "tsak.created"}}, "there is no event tsak.created; did you mean task.created?"),
    ({"schedule": {"type": "event", "event": "task.creatd"}}, "there is no event task.creatd; did you mean task.created?"),
    ({"schedule": {"type": "event", "event": "moon.rose"}}, "the events are activity.created, agent.removed"),
    ({"schedule": {"type": "event", "event": "task.created", "where": []}}, "schedule.where: expected an object"),
    (
        {"schedule": {"type": "event", "event": "task.created", "where": {"a": {"b": 1}}}},
        "schedule.where: a: expected a text, a number",
    ),
    ({"schedule": {"type": "event", "event": "task.created", "where": {"a..b": 1}}}, "'a..b' is no path of a member"),
    ({"schedule": {"type": "event", "event": "task.created", "where": {"a": []}}}, "schedule.where: a: is equal to none"),
    (
        {"schedule": {"type": "event", "event": "task.created", "where": {str(n): n for n in range(21)}}},
        "at most 20 members",
    ),
    ({"action": None}, "action: expected an object"),
    ({"action": {"type": "shell", "command": "rm"}}, "action: type: expected one of message, task, spawn"),
    ({"action": {"type": "message", "to": "a"}}, "action.body: is required"),
    ({"action": {"type": "message", "body": "a"}}, "action.to: is required"),
    ({"action": {"type": "message", "to": "a", "body": "x" * 100_001}}, "action.body: longer than"),
    ({"action": {"type": "task", "target": "a"}}, "action.title: is required"),
    ({"action": {**TASK, "severity": "bad"}}, "action.severity: expected one of"),
    ({"action": {"type": "spawn"}}, "action.provider: is required"),
    ({"action": {**SPAWN, "approvalMode": "yolo"}}, "action.approvalMode: expected one of"),
    ({"action": {**SPAWN, "cwd": "src"}}, "action.cwd: expected an absolute path"),
    ({"action": {**SPAWN, "env": {"A": 1}}}, "action.env: the values of A are no texts"),
    ({"action": {**SPAWN, "env": {"A=B": "1"}}}, "action.env: 'A=B' is no name of a variable"),
    ({"action": {**SPAWN, "env": {"A": "a\0b"}}}, "action.env: 'A' is no name of a variable, or its value has a NUL"),
    ({"action": {**SPAWN, "prompt": "x" * 4_001}}, "action.prompt: longer than"),
]  # fmt: skip


@pytest.mark.spec("M-220", "AUT-1", "AUT-3", "M-I29", "O-37")
async def test_what_is_no_automation(api: httpx2.AsyncClient) -> None:
    made = (await make(api)).json()
    path, (record,) = f"/api/automations/{made['id']}", await records(api)
    for members, why in WRONG:
        refused = await make(api, **members)
        assert (refused.status_code, why in refused.json()["error"]) == (400, True), (members, refused.text)
        given = {name: value for name, value in members.items() if value}
        if given:
            changed = await api.patch(path, json=given)
            assert (changed.status_code, why in changed.json()["error"]) == (400, True), (
                members,
                changed.text,
            )
    assert (await api.get("/api/automations")).json() == [made], "nothing is stored"
    assert await records(api) == [record], "and nothing told of"


async def records(api: httpx2.AsyncClient) -> list[Any]:
    found: list[Any] = (await api.get("/api/activity", params={"view": "activity"})).json()
    return found


async def test_scopes(limited_to: Any) -> None:
    async with limited_to("automation:read") as (root, limited):
        key = (await make(root)).json()["id"]
        for path in ("", f"/{key}", f"/{key}/next"):
            assert (await limited.get(f"/api/automations{path}")).status_code == 200
        assert (await limited.get("/api/automation-runs")).status_code == 200
        assert (await make(limited)).status_code == 403
        assert (await limited.patch(f"/api/automations/{key}", json={})).status_code == 403
        assert (await limited.delete(f"/api/automations/{key}")).status_code == 403
        assert (await limited.post(f"/api/automations/{key}/run")).status_code == 403


async def test_an_automation_does_nothing_that_who_asks_may_not_do(limited_to: Any) -> None:
    """Else whoever may make automations could do all that relay can."""
    async with limited_to("automation:write", "message:send") as (root, limited):
        assert (await make(limited)).status_code == 201
        for action in (TASK, SPAWN):
            assert (await make(limited, action=action)).status_code == 403
            key = (await make(root, action=action)).json()["id"]
            assert (await limited.patch(f"/api/automations/{key}", json={"name": "x"})).status_code == 403
            assert (await limited.post(f"/api/automations/{key}/run")).status_code == 403
        mine = (await make(limited)).json()["id"]
        assert (await limited.patch(f"/api/automations/{mine}", json={"action": SPAWN})).status_code == 403
        assert (await limited.post(f"/api/automations/{mine}/run")).status_code == 202
