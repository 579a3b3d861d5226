"""Merges: the lease of a repository, the chain that takes it, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from fleetlog import Log
from repositories import GONE_AFTER, REPORTS, Hosts, at_work

from relay import wire
from relay.actors import ActorFailed, System
from relay.fleet import (
    Conflict,
    Fleet,
    Invalid,
    NotFound,
    Unprocessable,
    commands,
    merges,
    open_fleet,
    orchestrators,
    workspaces,
)
from relay.fleet._moment import Moment
from relay.fleet._workspace_actions import plan_merge
from relay.store import Conflict as FenceLost, Owner, Store, Write, open_store

REPO, OTHER = "/home/u/repo", "/home/u/other"
TTL = merges.TERM - 60
S = wire.WorkspaceStatus
ENDS = ["succeeded", "failed", "timed_out", "rejected", "canceled"]


@pytest.fixture
async def hosts(fleet: Fleet) -> Hosts:
    return await at_work(fleet)


@pytest.fixture
async def command(hosts: Hosts) -> wire.Command:
    """The running merge of w1 that many scenarios begin with (W-69)."""
    return await hosts.command("w1", "merge")


async def refused(hosts: Hosts, workspace: str, **body: Any) -> str:
    """Asks for a merge that is refused without a trace (W-I3); the reason."""
    before = hosts.trace()
    with pytest.raises(Conflict) as refusal:
        await hosts.act(workspace, "merge", **body)
    assert hosts.trace() == before
    return str(refusal.value)


async def alter(store: Store, sql: str) -> None:
    """Change the database under the fleet."""
    done: list[BaseException | None] = []
    store.stage([Write(sql)], [], Owner(), done.append)
    await trio.testing.wait_all_tasks_blocked()
    assert done == [None]


# -- dispatch


@pytest.mark.spec("W-69", "W-I6", "W-I50")
async def test_a_merge_plans_the_row_and_sends_a_command_bound_to_the_lease(hosts: Hosts, log: Log) -> None:
    acted = await hosts.act("w1", "merge", agent_id="a1", detail="please", metadata={"k": 1})
    command = acted.command
    assert command is not None
    assert (command.type, command.source, command.target) == ("workspace.merge", "system", "orchestrator-o1")
    assert (command.correlation_id, command.ttl_ms) == ("w1", round(TTL * 1000))
    given = dict(command.params)
    assert given.pop("requestedAt") == round((command.created_at or 0) * 1000)
    assert given == {
        "action": "merge",
        "workspaceId": "w1",
        "repoRoot": REPO,
        "worktreePath": REPORTS["w1"].worktree_path,
        "branch": "agent/a/w1",
        "baseRef": "main",
        "baseSha": "b0",
        "strategy": "auto",
        "deleteBranch": True,
        "requestedBy": "a1",
        "leaseToken": hosts.leases()[REPO].token,
    }
    assert hosts.row("w1") == acted.workspace
    assert acted.workspace.status is S.MERGE_PLANNED
    assert acted.workspace.metadata == {"k": 1, "detail": "please", "updatedByAgentId": "a1"}
    lease = hosts.leases()[REPO]
    assert (lease.workspace_id, lease.command_id, lease.holder) == ("w1", command.id, "a1")
    assert lease.expires_at - lease.acquired_at == merges.TERM
    assert log.types(audits=True)[-3:] == ["workspace.changed", "command.requested", "activity.created"]
    (record,) = log.audits("workspace-merge-w1-")
    assert (record["icon"], record["body"], record["meta"]) == ("ti-git-merge", "please", "agent/a/w1")
    assert record["metadata"]["commandId"] == command.id


@pytest.mark.spec("W-75")
async def test_what_was_asked_for_is_handed_on(hosts: Hosts) -> None:
    body = {"strategy": wire.Strategy.PR, "delete_branch": False, "pr_title": "t", "pr_body": "b"}
    params = (await hosts.command("w1", "merge", **body)).params
    assert [params[name] for name in ("strategy", "deleteBranch", "prTitle", "prBody")] == [
        "pr",
        False,
        "t",
        "b",
    ]
    assert params["requestedBy"] == "dashboard"
    zero = wire.decode(wire.WorkspaceAction, {"action": "merge", "deleteBranch": 0})
    assert zero.delete_branch is True


@pytest.mark.spec("W-70", "W-72", "W-I3", "M-I29")
async def test_a_busy_repository_refuses_others_and_the_same_workspace(
    hosts: Hosts, command: wire.Command
) -> None:
    assert "w1" in await refused(hosts, "w2")
    assert "merge_planned" not in await refused(hosts, "w1")
    assert [found.id for found in hosts.commands()] == [command.id]


@pytest.mark.spec("W-71", "W-I10")
async def test_another_repository_is_not_concerned(hosts: Hosts, command: wire.Command) -> None:
    other = await hosts.command("w3", "merge")
    assert {lease.command_id for lease in hosts.leases().values()} == {command.id, other.id}


async def test_two_spellings_of_a_root_are_one_repository(hosts: Hosts, command: wire.Command) -> None:
    report = attrs.evolve(REPORTS["w2"], id="w4", repo_root="/home/u/./x/../repo/")
    await hosts.report(report)
    assert "w1" in await refused(hosts, "w4")
    await hosts.patch(command, "failed")
    await hosts.patch(await hosts.command("w4", "merge"), "failed")
    assert hosts.leases() == {}


@pytest.mark.spec("W-73", "W-I3", "W-I18")
async def test_without_a_host_there_is_no_merge_and_none_is_queued(hosts: Hosts) -> None:
    await trio.sleep(GONE_AFTER)
    await refused(hosts, "w1")
    assert hosts.leases() == {}
    await hosts.online("o3")
    await refused(hosts, "w1")
    await hosts.online("o1")
    assert hosts.commands() == []
    assert (await hosts.command("w1", "merge")).target == "orchestrator-o1"


@pytest.mark.spec("W-I18")
async def test_a_merge_goes_to_the_host_that_made_the_worktree(fleet: Fleet) -> None:
    hosts = Hosts(fleet)
    for name in ("o1", "o2"):
        await hosts.online(name)
    for name in ("w1", "w3"):
        await hosts.report(REPORTS[name], host="o2")
    assert (await hosts.command("w1", "merge")).target == "orchestrator-o2"
    await hosts.leave("o2")
    await hosts.fleet.system.idle()
    assert (await hosts.command("w3", "merge")).target == "orchestrator-o1"


@pytest.mark.spec("W-I18")
async def test_the_host_that_made_the_worktree_must_still_own_its_directory(fleet: Fleet) -> None:
    hosts = Hosts(fleet)
    await hosts.online("o1")
    await hosts.online("o2", base="/srv")
    await hosts.report(REPORTS["w1"], host="o2")
    assert (await hosts.command("w1", "merge")).target == "orchestrator-o1"


@pytest.mark.parametrize("status", ["merged", "abandoned", "cleaned", "cleanup_requested"])
async def test_what_is_over_is_not_merged(hosts: Hosts, command: wire.Command, status: str) -> None:
    await hosts.patch(command, "succeeded", result={"workspaceId": "w1", "status": status})
    assert status in await refused(hosts, "w1")


async def test_a_worktree_of_no_repository_is_not_merged(hosts: Hosts) -> None:
    await hosts.report(attrs.evolve(REPORTS["w1"], id="w4", repo_root=None))
    before = hosts.trace()
    with pytest.raises(Unprocessable):
        await hosts.act("w4", "merge")
    assert hosts.trace() == before


@pytest.mark.spec("W-87", "W-I1", "W-I2", "W-I3")
async def test_of_fifty_merges_of_one_repository_one_starts(fleet: Fleet, log: Log) -> None:
    hosts = Hosts(fleet)
    await hosts.online()
    names = [f"w{number}" for number in range(50)]
    answers = await race(hosts, [attrs.evolve(REPORTS["w1"], id=name) for name in names])
    assert sorted(answers) == [202] + [409] * 49
    (command,) = hosts.commands()
    (lease,) = hosts.leases().values()
    assert (lease.workspace_id, lease.command_id) == (command.correlation_id, command.id)
    assert [name for name in names if hosts.status(name) == "merge_planned"] == [command.correlation_id]
    assert len(log.audits("workspace-merge-")) == 1


@pytest.mark.spec("W-88", "W-I10")
async def test_fifty_merges_of_fifty_repositories_all_start(fleet: Fleet) -> None:
    hosts = Hosts(fleet)
    await hosts.online()
    reports = [
        attrs.evolve(REPORTS["w1"], id=f"w{number}", repo_root=f"/home/u/r{number}") for number in range(50)
    ]
    assert await race(hosts, reports) == [202] * 50
    assert len(hosts.leases()) == len(hosts.commands()) == 50


async def race(hosts: Hosts, reports: Sequence[wire.WorkspaceReport]) -> list[int]:
    """All of them are asked to merge at once; the answers' status codes."""
    answers: list[int] = []
    for report in reports:
        await hosts.report(report)

    async def merge(name: str) -> None:
        try:
            await hosts.act(name, "merge")
            answers.append(202)
        except Conflict:
            answers.append(409)

    async with trio.open_nursery() as nursery:
        for report in reports:
            nursery.start_soon(merge, report.id)
    return answers


