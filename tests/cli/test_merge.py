"""`relay merge`: what the host says of a merge reaches the person, also while it says nothing."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio
from shell import PATIENCE, Run, Served, answer, relay, started

from relay import wire
from relay.client import Client, open_client

T = TypeVar("T")

numbers = itertools.count(1)


@attrs.frozen
class Host:
    """What a host with one workspace does, by hand."""

    server: Served
    id: str
    workspace: str
    base_dir: Path

    def tell(self, what: Callable[[Client], Awaitable[T]]) -> T:
        async def told() -> T:
            token = (self.server.home / "token").read_text().strip()
            async with open_client(self.server.url, token) as client:
                with trio.fail_after(PATIENCE):
                    return await what(client)

        return trio.run(told)

    def register(self) -> None:
        card = wire.RegisterOrchestrator(id=self.id, hostname="h", base_dir=str(self.base_dir))
        report = wire.WorkspaceReport(
            id=self.workspace,
            mode=wire.WorkspaceMode.ISOLATED,
            repo_root=str(self.base_dir / "repo"),
            source_cwd=str(self.base_dir / "repo"),
            worktree_path=str(self.base_dir / "tree"),
            branch="agent/a/b",
            base_ref="main",
        )
        roster = wire.Roster(agents=[wire.ManagedAgent(agent_id="a", workspace=report)])

        async def both(client: Client) -> None:
            await client.register_orchestrator(card)
            await client.report_roster(self.id, roster)

        self.tell(both)

    async def pending(self, client: Client) -> wire.Command:
        """The merge that was asked for."""
        while True:
            status = wire.CommandStatus.PENDING
            for command in await client.commands(target=f"orchestrator-{self.id}", status=status):
                return command
            await trio.sleep(0.02)

    def reports(self, end: str, result: dict[str, Any], error: str | None) -> None:
        async def report(client: Client) -> None:
            command = await self.pending(client)
            change = wire.PatchCommand(status=wire.CommandStatus(end), result=result, error=error)
            await client.patch_command(command.id, change)

        self.tell(report)

    def merging(self, run: Run, end: str, *options: str, error: str | None = None, **result: Any) -> Any:
        """The outcome of `relay merge` when the host reports this."""
        told = {"workspaceId": self.workspace, "branch": "agent/a/b", "baseRef": "main", **result}
        with ThreadPoolExecutor(1) as threads:
            ended = threads.submit(self.reports, end, told, error)
            outcome = run("merge", self.workspace, *options)
            ended.result()
        return outcome


@pytest.fixture
def host(server: Served, tmp_path: Path) -> Host:
    number = next(numbers)
    host = Host(server, f"h{number}", f"w{number}", tmp_path)
    host.register()
    return host


def test_a_landing_is_told(run: Run, host: Host) -> None:
    done = host.merging(run, "succeeded", status="merged", merged=True, mergedSha="abc", branchDeleted=True)
    assert done.exit_code == 0
    assert done.stdout == f"{host.workspace} landed on main as abc\n"
    assert done.stderr == ""


def test_what_a_landing_left_undone_is_told(run: Run, host: Host) -> None:
    trouble = {"reconciled": False, "unsyncedPaths": ["a"], "message": "/up has files of its own in a"}
    done = host.merging(
        run,
        "succeeded",
        status="active",
        merged=True,
        mergedSha="abc",
        baseWorktreeSync=trouble,
        branchPreservedReason="w1 still works in it",
        worktreeRemoved=False,
    )
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{host.workspace} landed on main as abc",
        "  left to you: /up has files of its own in a",
        f"  kept: worktree {host.base_dir}/tree and branch agent/a/b (w1 still works in it)",
    ]


def test_a_branch_that_stayed_without_its_worktree_is_told(run: Run, host: Host) -> None:
    done = host.merging(
        run,
        "succeeded",
        status="merged",
        noop=True,
        worktreeRemoved=True,
        branchPreservedReason="it is checked out elsewhere",
    )
    assert done.stdout.splitlines() == [
        f"{host.workspace}: nothing to merge",
        "  kept: branch agent/a/b (it is checked out elsewhere)",
    ]


@pytest.mark.parametrize("end", ["failed", "succeeded"])
def test_a_conflict_names_the_rebase(run: Run, host: Host, end: str) -> None:
    done = host.merging(run, end, status="conflict", merged=False, error="it conflicts with main in a")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"relay: {host.workspace} did not land",
        "  why: it conflicts with main in a",
        f"  next: git -C {host.base_dir}/tree rebase main, then relay merge {host.workspace}",
    ]


def test_a_failure_is_told_once(run: Run, host: Host) -> None:
    done = host.merging(run, "failed", status="review_requested", merged=False, error="notes: it is dirty")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [
        "  why: notes: it is dirty",
        f"  next: relay merge {host.workspace}, once that is put right",
    ]


def test_a_checkout_that_a_taken_back_landing_left_behind_is_told(run: Run, host: Host) -> None:
    trouble = {"reconciled": False, "message": "/up does not show what has landed"}
    done = host.merging(
        run, "failed", status="review_requested", error="the push was refused", baseWorktreeSync=trouble
    )
    assert "  why: the push was refused; /up does not show what has landed\n" in done.stderr


def test_work_whose_worktree_is_gone_is_merged_by_hand(run: Run, host: Host) -> None:
    done = host.merging(run, "failed", status="cleaned", merged=False, error="the worktree is not there")
    assert f"  next: git -C {host.base_dir}/repo merge agent/a/b\n" in done.stderr


def test_a_failure_is_json_for_programs(run: Run, host: Host) -> None:
    done = host.merging(run, "failed", "--json", status="review_requested", error="it is dirty")
    assert json.loads(done.stdout)["status"] == "failed"
    assert json.loads(done.stderr)["why"] == "it is dirty"


def test_only_what_a_host_can_do_is_offered(run: Run) -> None:
    refused = run("merge", "w", "--strategy", "pr")
    assert refused.exit_code == 2
    assert "pr" not in run("merge", "--help").output.split("--strategy")[1].split("--keep")[0]


def test_a_merge_that_waits_says_for_what_and_goes_on_without_its_reader(run: Run, host: Host) -> None:
    settings = {"RELAY_HOME": str(host.server.home), "AGENT_RELAY_URL": host.server.url}
    with started("merge", host.workspace, **settings) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        command = host.tell(host.pending)
        assert first.startswith(f"waiting: {command.id} is pending, host {host.id} is online")
        advice = process.stderr.readline()
        assert "Ctrl-C leaves it" in advice
        assert f"DELETE /api/commands/{command.id}" in advice
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 1
    assert host.tell(host.pending).id == command.id
    busy = run("merge", host.workspace)
    assert busy.exit_code == 1
    assert f"why: {command.id} is pending, host {host.id} is online" in busy.stderr
    assert f"DELETE /api/commands/{command.id}" in busy.stderr


def test_a_merge_whose_host_leaves_ends_at_once(host: Host) -> None:
    settings = {"RELAY_HOME": str(host.server.home), "AGENT_RELAY_URL": host.server.url}

    async def leave(client: Client) -> None:
        await host.pending(client)
        offline = wire.SetStatus(status=wire.AgentStatus.OFFLINE)
        await client.set_status(f"orchestrator-{host.id}", offline)

    with ThreadPoolExecutor(1) as threads:
        left = threads.submit(host.tell, leave)
        done = relay("merge", host.workspace, **settings)
        left.result()
    assert done.returncode == 1
    assert f"why: host {host.id} went offline before it began: start its orchestrator" in done.stderr
    assert f"next: relay merge {host.workspace}" in done.stderr


def test_a_merge_need_not_be_waited_for(run: Run, host: Host) -> None:
    command = answer(run("merge", host.workspace, "--no-wait", "--json"))
    assert command["status"] == "pending"
