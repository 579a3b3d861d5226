"""Orphans: a row that appears at the last moment still protects its worktree."""

from __future__ import annotations

import pytest

from relay import wire
from relay.actors import ActorError
from relay.fleet import Conflict, Fleet, commands, orchestrators
from relay.fleet._workspace_rows import stored
from relay.store import Owner, StoreError

ASKED = wire.Reclaim(worktree_path="/base/wt/x", repo_root="/base/repo", branch="agent/x")


async def register(fleet: Fleet) -> None:
    card = wire.RegisterOrchestrator(id="h1", hostname="h", base_dir="/base")
    await fleet.orchestrators["h1"].ask(orchestrators.Register(card))


@pytest.mark.spec("W-I24")
@pytest.mark.parametrize("place", ["/base/wt/x", "/base/wt/./x/", "/base/wt/x/nested"])
async def test_a_row_that_is_on_its_way_to_the_disk_protects_its_worktree(fleet: Fleet, place: str) -> None:
    await register(fleet)
    row = wire.Workspace(id="w1", repo_root="/base/repo", worktree_path=place)
    fleet.store.stage((stored(row),), (), Owner(), lambda failure: None)
    with pytest.raises((Conflict, StoreError, ActorError)):
        await fleet.orchestrators["h1"].ask(orchestrators.Reclaim(ASKED))
    assert commands.list_commands(fleet.store) == []
    with pytest.raises(Conflict, match="w1"):
        await fleet.orchestrators["h1"].ask(orchestrators.Reclaim(ASKED))


@pytest.mark.spec("W-I24")
async def test_a_row_that_has_ended_protects_nothing(fleet: Fleet) -> None:
    await register(fleet)
    ended = (wire.WorkspaceStatus.CLEANED, wire.WorkspaceStatus.MERGED, wire.WorkspaceStatus.ABANDONED)
    for number, status in enumerate(ended):
        row = wire.Workspace(id=f"w{number}", status=status, worktree_path="/base/wt/x")
        fleet.store.stage((stored(row),), (), Owner(), lambda failure: None)
    made = await fleet.orchestrators["h1"].ask(orchestrators.Reclaim(ASKED))
    assert (made.target, made.params["reclaim"]) == ("orchestrator-h1", True)


async def test_a_path_that_only_begins_alike_is_another_one(fleet: Fleet) -> None:
    await register(fleet)
    row = wire.Workspace(id="w1", repo_root="/base/repo", worktree_path="/base/wt/xy")
    fleet.store.stage((stored(row),), (), Owner(), lambda failure: None)
    await fleet.orchestrators["h1"].ask(orchestrators.Reclaim(ASKED))
    assert len(commands.list_commands(fleet.store)) == 1
