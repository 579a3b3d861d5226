"""Workspaces whose session is over: the host is asked what the worktree holds, once, and only while it matters."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from fleetlog import Log
from repositories import REPORTS, SHARED, Hosts

from relay import wire
from relay.actors import System
from relay.fleet import Fleet, agents, open_fleet, orchestrators, workspaces
from relay.store import Store

KIND = "workspace.reconcile"
W1 = REPORTS["w1"]


@pytest.fixture
async def hosts(fleet: Fleet) -> Hosts:
    hosts = Hosts(fleet)
    await hosts.online()
    return hosts


def at_work(workspace: wire.WorkspaceReport = W1, agent: str = "a1") -> wire.ManagedAgent:
    return wire.ManagedAgent(agent_id=agent, workspace=workspace)


def ended(agent: str = "a1", **given: Any) -> wire.ExitedAgent:
    return wire.ExitedAgent(agent_id=agent, detected_at=wire.Instant(5.0), **given)


async def roster(hosts: Hosts, *agents: wire.ManagedAgent, exits: tuple[wire.ExitedAgent, ...] = ()) -> None:
    report = orchestrators.ReportRoster(wire.Roster(agents=list(agents), exited_agents=list(exits)))
    await hosts.fleet.orchestrators["o1"].ask(report)


@pytest.mark.spec("W-93", "R-131", "R-I54")
async def test_the_end_of_a_session_makes_a_reconcile_for_its_host(hosts: Hosts, log: Log) -> None:
    await roster(hosts, at_work())
    assert hosts.commands(KIND) == []
    await roster(hosts)
    (command,) = hosts.commands(KIND)
    assert (command.source, command.target, command.correlation_id) == ("system", "orchestrator-o1", "w1")
    assert command.ttl_ms is None
    given = dict(command.params)
    assert given.pop("requestedAt") == round((command.created_at or 0) * 1000)
    assert given == {
        "action": "reconcile",
        "workspaceId": "w1",
        "repoRoot": W1.repo_root,
        "worktreePath": W1.worktree_path,
        "branch": "agent/a/w1",
        "baseRef": "main",
        "baseSha": "b0",
        "requestedBy": "system",
        "deleteBranch": True,
        "queued": False,
    }
    assert hosts.status("w1") == "active"
    assert log.audits("workspace-") == []
    result = {"workspaceId": "w1", "status": "cleaned", "removed": True}
    await hosts.patch(command, "succeeded", result=result)
    assert hosts.status("w1") is None
    await roster(hosts, exits=(ended(workspace=W1),))
    assert hosts.status("w1") is None


@pytest.mark.spec("W-92", "R-132")
async def test_what_the_host_finds_there_becomes_the_status(hosts: Hosts) -> None:
    await roster(hosts, at_work())
    await hosts.act("w1", "ready")
    await roster(hosts)
    (command,) = hosts.commands(KIND)
    result = {"workspaceId": "w1", "status": "review_requested", "removed": False}
    await hosts.patch(command, "succeeded", result=result)
    assert hosts.status("w1") == "review_requested"
    await roster(hosts, at_work())
    await roster(hosts)
    assert len(hosts.commands(KIND)) == 1


async def test_a_session_that_goes_on_is_not_over(hosts: Hosts) -> None:
    await roster(hosts, at_work())
    await roster(hosts, at_work(), exits=(ended(restarted=True, workspace=W1),))
    await roster(hosts, at_work(agent="a2"), exits=(ended(workspace=W1),))
    await hosts.online()
    assert hosts.commands(KIND) == []


async def test_a_host_that_is_silent_has_said_nothing(hosts: Hosts) -> None:
    await roster(hosts, at_work())
    await trio.sleep(3_600)
    assert hosts.commands(KIND) == []


async def test_a_repeated_report_asks_no_second_time(hosts: Hosts) -> None:
    await roster(hosts, at_work())
    for _ in range(3):
        await roster(hosts, exits=(ended(workspace=W1),))
    (command,) = hosts.commands(KIND)
    for status in ("accepted", "running"):
        await hosts.patch(command, status)
        await roster(hosts, exits=(ended(workspace=W1),))
    assert len(hosts.commands(KIND)) == 1


async def test_a_chain_cut_by_a_crash_goes_on_where_it_was(system: System, store: Store) -> None:
    """The workspace was told, and the server died before it had the roster on record."""
    async with open_fleet(system, store) as fleet:
        hosts = Hosts(fleet)
        await hosts.online()
        await roster(hosts, at_work())
        await fleet.workspaces["w1"].ask(workspaces.Vacate("a1", "o1"))
    async with open_fleet(system, store) as fleet:
        hosts = Hosts(fleet)
        await hosts.online()
        await roster(hosts)
        assert len(hosts.commands(KIND)) == 1


async def test_a_session_that_ended_before_any_roster_is_heard_of_by_its_end(hosts: Hosts) -> None:
    await hosts.fleet.agents["a1"].ask(agents.Register(wire.RegisterAgent(id="a1")))
    await roster(hosts, exits=(ended(workspace=W1),))
    assert hosts.status("w1") == "active"
    assert len(hosts.commands(KIND)) == 1
    await hosts.remove("w1")
    await roster(hosts, exits=(ended(workspace=W1),))
    assert hosts.status("w1") is None


@pytest.mark.spec("W-I14", "W-94")
@pytest.mark.parametrize(
    "action", ["conflict-found", "request-review", "merge-plan", "abandon", "cleanup", "merge"]
)
async def test_a_decision_made_before_needs_no_reconcile(hosts: Hosts, action: str) -> None:
    await roster(hosts, at_work())
    await hosts.act("w1", action)
    await roster(hosts)
    assert hosts.commands(KIND) == []


@pytest.mark.spec("W-I21")
@pytest.mark.parametrize(
    "workspace",
    [
        SHARED,
        attrs.evolve(W1, worktree_path=None),
        attrs.evolve(W1, repo_root=None),
    ],
)
async def test_without_a_worktree_there_is_nothing_to_ask(
    hosts: Hosts, workspace: wire.WorkspaceReport
) -> None:
    await roster(hosts, at_work(workspace))
    await roster(hosts)
    assert hosts.commands(KIND) == []


async def test_only_the_owner_at_its_own_host_leaves_a_workspace_vacant(hosts: Hosts) -> None:
    await roster(hosts, at_work())
    await hosts.report(W1, "a2")
    await roster(hosts)
    await hosts.report(REPORTS["w2"], "a1", host="o2")
    await roster(hosts, at_work(REPORTS["w2"]))
    await roster(hosts)
    assert hosts.commands(KIND) == []


@pytest.mark.spec("W-96")
async def test_a_reconcile_that_failed_is_asked_for_again_when_the_session_ends_again(hosts: Hosts) -> None:
    await roster(hosts, at_work())
    await roster(hosts)
    await hosts.patch(hosts.commands(KIND)[0], "failed", error="a1 works in it")
    await roster(hosts)
    assert (len(hosts.commands(KIND)), hosts.status("w1")) == (1, "active")
    await roster(hosts, at_work())
    await roster(hosts)
    assert len(hosts.commands(KIND)) == 2
