"""What happens in the same millisecond is on record each for itself, also where a record's id has nothing but the instant."""

from __future__ import annotations

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.fleet import Fleet, orchestrators

HOSTS = [f"h{number}" for number in range(5)]


@pytest.fixture
async def hosts(fleet: Fleet) -> None:
    for name in HOSTS:
        card = wire.RegisterOrchestrator(id=name, hostname=name, base_dir=f"/base/{name}")
        await fleet.orchestrators[name].ask(orchestrators.Register(card))


@pytest.mark.spec("ACT-2", "ACT-3", "M-I32")
async def test_spawns_on_several_hosts_at_once(fleet: Fleet, log: Log, hosts: None) -> None:
    asked = wire.SpawnAgent(provider=wire.Provider.CLAUDE)
    async with trio.open_nursery() as nursery:
        for name in HOSTS:
            nursery.start_soon(fleet.orchestrators[name].ask, orchestrators.Spawn(asked, anywhere=True))
    records = log.audits("server-agent-spawn-claude-")
    assert sorted(record["metadata"]["orchestratorId"] for record in records) == HOSTS


@pytest.mark.spec("ACT-2", "ACT-3", "M-I32")
async def test_reclaims_on_several_hosts_at_once(fleet: Fleet, log: Log, hosts: None) -> None:
    async with trio.open_nursery() as nursery:
        for name in HOSTS:
            asked = wire.Reclaim(
                worktree_path=f"/base/{name}/wt", repo_root=f"/base/{name}/repo", branch="agent/x"
            )
            nursery.start_soon(fleet.orchestrators[name].ask, orchestrators.Reclaim(asked))
    records = log.audits("workspace-orphan-reclaim-")
    assert sorted(record["body"] for record in records) == [f"/base/{name}/wt" for name in HOSTS]