@pytest.mark.spec("W-I4")
async def test_whoever_hears_of_a_planned_merge_finds_the_lease(hosts: Hosts) -> None:
    log, cursor = hosts.store.events, hosts.store.events.last_id
    seen: list[str] = []

    async def listen() -> None:
        nonlocal cursor
        while len(seen) < 2:
            for event in await log.read_after(cursor, 1):
                cursor = event.id
                if event.type == "workspace.changed" and b"merge_planned" in event.data:
                    assert REPO in hosts.leases()
                    seen.append(str(event.subject))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await hosts.patch(await hosts.command("w1", "merge"), "failed")
        await hosts.command("w2", "merge")
    assert seen == ["w1", "w2"]


# -- what goes wrong on the way


@pytest.mark.spec("W-86", "W-I3", "W-I5")
async def test_a_merge_whose_command_cannot_be_written_frees_the_lease_before_the_answer(
    hosts: Hosts,
) -> None:
    full = "create trigger full before insert on commands begin select raise(abort, 'disk full'); end"
    await alter(hosts.store, full)
    before = hosts.trace()
    with pytest.raises(ActorFailed):
        await hosts.act("w1", "merge")
    assert hosts.trace() == before
    await alter(hosts.store, "drop trigger full")
    assert (await hosts.act("w2", "merge")).workspace.status is S.MERGE_PLANNED
    await hosts.patch(hosts.commands()[0], "failed")
    assert (await hosts.act("w1", "merge")).workspace.status is S.MERGE_PLANNED


