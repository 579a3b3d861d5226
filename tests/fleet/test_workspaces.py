"""Workspaces: actions, cleanup, reconcile, and the record that goes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from fleetlog import Log
from repositories import GONE_AFTER, REPORTS, SHARED, Hosts, at_work

from relay import wire
from relay.actors import System
from relay.fleet import (
    Conflict,
    Fleet,
    NotFound,
    Unprocessable,
    commands,
    open_fleet,
    orchestrators,
    workspaces,
)
from relay.fleet._machine import AS_GIVEN, NONE
from relay.store import Store

S = wire.WorkspaceStatus


@pytest.fixture
async def hosts(fleet: Fleet) -> Hosts:
    return await at_work(fleet)


def owned_by(source_cwd: str | None) -> wire.WorkspaceReport:
    return attrs.evolve(REPORTS["w1"], source_cwd=source_cwd)


# -- reports


async def test_a_report_makes_an_active_row_once(fleet: Fleet, log: Log) -> None:
    made = await Hosts(fleet).report(REPORTS["w1"])
    assert (made.status, made.agent_id, made.orchestrator_id) == (S.ACTIVE, "a1", "o1")
    assert workspaces.get_workspace(fleet.store, "w1") == made
    assert await Hosts(fleet).report(REPORTS["w1"]) == made
    assert log.types() == ["workspace.changed"]


@pytest.mark.parametrize("status", ["merged", "abandoned", "cleaned", "merge_planned"])
async def test_a_report_never_reopens_a_row(hosts: Hosts, status: str) -> None:
    command = await hosts.command("w1", "merge")
    await hosts.patch(command, "succeeded", result={"workspaceId": "w1", "status": status})
    for agent in ("a1", "a2"):
        assert (await hosts.report(REPORTS["w1"], agent)).status == status
    assert hosts.row("w1").agent_id == "a2"


async def test_a_deleted_row_stays_away_while_its_host_repeats_the_roster(hosts: Hosts) -> None:
    entry = wire.ManagedAgent(agent_id="a1", workspace=REPORTS["w1"])
    roster = orchestrators.ReportRoster(wire.Roster(agents=[entry]))
    await hosts.fleet.orchestrators["o1"].ask(roster)
    await hosts.remove("w1")
    await hosts.fleet.orchestrators["o1"].ask(roster)
    assert hosts.status("w1") is None


# -- actions


@pytest.mark.spec("W-52")
async def test_status_answers_the_record_and_changes_nothing(hosts: Hosts) -> None:
    before = hosts.trace()
    assert await hosts.act("w1", "status") == workspaces.Acted(hosts.row("w1"))
    assert hosts.trace() == before


@pytest.mark.spec("W-53")
async def test_an_action_notes_who_and_why(hosts: Hosts, log: Log) -> None:
    await hosts.act("w1", "ready", metadata={"kept": 1})
    acted = await hosts.act("w1", "ready", agent_id="a1", detail="done", metadata={"more": 2})
    assert acted.command is None
    assert acted.workspace.status is S.READY
    assert acted.workspace.metadata == {"kept": 1, "more": 2, "detail": "done", "updatedByAgentId": "a1"}
    assert hosts.row("w1") == acted.workspace
    first, second = log.audits("workspace-ready-w1-")
    assert first["body"] == "/home/u/.agent-relay/workspaces/repo-1/w1"
    assert (second["body"], second["agentId"], second["view"]) == ("done", "a1", "orchestrators")
    assert second["metadata"]["status"] == "ready"


@pytest.mark.spec("W-54")
@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("conflict-found", S.CONFLICT),
        ("request-review", S.REVIEW_REQUESTED),
        ("merge-plan", S.MERGE_PLANNED),
        ("abandon", S.ABANDONED),
    ],
)
async def test_actions_that_declare_make_no_command(
    hosts: Hosts, log: Log, action: str, status: wire.WorkspaceStatus
) -> None:
    for workspace in ("w1", "ws"):
        acted = await hosts.act(workspace, action)
        assert (acted.workspace.status, acted.command) == (status, None)
    assert log.events("command.requested") == []
    assert hosts.leases() == {}
    assert len(log.audits(f"workspace-{action}-")) == 2
    assert log.types(audits=True)[-2:] == ["workspace.changed", "activity.created"]


@pytest.mark.spec("W-56", "W-I21")
async def test_a_workspace_without_a_worktree_gets_no_command(hosts: Hosts) -> None:
    before = hosts.trace()
    for action in ("merge", "cleanup"):
        with pytest.raises(Unprocessable):
            await hosts.act("ws", action)
    assert hosts.trace() == before
    assert (await hosts.act("ws", "ready")).workspace.status is S.READY


async def test_an_unknown_workspace_is_not_found(hosts: Hosts) -> None:
    before = hosts.trace()
    for action in wire.WorkspaceVerb:
        with pytest.raises(NotFound):
            await hosts.act("none", action)
    with pytest.raises(NotFound):
        workspaces.get_workspace(hosts.store, "none")
    assert hosts.trace() == before


def test_the_table_says_what_the_specification_says() -> None:
    """Spec 18.1, row by row."""
    declared = {
        "ready": S.READY,
        "conflict-found": S.CONFLICT,
        "request-review": S.REVIEW_REQUESTED,
        "merge-plan": S.MERGE_PLANNED,
        "abandon": S.ABANDONED,
        "cleanup": S.CLEANUP_REQUESTED,
        "merge succeeded": AS_GIVEN,
        "cleanup succeeded": S.CLEANED,
    }
    assert set(workspaces.MOVES) == {NONE, *S}
    for status in S:
        moves = workspaces.MOVES[status]
        assert declared.items() <= moves.items()
        closed = status in (S.CLEANED, S.MERGED, S.ABANDONED, S.CLEANUP_REQUESTED)
        assert ("merge" in moves) is not closed
        assert ("merge failed" in moves) is (status is S.MERGE_PLANNED)
        assert ("reconcile succeeded" in moves) is (status in (S.ACTIVE, S.READY))


async def test_workspaces_are_listed_by_id_and_filtered(hosts: Hosts) -> None:
    await hosts.act("w2", "ready")

    def listed(**filters: Any) -> list[str]:
        return [row.id for row in workspaces.list_workspaces(hosts.store, **filters)]

    assert listed() == ["w1", "w2", "w3", "ws"]
    assert listed(status="ready") == ["w2"]
    assert listed(repo_root="/home/u/x/../repo/") == ["w1", "w2"]
    assert listed(agent_id="nobody") == []


# -- cleanup


@pytest.mark.spec("W-60", "W-66", "W-I50")
async def test_a_cleanup_is_a_command_to_the_host_and_cleans_when_it_succeeds(hosts: Hosts, log: Log) -> None:
    await hosts.act("w1", "ready")
    acted = await hosts.act("w1", "cleanup")
    command = acted.command
    assert command is not None
    assert (command.type, command.source, command.target) == (
        "workspace.cleanup",
        "system",
        "orchestrator-o1",
    )
    assert (command.correlation_id, command.ttl_ms) == ("w1", None)
    given = {name: command.params[name] for name in ("action", "deleteBranch", "queued", "requestedBy")}
    assert given == {"action": "cleanup", "deleteBranch": True, "queued": False, "requestedBy": "dashboard"}
    assert command.params["worktreePath"] == REPORTS["w1"].worktree_path
    assert acted.workspace.status is S.CLEANUP_REQUESTED
    assert log.types(audits=True)[-3:] == ["workspace.changed", "command.requested", "activity.created"]
    assert log.audits("workspace-cleanup-w1-")[0]["metadata"]["commandId"] == command.id
    result = {"workspaceId": "w1", "removed": True}
    await hosts.patch(command, "succeeded", result=result)
    row = hosts.row("w1")
    assert row.status is S.CLEANED
    assert (row.metadata["cleanupResult"], row.metadata["cleanupCommandId"]) == (result, command.id)
    assert log.types()[-2:] == ["workspace.changed", "command.succeeded"]


@pytest.mark.parametrize("how", ["failed", "rejected", "canceled"])
async def test_a_cleanup_that_failed_leaves_the_row_waiting_with_the_reason(hosts: Hosts, how: str) -> None:
    command = await hosts.command("w1", "cleanup")
    await hosts.patch(command, how, error="in use" if how == "failed" else None)
    row = hosts.row("w1")
    assert row.status is S.CLEANUP_REQUESTED
    assert row.metadata["cleanupError"] == "in use" if how == "failed" else row.metadata["cleanupError"]


async def test_a_cleanup_result_that_names_no_workspace_changes_no_row(hosts: Hosts) -> None:
    command = await hosts.command("w1", "cleanup")
    await hosts.patch(command, "succeeded", result={"removed": True})
    assert hosts.status("w1") == "cleanup_requested"


@pytest.mark.spec("W-61", "W-I19", "W-I20", "W-I49")
async def test_a_cleanup_waits_for_a_host_that_is_away_also_over_a_restart(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        hosts = Hosts(fleet)
        await hosts.online("o2")
        await hosts.report(REPORTS["w1"])
        await trio.sleep(GONE_AFTER)
        command = await hosts.command("w1", "cleanup")
        assert (command.target, command.params["queued"]) == ("orchestrator-o2", True)
    await trio.sleep(30 * 86_400)
    async with open_fleet(system, store) as fleet:
        hosts = Hosts(fleet)
        await hosts.online("o2")
        pending = commands.list_commands(
            store, target="orchestrator-o2", status=wire.CommandStatus.PENDING, limit=50
        )
        assert [waiting.id for waiting in pending] == [command.id]
        await hosts.patch(command, "succeeded", result={"workspaceId": "w1"})
        assert hosts.status("w1") == "cleaned"


@pytest.mark.spec("W-62")
async def test_a_cleanup_that_no_host_can_do_is_refused_and_leaves_no_trace(fleet: Fleet) -> None:
    hosts = Hosts(fleet)
    await hosts.online("o3")
    await hosts.report(REPORTS["w1"])
    before = hosts.trace()
    with pytest.raises(Conflict, match="DELETE"):
        await hosts.act("w1", "cleanup")
    assert hosts.trace() == before


@pytest.mark.spec("W-63", "W-I20")
async def test_a_cleanup_prefers_the_host_that_is_there(fleet: Fleet) -> None:
    hosts = Hosts(fleet)
    await hosts.online("o0", base="/home/u")
    await trio.sleep(GONE_AFTER)
    await hosts.online("o1")
    await hosts.report(REPORTS["w1"])
    command = await hosts.command("w1", "cleanup")
    assert (command.target, command.params["queued"]) == ("orchestrator-o1", False)


@pytest.mark.spec("W-I20")
async def test_a_cleanup_prefers_the_host_that_made_the_worktree(fleet: Fleet) -> None:
    hosts = Hosts(fleet)
    for name in ("o1", "o2"):
        await hosts.online(name)
    for name in ("w1", "w2"):
        await hosts.report(REPORTS[name], host="o2")
    assert (await hosts.command("w1", "cleanup")).target == "orchestrator-o2"
    await trio.sleep(GONE_AFTER)
    command = await hosts.command("w2", "cleanup")
    assert (command.target, command.params["queued"]) == ("orchestrator-o2", True)


@pytest.mark.spec("W-64", "W-65")
@pytest.mark.parametrize(
    ("base", "source_cwd", "owned"),
    [
        ("/home/u", "/home/u2/repo", False),
        ("/home/u/", "/home/u/x/../repo", True),
        ("/home/u", None, False),
    ],
)
async def test_the_owner_is_found_by_the_normalised_path(
    fleet: Fleet, base: str, source_cwd: str | None, owned: bool
) -> None:
    hosts = Hosts(fleet)
    await hosts.online("o1", base=base)
    await hosts.report(owned_by(source_cwd))
    if owned:
        assert (await hosts.command("w1", "cleanup")).target == "orchestrator-o1"
    else:
        with pytest.raises(Conflict):
            await hosts.act("w1", "cleanup")


# -- the record goes


@pytest.mark.spec("W-67", "W-I27")
async def test_a_deleted_record_leaves_disk_lease_and_hosts_alone(hosts: Hosts, log: Log) -> None:
    await hosts.command("w2", "merge")
    held, made = hosts.leases(), len(log.events("command.requested"))
    before = hosts.row("w2")
    assert await hosts.remove("w2") == before
    assert hosts.status("w2") is None
    (record,) = log.audits("workspace-delete-w2-")
    assert (record["metadata"]["diskUntouched"], record["metadata"]["status"]) == (True, "merge_planned")
    assert log.events("workspace.changed")[-1]["data"] == {"id": "w2", "deleted": True}
    assert hosts.leases() == held
    assert len(log.events("command.requested")) == made
    with pytest.raises(NotFound):
        await hosts.remove("w2")
    assert len(log.audits("workspace-delete-w2-")) == 1


@pytest.mark.spec("W-I28")
async def test_of_many_deletes_one_finds_the_record(hosts: Hosts, log: Log) -> None:
    found: list[bool] = []

    async def remove() -> None:
        try:
            await hosts.remove("w1")
            found.append(True)
        except NotFound:
            found.append(False)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(remove)
    assert sorted(found) == [False] * 9 + [True]
    assert len(log.audits("workspace-delete-w1-")) == 1


# -- reconcile


async def reconcile(hosts: Hosts, **result: Any) -> wire.Command:
    """A `workspace.reconcile` of w1, reported as succeeded."""
    asked = wire.NewCommand(
        type="workspace.reconcile", source="system", target="orchestrator-o1", correlation_id="w1"
    )
    command = await commands.create_command(hosts.fleet, asked)
    return await hosts.patch(command, "succeeded", result={"workspaceId": "w1", **result})


@pytest.mark.spec("W-92")
async def test_a_reconcile_tells_what_the_host_found(hosts: Hosts) -> None:
    command = await reconcile(hosts, status="review_requested", removed=False)
    row = hosts.row("w1")
    assert row.status is S.REVIEW_REQUESTED
    assert row.metadata["reconcileCommandId"] == command.id
    assert row.metadata["reconcileResult"] == command.result
    assert row.metadata["reconciledAt"] == round((row.updated_at or 0) * 1000)


@pytest.mark.spec("W-93", "W-I17")
async def test_a_worktree_that_held_nothing_goes_for_good(hosts: Hosts, log: Log) -> None:
    await hosts.act("w1", "ready")
    command = await reconcile(hosts, status="cleaned", removed=True)
    assert hosts.status("w1") is None
    (record,) = log.audits("workspace-reconcile-removed-w1-")
    assert record["metadata"]["reconcileCommandId"] == command.id
    await hosts.patch(command, "succeeded")
    await reconcile(hosts, status="review_requested", removed=False)
    assert hosts.status("w1") is None


@pytest.mark.spec("W-94", "W-I13", "W-I14")
@pytest.mark.parametrize(
    "action", ["merge-plan", "abandon", "conflict-found", "request-review", "cleanup", "merge"]
)
async def test_a_later_decision_stands_against_a_reconcile(hosts: Hosts, log: Log, action: str) -> None:
    decided = (await hosts.act("w1", action)).workspace
    for removed in (True, False):
        await reconcile(hosts, status="cleaned", removed=removed)
    assert hosts.row("w1") == decided
    assert log.audits("workspace-reconcile-") == []


@pytest.mark.spec("W-95")
async def test_only_a_true_removed_deletes(hosts: Hosts) -> None:
    await reconcile(hosts, status="cleaned", removed="true")
    assert hosts.status("w1") == "cleaned"


@pytest.mark.spec("W-96", "W-97")
async def test_a_reconcile_that_failed_or_comes_too_late_changes_nothing(hosts: Hosts) -> None:
    asked = wire.NewCommand(
        type="workspace.reconcile", source="system", target="orchestrator-o1", correlation_id="w1"
    )
    failed = await commands.create_command(hosts.fleet, asked)
    before = hosts.row("w1")
    await hosts.patch(failed, "failed", error="x")
    assert hosts.row("w1") == before
    await hosts.remove("w1")
    await reconcile(hosts, status="cleaned", removed=True)
    assert hosts.status("w1") is None
    assert (await hosts.report(SHARED)).id == "ws"
