"""A recipe with real agents on a real host, whose server and daemon are killed whenever something has happened: every step of it
is done once, and stopping it leaves nobody behind.

`RELAY_KILLS` is how often; a run says its seed, and `RELAY_SEED` takes it again.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import trio
from killkit import Caller, Scene, until
from test_server_crash import TOKEN, rows

KILLS = int(os.environ.get("RELAY_KILLS", "5"))
WITHIN = 90.0
VICTIMS = ("server", "server", "orchestrator")

WORKER = """
import json, os, sys
folder, role = sys.argv[1:]
journal = os.open(f"{folder}/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(*words):
    os.write(journal, (" ".join(map(str, (os.getpid(), *words))) + chr(10)).encode())

def say(**frame):
    print(json.dumps(frame), flush=True)

note("began", role)
for line in sys.stdin:
    frame = json.loads(line)
    match frame["type"]:
        case "hello":
            say(type="ready")
        case "ping":
            say(type="pong", id=frame["id"])
        case "messages":
            say(type="ack", id=frame["id"])
            for message in frame["messages"]:
                task = (message.get("payload") or {}).get("taskId")
                note("got", message["id"], task)
                if task is not None:
                    say(type="task", taskId=task, status="done", body="it is done")
        case "shutdown":
            note("left", role)
            sys.exit(0)
        case _ if "id" in frame:
            say(type="ack", id=frame["id"])
"""

STEPS = {
    "write": ("writer", "task", []),
    "tell": ("reader", "message", ["write"]),
    "read": ("reader", "task", ["tell"]),
    "mend": ("writer", "task", ["read"]),
}


def recipe(scene: Scene) -> dict[str, Any]:
    def role(name: str) -> dict[str, Any]:
        words = [str(scene.program), str(scene.folder), name]
        return {
            "role": name,
            "provider": "command",
            "approvalMode": "open",
            "providerConfig": {"command": sys.executable, "defaultArgs": words},
        }

    steps = [
        {"id": key, "to": to, "kind": kind, "body": key, "after": after}
        for key, (to, kind, after) in STEPS.items()
    ]
    return {
        "name": "duo",
        "description": "Two hand work to each other.",
        "roles": [role("writer"), role("reader")],
        "steps": steps,
    }


@pytest.mark.spec("M-211", "M-215", "M-I17", "O-39")
async def test_whatever_is_killed_each_step_of_a_recipe_is_done_once(tmp_path: Path) -> None:
    seed = int(os.environ.get("RELAY_SEED") or random.SystemRandom().randrange(2**32))
    print(f"RELAY_SEED={seed}")
    scene = Scene(tmp_path, random.Random(seed))
    scene.program.write_text(WORKER)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "duo.yaml").write_bytes(orjson.dumps(recipe(scene)))
    try:
        await storm(scene)
    except BaseException:
        print(scene.pids(), scene.journal(), scene.logs())
        raise
    finally:
        scene.end()


async def storm(scene: Scene) -> None:
    headers = {"X-Agent-Relay-Token": TOKEN}
    async with (
        httpx2.AsyncClient(base_url=scene.server.url, headers=headers, timeout=20) as client,
        trio.open_nursery() as upkeep,
    ):
        caller = Caller(client)
        upkeep.start_soon(scene.kept_up)
        await until(lambda: caller.get("/api/orchestrators"), WITHIN)
        answer = await caller.ask("POST", "/api/recipes/start", {"name": "duo"})
        assert answer.status_code == 202, answer.text
        key = answer.json()["instance"]["id"]
        async with trio.open_nursery() as killer:
            killed: Counter[str] = Counter()
            killer.start_soon(kill_whenever_something_happens, scene, killed)
            await until(partial(done, caller, key), WITHIN)
            killer.cancel_scope.cancel()
        print(f"{dict(killed)}, {scene.journal()}")
        assert killed["server"] + killed["orchestrator"] >= 3, "it was over before much was killed"
        check(scene, await instance(caller, key))

        await caller.ask("POST", f"/api/recipes/instances/{key}/stop")
        scene.kill("server")
        await until(partial(has_status, caller, key, "stopped"), WITHIN)
        await until(partial(nobody_is_left, scene), WITHIN)
        upkeep.cancel_scope.cancel()
    for process in (scene.daemon, scene.server.process):
        assert process is not None
        process.terminate()
        process.wait(30)
    assert scene.pids() == {kind: [] for kind in scene.pids()}, "nothing is left over"
    stops = rows(scene.server.database, "select count(*) from commands where type = 'agent.shutdown'")
    assert stops == [(2,)], "each is shut down by one order"


async def kill_whenever_something_happens(scene: Scene, killed: Counter[str]) -> None:
    """At the start, and each time that an agent has begun or has got something."""
    seen = -1
    while killed.total() < KILLS:
        if len(scene.journal()) > seen:
            await trio.sleep(scene.chance.choice((0.0, 0.02, 0.1, 0.5)))
            victim = scene.chance.choice(VICTIMS)
            if scene.kill(victim):
                killed[victim] += 1
                seen = len(scene.journal())
        await trio.sleep(0.01)


async def instance(caller: Caller, key: str) -> dict[str, Any]:
    found: dict[str, Any] = await caller.get(f"/api/recipes/instances/{key}")
    return found


async def done(caller: Caller, key: str) -> bool:
    run = await instance(caller, key)
    assert run["status"] in {"starting", "running"}, run
    return {step["status"] for step in run["steps"]} == {"succeeded"}


async def has_status(caller: Caller, key: str, status: str) -> bool:
    return (await instance(caller, key))["status"] == status


async def nobody_is_left(scene: Scene) -> bool:
    found = scene.pids()
    return not found["runner"] and not found["agent"]


def check(scene: Scene, run: dict[str, Any]) -> None:
    """What the agents wrote down, what is stored, and what was told."""
    journal = [line[1:] for line in scene.journal()]
    assert Counter(words[1] for words in journal if words[0] == "began") == {"writer": 1, "reader": 1}
    got = [words[2] for words in journal if words[0] == "got" and words[2] != "None"]
    tasks = {step["id"]: str(step["taskId"]) for step in run["steps"] if step["kind"] == "task"}
    assert got == [tasks[key] for key in ("write", "read", "mend")], "once each, in their order"
    assert all(step["attempt"] == 1 for step in run["steps"])

    database = scene.server.database
    stored = rows(database, "select id, record ->> '$.metadata.recipeStep' from tasks")
    assert {key: str(number) for number, key in stored} == tasks
    said = "select id from messages where record ->> '$.payload.recipeStep' = 'tell'"
    ((message,),) = rows(database, said)
    heard = [words for words in journal if words[:2] == ["got", str(message)]]
    assert len(heard) == 1
    starts = rows(
        database, "select record ->> '$.params.recipeRole' from commands where type = 'agent.spawn'"
    )
    assert sorted(role for (role,) in starts) == ["reader", "writer"]
    check_told(scene)


def check_told(scene: Scene) -> None:
    """Each step moved on only, and each was seen to succeed once."""
    order = ["waiting", "asked", "running", "succeeded"]
    sql = "select data from events where type = 'recipe.instance.changed' order by id"
    before: dict[str, str] = {}
    for (data,) in rows(scene.server.database, sql):
        for step in orjson.loads(data)["instance"]["steps"]:
            was = before.get(step["id"], "waiting")
            assert order.index(was) <= order.index(step["status"]), step
            before[step["id"]] = step["status"]
    assert set(before.values()) == {"succeeded"}