@pytest.mark.spec("W-I3", "W-I5", "W-I8")
async def test_a_merge_that_loses_its_lease_on_the_way_comes_to_nothing(hosts: Hosts) -> None:
    thief = "create trigger thief after insert on merge_leases begin delete from merge_leases; end"
    await alter(hosts.store, thief)
    assert "lost" in await refused(hosts, "w1")
    await alter(hosts.store, "drop trigger thief")
    await trio.sleep(merges.TERM)
    await hosts.online()
    await hosts.command("w1", "merge")


@pytest.mark.spec("W-I8", "W-I48")
async def test_a_lease_that_was_taken_over_binds_nothing(hosts: Hosts, log: Log) -> None:
    slow = await hosts.fleet.leases[REPO].ask(merges.Acquire("w1", "a1", "cmd_slow"))
    await trio.sleep(merges.TERM)
    await hosts.online()
    command = await hosts.command("w2", "merge")
    moment = Moment.now(hosts.fleet.system, hosts.store)
    action = wire.WorkspaceAction(action=wire.WorkspaceVerb.MERGE)
    owner = wire.Orchestrator(id="o1", agent_id="orchestrator-o1", hostname="h", base_dir="/home/u")
    _, decision = plan_merge(hosts.row("w1"), workspaces.Act(action), owner, slow, moment)
    before = hosts.trace()
    done: list[BaseException | None] = []
    hosts.store.stage(decision.writes, decision.events, Owner(), done.append)
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(done[0], FenceLost)
    assert hosts.trace() == before
    assert hosts.leases()[REPO].command_id == command.id


