"""A server that is killed around the times at which its automations are due: each runs once, and does once what it is for. What
was missed while there was no server is made up for by one run.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
import trio
from test_server_crash import TOKEN, Server, rows

ROUNDS = int(os.environ.get("RELAY_KILLS", "3"))
EACH = 9  # automations of a round, each due a moment after the one before
AHEAD = 0.8  # seconds from making one until it is due
APART = 0.03  # seconds between two that are due
WITHIN = 60.0

ACTIONS = (
    {"type": "message", "to": "user", "body": "wake up"},
    {"type": "task", "target": "user", "title": "sweep"},
    {"type": "spawn", "provider": "claude"},
)
MADE = (
    "select record ->> '$.meta.automationId' from messages where record ->> '$.kind' = 'chat'",
    "select record ->> '$.metadata.automationId' from tasks",
    "select record ->> '$.params.automationId' from commands",
)


@contextmanager
def chance() -> Iterator[random.Random]:
    seed = int(os.environ.get("RELAY_SEED") or random.SystemRandom().randrange(2**32))
    print(f"RELAY_SEED={seed}")
    yield random.Random(seed)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Server, httpx2.AsyncClient]]:
    server = Server(folder)
    headers = {"X-Agent-Relay-Token": TOKEN}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=20) as client:
        try:
            server.start()
            await server.ready(client)
            yield server, client
        finally:
            server.kill()


async def make(client: httpx2.AsyncClient, action: dict[str, Any], schedule: dict[str, Any]) -> str:
    asked = {"name": "one", "action": action, "schedule": schedule}
    answer = await client.post("/api/automations", json=asked)
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["id"]
    return key


async def runs_of(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/api/automation-runs", params={"limit": 500})).json()
    return found


async def all_begun(client: httpx2.AsyncClient, keys: set[str]) -> None:
    """Until each has made something."""
    with trio.fail_after(WITHIN):
        while True:
            runs = await runs_of(client)
            begun = {run["automationId"] for run in runs if {"messageId", "taskId", "commandId"} & run.keys()}
            if keys <= begun:
                return
            await trio.sleep(0.05)


def check(server: Server, keys: set[str]) -> None:
    """Each has one run, which was told of, and one thing that it made."""
    found = rows(server.database, "select automation_id, record ->> '$.trigger' from automation_runs")
    assert Counter(found) == Counter((key, "schedule") for key in keys)
    made = Counter(key for sql in MADE for (key,) in rows(server.database, sql) if key is not None)
    assert made == Counter(keys)
    told = rows(
        server.database, "select data ->> '$.run.automationId' from events where type = 'automation.run'"
    )
    assert {key for (key,) in told} == keys


@pytest.mark.spec("AUT-8", "AUT-9", "AUT-10", "O-37")
async def test_an_automation_runs_once_when_the_server_is_killed_as_it_is_due(tmp_path: Path) -> None:
    keys: set[str] = set()
    with chance() as dice:
        async with running(tmp_path) as (server, client):
            for _ in range(ROUNDS):
                host = {"id": "h1", "hostname": "h1", "baseDir": "/base"}
                (await client.post("/api/orchestrators", json=host)).raise_for_status()
                for number in range(EACH):
                    at = round((time.time() + AHEAD + number * APART) * 1000)
                    action = ACTIONS[number % len(ACTIONS)]
                    keys.add(await make(client, action, {"type": "once", "at": at}))
                first = at / 1000 - (EACH - 1) * APART
                await trio.sleep(max(0.0, first - time.time()) + dice.uniform(-0.1, EACH * APART + 0.1))
                server.kill()
                server.start()
                await server.ready(client)
                await all_begun(client, keys)
            check(server, keys)
            for key in keys:
                assert "nextRunAt" not in (await client.get(f"/api/automations/{key}")).json()


@pytest.mark.spec("AUT-12", "O-37")
async def test_times_that_were_missed_are_made_up_for_once_however_often_the_server_is_killed(
    tmp_path: Path,
) -> None:
    with chance() as dice:
        async with running(tmp_path) as (server, client):
            schedule = {"type": "cron", "expression": "0 0 1 1 *", "timezone": "Europe/Berlin"}
            key = await make(client, ACTIONS[0], schedule)
            coming = (await client.get(f"/api/automations/{key}")).json()["nextRunAt"]
            server.kill()
            missed = coming - round(3 * 365.25 * 86_400_000)
            as_if_it_had_been_down_since(server.database, missed)
            for _ in range(ROUNDS):
                server.start()
                await trio.sleep(dice.uniform(0.3, 1.5))
                server.kill()
            server.start()
            await server.ready(client)
            await all_begun(client, {key})
            check(server, {key})
            (run,) = await runs_of(client)
            assert (run["status"], run["dueAt"]) == ("succeeded", missed)
            assert (await client.get(f"/api/automations/{key}")).json()["nextRunAt"] == coming


def as_if_it_had_been_down_since(database: Path, missed: int) -> None:
    """Its automations were due then (epoch ms), and each year since."""
    connection = apsw.Connection(str(database))
    try:
        connection.execute(
            "update automations set next_run_at = ?1, planned_at = ?1 - 1000, record = json_set(record, '$.nextRunAt', ?1)",
            (missed,),
        )
    finally:
        connection.close()
