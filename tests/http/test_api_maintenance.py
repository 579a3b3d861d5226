"""Maintenance jobs and the audit's chain, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import apsw
import httpx2
import pytest

from relay.store.backups import backups_of, check


@pytest.mark.spec("SYS-15", "O-57")
async def test_jobs_are_listed_and_run(api: httpx2.AsyncClient, server: Any) -> None:
    found = {job["name"]: job for job in (await api.get("/api/maintenance/jobs")).json()}
    assert found["reaper"]["everyMs"] == 30_000
    assert found["backup"]["everyMs"] == 900_000
    assert found["backup"]["running"] is False
    answer = await api.post("/api/maintenance/jobs/backup/run")
    ran = answer.json()
    assert (answer.status_code, ran["ok"]) == (200, True)
    job = ran["job"]
    assert (job["lastOutcome"], job["running"]) == ("done", False)
    assert job["lastRunAt"] <= job["lastGoodAt"] <= job["nextRunAt"]
    assert server.database is not None
    made = check(backups_of(server.database) / job["report"]["file"])
    assert round(made.at * 1000) <= job["lastGoodAt"]
    assert (await api.get("/api/maintenance/jobs")).json()[1] == job


@pytest.mark.spec("M-230", "SYS-15")
async def test_the_legacy_run_by_its_name_is_the_same_run(api: httpx2.AsyncClient) -> None:
    assert (await api.post("/api/maintenance/jobs/reaper/run")).json()["ok"] is True
    (record,) = (await api.get("/api/activity")).json()
    assert record["clientId"].startswith("server-system-reap-")
    assert record["metadata"] == {"authSub": "root", "authRole": "root"}


async def test_a_run_that_somebody_asked_for_names_who(api: httpx2.AsyncClient) -> None:
    await api.post("/api/maintenance/jobs/purge-tokens/run")
    (record,) = (await api.get("/api/activity")).json()
    assert record["metadata"] | {"authSub": "root", "job": "purge-tokens"} == record["metadata"]


async def test_a_job_that_there_is_not_is_refused(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/api/maintenance/jobs/coffee/run")
    assert answer.status_code == 404
    assert "there are reaper, backup" in answer.json()["error"]


async def test_a_run_that_fails_is_an_answer_and_an_alarm(api: httpx2.AsyncClient, server: Any) -> None:
    assert server.database is not None
    backups_of(server.database).write_text("in the way")
    answer = await api.post("/api/maintenance/jobs/backup/run")
    ran = answer.json()
    assert (answer.status_code, ran["ok"], ran["job"]["lastOutcome"]) == (200, False, "failed")
    assert "no backup could be made" in ran["job"]["lastError"]
    health = (await api.get("/api/health")).json()
    assert (health["status"], health["alarms"]) == ("ok", ["the maintenance job backup failed"])
    assert "backupAt" not in health
    backups_of(server.database).unlink()
    await api.post("/api/maintenance/jobs/backup/run")
    health = (await api.get("/api/health")).json()
    assert health["alarms"] == []
    assert health["backupAt"] > 0


async def test_the_audit_is_verified_and_damage_is_named(api: httpx2.AsyncClient, server: Any) -> None:
    for name in ("a1", "a2", "a3"):
        await api.post("/api/agents", json={"id": name})
    verdict = (await api.get("/api/audit/verify")).json()
    assert (verdict["ok"], verdict["records"], verdict["damages"]) == (True, 3, [])
    noted = verdict["head"]
    await api.post("/api/agents", json={"id": "a4"})
    assert (await api.get("/api/audit/verify", params={"head": noted})).json()["ok"] is True
    with closing(apsw.Connection(str(server.database))) as other:
        other.execute("drop trigger activity_never_changes")
        other.execute("update activity set record = replace(record, 'a2', 'a9') where id = 2")
    verdict = (await api.get("/api/audit/verify")).json()
    assert verdict["ok"] is False
    assert verdict["damages"] == [{"kind": "changed", "what": "record 2 of link 2", "link": 2, "record": 2}]
    other_head = f"2:{'0' * 64}"
    kinds = [
        d["kind"] for d in (await api.get("/api/audit/verify", params={"head": other_head})).json()["damages"]
    ]
    assert sorted(kinds) == ["changed", "foreign"]
    answer = await api.get("/api/audit/verify", params={"head": "nonsense"})
    assert answer.status_code == 400
    assert "head: expected a number" in answer.json()["error"]


@pytest.mark.parametrize("own", ["server-audit-trim-1", "server-system-restore-1"])
async def test_nobody_else_tells_where_the_audit_begins(api: httpx2.AsyncClient, own: str) -> None:
    note = {
        "clientId": own,
        "kind": "state",
        "title": "x",
        "metadata": {"seq": 9, "digest": "d"},
    }
    answer = await api.post("/api/activity", json=note)
    assert answer.status_code == 400
    assert "relay's own" in answer.json()["error"]
    assert (await api.get("/api/activity")).json() == []
    assert (await api.get("/api/audit/verify")).json()["ok"] is True


async def test_jobs_and_the_audit_need_their_rights(limited_to: Callable[..., Any]) -> None:
    async with limited_to("system:read") as (_, reader), limited_to("agent:read") as (_, other):
        assert (await reader.get("/api/maintenance/jobs")).status_code == 200
        assert (await reader.get("/api/audit/verify")).status_code == 200
        assert (await reader.post("/api/maintenance/jobs/backup/run")).status_code == 403
        assert (await other.get("/api/maintenance/jobs")).status_code == 403
        assert (await other.get("/api/audit/verify")).status_code == 403