@pytest.mark.spec("W-I5")
async def test_a_merge_whose_actor_is_stopped_before_dispatch_leaves_no_lease(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        hosts = await at_work(fleet)
        lost = await fleet.leases[REPO].ask(merges.Acquire("w1", "a1", "cmd_never"))
        assert "w1" in await refused(hosts, "w2")
    async with open_fleet(system, store) as fleet:
        hosts = Hosts(fleet)
        await system.idle()
        assert hosts.leases() == {}
        await hosts.online()
        assert (await hosts.command("w2", "merge")).params["leaseToken"] > lost.token


# -- the host goes away


async def goes_away(hosts: Hosts, how: str) -> None:
    if how == "silence":
        await trio.sleep(GONE_AFTER)
    elif how == "goodbye":
        await hosts.leave()
    else:
        await hosts.fleet.orchestrators["o1"].ask(orchestrators.Remove())
    await hosts.fleet.system.idle()


@pytest.mark.spec("W-I18", "W-I9", "W-I15")
@pytest.mark.parametrize("how", ["silence", "goodbye", "removed"])
async def test_a_merge_that_nobody_has_begun_ends_with_its_host(
    hosts: Hosts, command: wire.Command, how: str
) -> None:
    await goes_away(hosts, how)
    ended = commands.get_command(hosts.store, command.id)
    assert ended.status is wire.CommandStatus.FAILED
    assert ended.error is not None
    assert ended.error.startswith("host o1 went offline before it began")
    assert hosts.leases() == {}
    row = hosts.row("w1")
    assert (row.status, row.metadata["mergeError"]) == (S.REVIEW_REQUESTED, ended.error)
    await hosts.online()
    assert (await hosts.command("w1", "merge")).status is wire.CommandStatus.PENDING


@pytest.mark.parametrize("how", ["silence", "goodbye", "removed"])
@pytest.mark.parametrize("status", ["accepted", "running"])
async def test_a_merge_that_was_begun_outlives_the_silence_of_its_host(
    hosts: Hosts, command: wire.Command, how: str, status: str
) -> None:
    await hosts.patch(command, status)
    await goes_away(hosts, how)
    assert commands.get_command(hosts.store, command.id).status == status
    assert hosts.leases()[REPO].command_id == command.id
    await hosts.patch(command, "succeeded", result={"workspaceId": "w1", "status": "merged"})
    assert hosts.status("w1") == "merged"


@pytest.mark.spec("W-I19")
async def test_a_cleanup_waits_also_for_a_host_that_said_goodbye(hosts: Hosts) -> None:
    command = await hosts.command("w1", "cleanup")
    await goes_away(hosts, "goodbye")
    assert commands.get_command(hosts.store, command.id).status is wire.CommandStatus.PENDING


@pytest.mark.spec("W-I18", "W-I5")
@pytest.mark.parametrize("steps", range(12))
async def test_a_host_that_leaves_while_a_merge_is_sent_to_it_leaves_none_behind(
    hosts: Hosts, steps: int
) -> None:
    async def ask() -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        with suppress(Conflict):
            await hosts.act("w1", "merge")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        await hosts.leave()
    await hosts.fleet.system.idle()
    assert all(found.status.final for found in hosts.commands())
    assert hosts.leases() == {}
    assert hosts.status("w1") in {"active", "review_requested"}


async def test_a_server_that_died_while_a_host_left_ends_its_merges_later(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        hosts = await at_work(fleet)
        command = await hosts.command("w1", "merge")
    gone = "json_set(record, '$.status', 'offline')"
    await alter(store, f"update orchestrators set status = 'offline', record = {gone}")
    async with open_fleet(system, store) as fleet:
        await system.idle()
        assert commands.get_command(store, command.id).status is wire.CommandStatus.FAILED
        assert Hosts(fleet).leases() == {}


# -- settlement


@pytest.mark.spec("W-76")
async def test_progress_changes_neither_row_nor_lease(hosts: Hosts, command: wire.Command) -> None:
    row, leases = hosts.row("w1"), hosts.leases()
    for status in ("accepted", "running", "running"):
        await hosts.patch(command, status, result={"percent": 10})
    assert (hosts.row("w1"), hosts.leases()) == (row, leases)


@pytest.mark.spec("W-77", "W-78", "W-79", "W-I6")
@pytest.mark.parametrize("status", ["merged", "conflict", "merge_planned", "active", "review_requested"])
async def test_a_success_is_a_fact(hosts: Hosts, command: wire.Command, status: str) -> None:
    result = {"workspaceId": "w1", "status": status, "mergedSha": "c1"}
    await hosts.patch(command, "succeeded", result=result)
    row = hosts.row("w1")
    assert row.status == status
    assert (row.metadata["mergeResult"], row.metadata["mergeCommandId"]) == (result, command.id)
    assert row.metadata["mergedAt"] == round((row.updated_at or 0) * 1000)
    assert hosts.leases() == {}
    assert (await hosts.act("w2", "merge")).workspace.status is S.MERGE_PLANNED


async def test_a_success_counts_whatever_was_decided_meanwhile(hosts: Hosts, command: wire.Command) -> None:
    await hosts.act("w1", "abandon")
    await hosts.patch(command, "succeeded", result={"workspaceId": "w1", "status": "merged"})
    assert hosts.status("w1") == "merged"


@pytest.mark.spec("W-80", "W-82", "W-I15")
@pytest.mark.parametrize("error", ["x", None])
async def test_a_failure_goes_to_review_with_its_reason(
    hosts: Hosts, command: wire.Command, error: str | None
) -> None:
    await hosts.patch(command, "failed", error=error)
    row = hosts.row("w1")
    assert row.status is S.REVIEW_REQUESTED
    assert row.metadata["mergeCommandId"] == command.id
    assert row.metadata["mergeError"] == error if error else row.metadata["mergeError"]
    assert hosts.leases() == {}


@pytest.mark.parametrize(
    ("reported", "status"),
    [
        ("conflict", "conflict"),
        ("cleaned", "cleaned"),
        ("merged", "review_requested"),
        (None, "review_requested"),
    ],
)
async def test_a_failure_may_say_what_became_of_the_workspace(
    hosts: Hosts, command: wire.Command, reported: str | None, status: str
) -> None:
    result = {"workspaceId": "w1"} | ({"status": reported} if reported else {})
    await hosts.patch(command, "failed", error="x", result=result)
    assert hosts.status("w1") == status
    assert hosts.row("w1").metadata["mergeResult"] == result


@pytest.mark.spec("W-81", "W-I12")
@pytest.mark.parametrize("action", ["abandon", "ready", "conflict-found", "cleanup"])
async def test_a_failure_changes_nothing_that_was_decided_meanwhile(
    hosts: Hosts, command: wire.Command, action: str
) -> None:
    decided = (await hosts.act("w1", action)).workspace
    await hosts.patch(command, "failed")
    assert hosts.row("w1") == decided
    assert hosts.leases() == {}


@pytest.mark.spec("W-83", "W-I16")
async def test_a_repeated_failure_settles_nothing_again(
    hosts: Hosts, command: wire.Command, log: Log
) -> None:
    await hosts.patch(command, "failed", error="x")
    for action in ("ready", "merge-plan"):
        decided = (await hosts.act("w1", action)).workspace
        before = log.events()
        await hosts.patch(command, "failed", error="x")
        assert hosts.row("w1") == decided
        assert log.events() == before


@pytest.mark.spec("W-84", "W-I7")
async def test_a_repeated_success_frees_no_later_lease(hosts: Hosts, command: wire.Command) -> None:
    result = {"workspaceId": "w1", "status": "merged"}
    await hosts.patch(command, "succeeded", result=result)
    later = await hosts.command("w2", "merge")
    await hosts.patch(command, "succeeded", result=result)
    await hosts.fleet.leases[REPO].ask(merges.Release(command.id))
    assert hosts.leases()[REPO].command_id == later.id


@pytest.mark.spec("W-85", "W-I7", "W-I9", "W-I48")
async def test_a_host_that_died_blocks_its_repository_only_for_a_while(
    hosts: Hosts, command: wire.Command
) -> None:
    await hosts.patch(command, "running")
    await trio.sleep(merges.TERM)
    assert hosts.status("w1") == "review_requested"
    await hosts.online()
    later = await hosts.command("w2", "merge")
    with pytest.raises(Conflict):
        await hosts.patch(command, "failed")
    assert hosts.leases()[REPO].command_id == later.id


@pytest.mark.spec("W-89", "W-I9")
async def test_a_merge_of_a_deleted_workspace_ends_quietly(hosts: Hosts, command: wire.Command) -> None:
    await hosts.remove("w1")
    assert REPO in hosts.leases()
    await hosts.patch(command, "succeeded", result={"workspaceId": "w1", "status": "merged"})
    assert hosts.status("w1") is None
    assert hosts.leases() == {}


@pytest.mark.spec("W-90", "W-I9")
async def test_a_canceled_merge_frees_the_lease(hosts: Hosts, command: wire.Command) -> None:
    await hosts.cancel(command)
    assert commands.get_command(hosts.store, command.id).status is wire.CommandStatus.CANCELED
    assert hosts.leases() == {}
    assert hosts.status("w1") == "review_requested"


@pytest.mark.spec("W-I9")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("result", [None, {"workspaceId": "w2", "status": "merged"}, {"removed": 3}])
@pytest.mark.parametrize("gone", [True, False])
async def test_every_end_frees_the_lease(
    hosts: Hosts, command: wire.Command, end: str, result: dict[str, Any] | None, gone: bool
) -> None:
    if gone:
        await hosts.remove("w1")
    await hosts.patch(command, end, result=result)
    assert hosts.leases() == {}
    assert hosts.status("w2") == "active"


@pytest.mark.spec("W-I9", "W-I15")
async def test_a_malformed_result_of_the_past_does_not_keep_a_merge_from_ending(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        command = await (await at_work(fleet)).command("w1", "merge")
    odd = "json_set(record, '$.result', json('{\"workspaceId\": 7}'))"
    await alter(store, f"update commands set record = {odd}")
    async with open_fleet(system, store) as fleet:
        hosts = Hosts(fleet)
        assert hosts.commands()[0].result == {"workspaceId": 7}
        await hosts.cancel(command)
        assert hosts.leases() == {}
        assert hosts.status("w1") == "review_requested"


@pytest.mark.spec("M-I29", "H-07")
async def test_a_malformed_result_is_refused_also_as_progress(hosts: Hosts, command: wire.Command) -> None:
    before = hosts.trace()
    with pytest.raises(Invalid):
        await hosts.patch(command, "running", result={"workspaceId": 7})
    assert hosts.trace() == before


# -- the lease itself


@pytest.mark.spec("W-I7", "W-I48")
async def test_tokens_only_grow_and_a_lease_is_freed_by_its_command_alone(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        lease = fleet.leases["/r"]
        first = await lease.ask(merges.Acquire("w1", "a1", "c1"))
        tokens = [first.token]
        assert (first.repo_root, first.holder) == ("/r", "a1")
        with pytest.raises(Conflict, match="w1"):
            await lease.ask(merges.Acquire("w1", "a1", "c2"))
        assert await lease.ask(merges.Release("c2")) is False
        assert await lease.ask(merges.Release("c1")) is True
        assert await lease.ask(merges.Release("c1")) is False
        tokens.append((await lease.ask(merges.Acquire("w2", "a2", "c3"))).token)
        await trio.sleep(merges.TERM)
        tokens.append((await lease.ask(merges.Acquire("w1", "a1", "c4"))).token)
        assert await lease.ask(merges.Release("c3")) is False
        await fleet.leases["/s"].ask(merges.Acquire("w1", "a1", "c5"))
        assert [found.repo_root for found in merges.list_leases(store, system.wall())] == ["/r", "/s"]
        await lease.ask(merges.Release("c4"))
    async with open_fleet(system, store) as fleet:
        tokens.append((await fleet.leases["/r"].ask(merges.Acquire("w1", "a1", "c6"))).token)
    assert tokens == sorted(set(tokens))


@pytest.mark.spec("W-I48")
async def test_tokens_grow_over_databases(system: System) -> None:
    """A repository keeps the newest token it has seen, also when relay begins with a new database."""
    tokens = []
    for _ in range(2):
        async with open_store(None, system) as store, open_fleet(system, store) as fleet:
            for number in range(3):
                lease = await fleet.leases["/r"].ask(merges.Acquire("w1", "a1", f"c{number}"))
                tokens.append(lease.token)
                await fleet.leases["/r"].ask(merges.Release(f"c{number}"))
        await trio.sleep(1)
    assert tokens == sorted(set(tokens))


@pytest.mark.spec("W-I48")
async def test_an_expired_lease_counts_nowhere(fleet: Fleet) -> None:
    await fleet.leases["/r"].ask(merges.Acquire("w1", "a1", "c1"))
    now = fleet.system.wall()
    assert len(merges.list_leases(fleet.store, now + merges.TERM - 1)) == 1
    assert merges.list_leases(fleet.store, now + merges.TERM) == []
    await trio.sleep(merges.TERM + 1)
    assert fleet.store.rows("select * from merge_leases") == []


@pytest.mark.spec("W-I49", "W-I6")
async def test_a_lease_goes_on_after_a_restart_for_what_was_left_of_it(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        hosts = await at_work(fleet)
        command = await hosts.command("w1", "merge")
        lease = hosts.leases()[REPO]
    await trio.sleep(600)
    async with open_fleet(system, store) as fleet:
        hosts = Hosts(fleet)
        await hosts.online()
        assert hosts.leases() == {REPO: lease}
        assert "w1" in await refused(hosts, "w2")
        await hosts.patch(command, "succeeded", result={"workspaceId": "w1", "status": "merged"})
        assert hosts.leases() == {}
        assert (await hosts.command("w2", "merge")).params["leaseToken"] > lease.token


@pytest.mark.spec("W-I5", "W-I48", "W-I49")
async def test_a_lease_that_expired_while_the_server_was_away_is_free(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        command = await (await at_work(fleet)).command("w1", "merge")
    await trio.sleep(merges.TERM)
    async with open_fleet(system, store) as fleet:
        hosts = Hosts(fleet)
        await hosts.online()
        later = await hosts.command("w2", "merge")
        await hosts.patch(command, "failed")
        assert hosts.leases()[REPO].command_id == later.id
        assert hosts.status("w1") == "review_requested"


@pytest.mark.spec("W-I3")
async def test_an_unknown_workspace_takes_no_lease(hosts: Hosts) -> None:
    before = hosts.trace()
    with pytest.raises(NotFound):
        await hosts.act("none", "merge")
    assert hosts.trace() == before
