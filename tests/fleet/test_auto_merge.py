"""Workspaces that are ready are landed without anybody asking, if the steward's configuration wants that."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from repositories import REPORTS, Hosts, at_work

from relay import wire
from relay.fleet import Fleet, config, jobs, workspaces

Outcome = wire.JobOutcome


@pytest.fixture
async def hosts(fleet: Fleet) -> Hosts:
    return await at_work(fleet)


async def configure(hosts: Hosts, **value: Any) -> None:
    await config.set_value(hosts.fleet, "steward", "global", value, "user")


async def run(hosts: Hosts) -> wire.Job:
    return await jobs.run_job(hosts.fleet, "auto-merge", None)


@pytest.mark.spec("W-91", "W-I3")
async def test_a_repository_that_is_busy_has_its_turn_later(hosts: Hosts) -> None:
    await configure(hosts, enabled=True, autoMerge=True)
    merge = await hosts.command("w2", "merge")
    await hosts.act("w1", "ready")
    audits = hosts.store.row("select count(*) from activity where client_id like 'workspace-merge%'")
    assert (await run(hosts)).report == {"started": 0}
    assert (hosts.status("w1"), hosts.commands()) == ("ready", [merge])
    assert hosts.store.row("select count(*) from activity where client_id like 'workspace-merge%'") == audits
    await hosts.patch(merge, "succeeded", result={"workspaceId": "w2", "status": "merged"})
    assert (await run(hosts)).report == {"started": 1, "workspaceIds": ["w1"]}
    assert hosts.status("w1") == "merge_planned"


@pytest.mark.spec("W-I11", "W-I1")
async def test_of_each_repository_the_longest_unchanged_is_landed_as_a_person_would(hosts: Hosts) -> None:
    await configure(hosts, enabled=True, autoMerge=True, strategy="rebase-ff", deleteBranch=False)
    for workspace in ("w2", "w1", "w3"):
        await hosts.act(workspace, "ready")
        await trio.sleep(1)
    assert (await run(hosts)).report == {"started": 2, "workspaceIds": ["w2", "w3"]}
    made = hosts.commands()
    assert [command.correlation_id for command in made] == ["w2", "w3"]
    for command in made:
        lease = hosts.leases()[command.params["repoRoot"]]
        assert (lease.command_id, lease.holder) == (command.id, "auto-merge")
        said = {
            name: command.params[name] for name in ("requestedBy", "strategy", "deleteBranch", "leaseToken")
        }
        assert said == {
            "requestedBy": "auto-merge",
            "strategy": "rebase-ff",
            "deleteBranch": False,
            "leaseToken": lease.token,
        }
    assert hosts.status("w1") == "ready"


@pytest.mark.parametrize("value", [None, {"enabled": False, "autoMerge": True}, {"enabled": True}])
async def test_nothing_is_landed_unless_somebody_wants_it(hosts: Hosts, value: Any) -> None:
    if value is not None:
        await configure(hosts, **value)
    await hosts.act("w1", "ready")
    assert (await run(hosts)).last_outcome is Outcome.SKIPPED
    assert hosts.status("w1") == "ready"


@pytest.mark.spec("W-I18", "W-I21")
async def test_what_cannot_be_merged_is_passed_over(hosts: Hosts) -> None:
    await configure(hosts, enabled=True, autoMerge=True)
    shared = attrs.evolve(REPORTS["w1"], id="w9", mode=wire.WorkspaceMode.SHARED)
    await hosts.fleet.workspaces["w9"].ask(workspaces.Report(shared, "a1", "o1"))
    for workspace in ("w9", "w1"):
        await hosts.act(workspace, "ready")
    await hosts.leave()
    assert (await run(hosts)).report == {"started": 0}
    await hosts.online()
    assert (await run(hosts)).report == {"started": 1, "workspaceIds": ["w1"]}
