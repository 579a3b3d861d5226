"""Server, host daemon, runner and agent of a policy are killed in any order; then what is wanted runs, and nothing else.

`RELAY_KILLS=50` is the whole run; the suite has a shorter one. A run says its seed, and `RELAY_SEED` takes it again.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import trio
from killkit import POLICY, Caller, Scene, until
from test_server_crash import TOKEN, rows

KILLS = int(os.environ.get("RELAY_KILLS", "8"))
VICTIMS = ("server", "orchestrator", "runner", "agent")
SETTLES_WITHIN = 90.0
ENDS_WITHIN = 60.0


@contextmanager
def opened(folder: Path) -> Iterator[Scene]:
    seed = int(os.environ.get("RELAY_SEED") or random.SystemRandom().randrange(2**32))
    print(f"RELAY_SEED={seed}")
    scene = Scene(folder, random.Random(seed))
    try:
        yield scene
    except BaseException:
        print(scene.pids(), scene.logs())
        raise
    finally:
        scene.end()


async def settled(caller: Caller, scene: Scene) -> dict[str, Any] | None:
    """The policy's state, once its one agent runs and nothing is under way any more."""
    state = await caller.state()
    if state["status"] != "running":
        return None
    found = scene.pids()
    if [len(found[kind]) for kind in VICTIMS] != [1, 1, 1, 1]:
        return None
    agent = (await caller.ask("GET", f"/api/agents/{state['agentId']}")).json()
    (host,) = await caller.get("/api/orchestrators")
    rostered = [entry["agentId"] for entry in host.get("managedAgents", [])]
    ready = agent.get("status") in ("online", "idle", "busy") and agent.get("ready") is True
    at_rest = not rows(
        scene.server.database, "select 1 from commands where status in ('pending', 'accepted', 'running')"
    )
    return state if ready and at_rest and rostered == [state["agentId"]] else None


def check_mail(caller: Caller, scene: Scene) -> None:
    """Every message that was sent is there once; what had to wait was let out once, and nothing twice."""
    told: dict[str, Counter[int]] = {name: Counter() for name in ("queued", "new", "available", "expired")}
    for kind, subject, data in rows(
        scene.server.database, "select type, subject, data from events order by id"
    ):
        name = kind.removeprefix("message.")
        if kind == "message.available":
            told[name].update(orjson.loads(data)["messageIds"])
        elif kind.startswith("message.") and name in told:
            told[name][int(subject)] += 1
    stored = dict(
        rows(
            scene.server.database,
            "select idempotency_key, id from messages where idempotency_key is not null",
        )
    )
    assert stored.items() >= caller.sent.items()
    assert len(stored) - len(caller.sent) <= 1, "one may not have been answered"
    assert not told["expired"]
    assert told["new"] == Counter(stored.values())
    assert told["available"] == told["queued"]
    assert set(told["queued"].values()) == {1}, (
        "none had to wait" if not told["queued"] else "some waited twice"
    )
    waiting = rows(scene.server.database, "select count(*) from messages where delivery = 'queued'")
    assert waiting == [(0,)]


@pytest.mark.spec("M-I7", "M-I8", "M-I9", "M-I12", "M-I19", "R-I38")
async def test_whatever_is_killed_the_policy_has_its_one_agent(tmp_path: Path) -> None:
    with opened(tmp_path) as scene:
        await storm(scene)


async def storm(scene: Scene) -> None:
    chance = scene.chance
    headers = {"X-Agent-Relay-Token": TOKEN}
    killed: Counter[str] = Counter()
    async with (
        httpx2.AsyncClient(base_url=scene.server.url, headers=headers, timeout=20) as client,
        trio.open_nursery() as upkeep,
    ):
        caller = Caller(client)
        upkeep.start_soon(scene.kept_up)
        (await caller.ask("PUT", POLICY, scene.policy)).raise_for_status()
        await until(lambda: caller.get("/api/orchestrators"), SETTLES_WITHIN)
        async with trio.open_nursery() as senders:
            senders.start_soon(caller.send_for_ever)
            await until(lambda: _started(caller), SETTLES_WITHIN)
            await until(lambda: settled(caller, scene), SETTLES_WITHIN)
            while killed.total() < KILLS:
                victim = chance.choice(VICTIMS)
                await until(partial(_killed, scene, victim), SETTLES_WITHIN)
                killed[victim] += 1
                print(f"killed: {victim}")
                await trio.sleep(chance.choice((0.0, 0.3, 1.0, 3.0)) * chance.random())
            senders.cancel_scope.cancel()
        state = await until(lambda: settled(caller, scene), SETTLES_WITHIN)
        print(f"{dict(killed)}, {len(caller.sent)} messages, {state}")

        mine = await _mail_of(caller, scene, state["agentId"])
        await until(lambda: _heard(scene, mine), ENDS_WITHIN)
        check_mail(caller, scene)
        assert not [line for line in scene.journal() if line[1] == "twice"], (
            "two agents of one policy lived at once"
        )
        assert scene.pids()["other"] == []

        (await caller.ask("POST", f"{POLICY}/stop")).raise_for_status()
        await until(lambda: _is(caller, "stopped"), ENDS_WITHIN)
        await until(lambda: _gone(scene, "runner", "agent"), ENDS_WITHIN)
        upkeep.cancel_scope.cancel()
    for process in (scene.daemon, scene.server.process):
        assert process is not None
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert scene.pids() == {kind: [] for kind in scene.pids()}, "nothing is left over"


async def _started(caller: Caller) -> bool:
    return (await caller.ask("POST", f"{POLICY}/start")).status_code == 202


async def _killed(scene: Scene, victim: str) -> bool:
    """Once it has come back from the last time."""
    return scene.kill(victim)


async def _is(caller: Caller, status: str) -> bool:
    return (await caller.state())["status"] == status


async def _gone(scene: Scene, *kinds: str) -> bool:
    found = scene.pids()
    return not any(found[kind] for kind in kinds)


async def _mail_of(caller: Caller, scene: Scene, agent: str) -> set[str]:
    """The messages that went to the agent there is now."""
    sql = "select id from messages where resolved_to = '" + agent + "'"
    return {str(number) for (number,) in rows(scene.server.database, sql)}


async def _heard(scene: Scene, numbers: set[str]) -> bool:
    return numbers <= {line[2] for line in scene.journal() if line[1] == "got"}
