"""The daemon on a real server: agents are started, kept, and ended, whoever dies in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import trio
from checkouts import Repo
from hosts import Host, until

from relay import wire
from relay._files import read_json
from relay.client import Outcomes, Refused as RefusedByRelay
from relay.orchestrator.link import pauses

SUCCEEDED, FAILED = wire.CommandStatus.SUCCEEDED, wire.CommandStatus.FAILED


def alive(pid: int | None) -> bool:
    assert pid
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# -- spawning


@pytest.mark.spec("R-87", "R-I24")
async def test_a_spawn_starts_an_agent_in_a_worktree_of_its_own(host: Host):
    statuses = []
    async with host.running():
        command = await host.ask("agent.spawn", **host.wish("ada"))

        async def ended() -> bool:
            now = await host.relay.command(command.id)
            statuses.append(now.status)
            return now.status.final

        await until(ended)
        done = await host.relay.command(command.id)
        entry = await host.rostered("ada")
        assert done.status is SUCCEEDED
        assert list(dict.fromkeys(statuses))[-1] is SUCCEEDED
        assert done.result is not None
        assert done.result["managedAgents"][0]["agentId"] == "ada"
        assert (entry.session_name, entry.spawn_request_id) == ("ar-command-ada-sp_ada", "sp_ada")
        assert entry.workspace is not None
        assert entry.workspace.branch == "agent/ada/ada"
        assert entry.cwd == entry.workspace.worktree_path
        assert alive(entry.pid)
        row = await host.relay.workspace("sp_ada")
        assert (row.agent_id, row.status, row.worktree_path) == ("ada", "active", entry.cwd)
        agent = await host.relay.agent("ada")
        assert agent.status in {"online", "idle"}


@pytest.mark.spec("R-89", "R-I39", "R-I41")
async def test_the_same_spawn_request_is_one_session(host: Host):
    async with host.running():
        commands = [await host.ask("agent.spawn", **host.wish("ada")) for _ in range(3)]
        ended = [await host.ended(command) for command in commands]
        assert {command.status for command in ended} == {SUCCEEDED}
        assert len({command.result["managedAgents"][0]["pid"] for command in ended if command.result}) == 1
        assert len(await host.roster()) == 1


@pytest.mark.spec("R-I39")
async def test_two_agents_whose_names_look_alike_are_two_sessions(host: Host):
    async with host.running():
        for name, request in (
            ("ada", "sp_first_00000001"),
            ("ben", "sp_other_00000001"),
            ("cora", "sp_OTHER_00000001"),
        ):
            wish = host.wish(name, label="docs", spawnRequestId=request)
            assert (await host.done("agent.spawn", **wish)).status is SUCCEEDED
        entries = [await host.rostered(name) for name in ("ada", "ben", "cora")]
        assert len({entry.session_name for entry in entries}) == 3
        assert all(alive(entry.pid) for entry in entries)


@pytest.mark.spec("R-90", "R-I38")
async def test_a_spawn_outside_the_base_directory_starts_nothing(host: Host):
    evil = Path(f"{host.config.base_dir}-evil")
    evil.mkdir()
    async with host.running():
        command = await host.done("agent.spawn", **host.wish("ada", cwd=str(evil), workspaceMode="shared"))
        assert command.status is FAILED
        assert "base directory" in (command.error or "")
        assert await host.roster() == []


async def test_a_runner_that_cannot_start_fails_the_spawn_and_leaves_no_worktree(host: Host):
    async with host.running():
        command = await host.done("agent.spawn", **host.wish("ada", providerConfig={}))
        assert command.status is FAILED
        assert "AGENT_RELAY_PROVIDER_CONFIG_JSON" in (command.error or "")
        assert host.repo.git("worktree", "list").count("\n") == 0
        assert host.repo.git("branch", "--list", "agent/*") == ""
        await until(lambda: not list((host.config.state / "sessions").iterdir()))


@pytest.mark.spec("R-91", "R-I40")
async def test_a_runner_that_does_not_register_in_time_only_frees_its_slot(host: Host):
    async with host.running(registration=0.01, spawns=1):
        commands = [await host.ask("agent.spawn", **host.wish(name)) for name in ("ada", "ben")]
        assert [(await host.ended(command)).status for command in commands] == [SUCCEEDED, SUCCEEDED]
        assert {(await host.rostered(name)).agent_id for name in ("ada", "ben")} == {"ada", "ben"}


@pytest.mark.spec("R-88", "R-92", "R-I40")
async def test_spawns_take_turns_and_a_canceled_one_is_skipped(host: Host):
    async with host.running(spawns=1):
        names = ("ada", "ben", "cora")
        commands = [await host.ask("agent.spawn", **host.wish(name)) for name in names]
        await host.relay.cancel_command(commands[1].id)
        ended = [await host.ended(command) for command in commands]
        assert [command.status for command in ended] == [SUCCEEDED, wire.CommandStatus.CANCELED, SUCCEEDED]
        assert (ended[0].updated_at or 0) < (ended[2].updated_at or 0)
        assert {entry.agent_id for entry in await host.roster()} == {"ada", "cora"}


@pytest.mark.spec("R-93")
async def test_a_host_without_room_says_so(host: Host):
    async with host.running(admission=True, free_memory=2**62, admission_limit=0.05):
        command = await host.done("agent.spawn", **host.wish("ada"))
        assert command.status is FAILED
        assert "host-headroom-timeout" in (command.error or "")
        assert host.repo.git("worktree", "list").count("\n") == 0


async def test_an_unknown_command_fails(host: Host):
    async with host.running():
        assert (await host.done("agent.dance")).status is FAILED


# -- deaths


@pytest.mark.spec("R-94", "R-I44")
async def test_a_killed_runner_is_reported_once_and_started_again(host: Host):
    async with host.running():
        first = await host.spawned("ada")
        os.kill(first.pid or 0, signal.SIGKILL)
        second = await host.rostered("ada", after=first.pid)
        assert alive(second.pid)
        assert (second.session_name, second.workspace) == (first.session_name, first.workspace)
        (told,) = await until(lambda: host.exits("ada"))
        assert "SIGKILL" in json.dumps(wire.to_json(told))
        await until(lambda: not list((host.config.state / "exits").iterdir()))
        await host.done("agent.shutdown", agentId="ada")
        assert len(await host.exits("ada")) == 1


async def test_a_runner_that_keeps_dying_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.orchestrator.sessions.RAPID_ALLOWED", 1)
    async with host.running():
        first = await host.spawned("ada")
        os.kill(first.pid or 0, signal.SIGKILL)
        second = await host.rostered("ada", after=first.pid)
        os.kill(second.pid or 0, signal.SIGKILL)

        async def gone() -> bool:
            return await host.roster() == []

        await until(gone)
        assert Path(first.cwd or "").exists()


async def test_a_runner_is_not_started_again_where_that_is_turned_off(host: Host):
    async with host.running(restart=False):
        entry = await host.spawned("ada")
        os.kill(entry.pid or 0, signal.SIGKILL)

        async def gone() -> bool:
            return await host.roster() == []

        await until(gone)
        assert await until(lambda: host.exits("ada"))


# -- the daemon ends and comes back


async def test_agents_go_on_without_their_daemon(host: Host):
    async with host.running():
        first = await host.spawned("ada")
    assert alive(first.pid)
    async with host.running():
        assert await host.rostered("ada") == first
        command = await host.done("agent.spawn", **host.wish("ada"))
        assert command.result is not None
        assert command.result["managedAgents"][0]["pid"] == first.pid
        assert await host.exits("ada") == []


async def test_a_daemon_that_was_killed_finds_its_agents(host: Host, tmp_path: Path):
    config = tmp_path / "orchestrator.json"
    config.write_text(
        json.dumps(
            {"id": "h1", "apiPort": 0, "baseDir": str(host.config.base_dir), "token": host.config.token}
        )
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_RELAY")} | {
        "RELAY_HOME": str(host.config.home),
        "AGENT_RELAY_URL": host.config.relay_url,
        "AGENT_RELAY_TOKEN": host.config.token or "",
        "AGENT_RELAY_SPAWN_ADMISSION_DISABLED": "1",
    }
    program = [sys.executable, "-m", "relay", "orchestrator", "--config", str(config)]
    with (tmp_path / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(program, env=environ, stdout=log, stderr=log)
    try:

        async def registered() -> bool:
            assert daemon.poll() is None, (tmp_path / "daemon.log").read_text()
            return bool(await host.relay.orchestrators())

        await until(registered)
        first = await host.spawned("ada")
    finally:
        daemon.kill()
        daemon.wait()
    assert alive(first.pid)
    async with host.running():
        assert (await host.rostered("ada")).pid == first.pid
        os.kill(first.pid or 0, signal.SIGKILL)
        second = await host.rostered("ada", after=first.pid)
        assert second.workspace == first.workspace


async def test_a_runner_killed_while_nobody_watched_is_started_again(host: Host):
    async with host.running():
        first = await host.spawned("ada")
    os.kill(first.pid or 0, signal.SIGKILL)
    await until(lambda: not alive(first.pid))
    async with host.running():
        second = await host.rostered("ada", after=first.pid)
        assert second.workspace == first.workspace
        assert await until(lambda: host.exits("ada"))


async def test_a_runner_that_ended_while_nobody_watched_is_over(host: Host):
    async with host.running():
        first = await host.spawned("ada")
    os.kill(first.pid or 0, signal.SIGTERM)
    await until(lambda: not alive(first.pid))
    async with host.running():

        async def gone() -> bool:
            return await host.roster() == []

        await until(gone)


@pytest.mark.spec("R-96", "R-I43")
@pytest.mark.parametrize("damage", ["", "{", '{"launch": 1}', "[]"])
async def test_a_damaged_record_is_made_again_from_the_process(host: Host, damage: str):
    async with host.running():
        first = await host.spawned("ada")
    (record,) = (host.config.state / "sessions").iterdir()
    record.write_text(damage)
    async with host.running():
        entry = await host.rostered("ada")
        assert (entry.pid, entry.session_name, entry.cwd) == (first.pid, first.session_name, first.cwd)
        assert (entry.workspace, entry.spawn_request_id) == (first.workspace, first.spawn_request_id)
        assert alive(first.pid)


async def test_a_process_started_just_before_a_crash_is_found(host: Host):
    async with host.running():
        first = await host.spawned("ada")
    (record,) = (host.config.state / "sessions").iterdir()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"pid": 0, "tick": None, "boot": ""}))
    async with host.running():
        assert (await host.rostered("ada")).pid == first.pid
        command = await host.done("agent.spawn", **host.wish("ada"))
        assert command.result is not None
        assert command.result["managedAgents"][0]["pid"] == first.pid


async def test_a_session_of_an_earlier_boot_is_not_started_again(host: Host):
    async with host.running():
        first = await host.spawned("ada")
    os.kill(first.pid or 0, signal.SIGKILL)
    (record,) = (host.config.state / "sessions").iterdir()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"boot": "another"}))
    async with host.running():

        async def told() -> bool:
            return await host.roster() == [] and bool(await host.exits("ada"))

        await until(told)


async def test_a_second_daemon_of_the_same_host_is_refused(host: Host):
    from relay.orchestrator import Refused, serve

    async with host.running() as config:
        with pytest.raises(Refused, match="runs already"):
            await serve(config)


async def test_a_daemon_that_ended_is_offline_at_once_and_its_successor_is_there(host: Host):
    async def status() -> str:
        return (await host.relay.orchestrator(host.config.id)).status

    for _ in range(2):
        async with host.running():
            assert await status() == "online"
        with trio.fail_after(5):
            while await status() != "offline":
                await trio.sleep(0.01)


# -- ending and restarting agents


@pytest.mark.spec("R-97")
async def test_a_shutdown_of_an_unknown_agent_fails(host: Host):
    async with host.running():
        for kind in ("agent.shutdown", "agent.restart"):
            command = await host.done(kind, agentId="nobody")
            assert command.status is FAILED
            assert command.result is not None
            assert command.result["targetNotFound"] is True


async def test_a_shutdown_that_names_nobody_is_refused(host: Host):
    async with host.running():
        entry = await host.spawned("ada")
        assert (await host.done("agent.shutdown")).status is FAILED
        assert alive(entry.pid)


async def test_a_shutdown_ends_the_agent_and_is_no_news(host: Host):
    async with host.running():
        entry = await host.spawned("ada")
        command = await host.done("agent.shutdown", policyName="none", spawnRequestId="sp_ada")
        assert command.status is SUCCEEDED
        assert command.result is not None
        assert (command.result["stopped"], command.result["wasRunning"]) == (True, True)
        assert not alive(entry.pid)
        assert await host.exits("ada") == []


@pytest.mark.spec("R-131", "W-93", "R-I52")
async def test_a_worktree_that_held_nothing_goes_after_its_session(host: Host):
    async with host.running():
        entry = await host.spawned("ada")
        await host.done("agent.shutdown", agentId="ada")

        async def gone() -> bool:
            return "sp_ada" not in {row.id for row in await host.relay.workspaces()}

        await until(gone)
        assert not Path(entry.cwd or "").exists()
        assert host.repo.git("worktree", "list").count("\n") == 0
        assert host.repo.git("branch", "--list", "agent/*") == ""


@pytest.mark.spec("R-132", "W-92", "R-I54")
async def test_work_of_a_session_that_ended_by_itself_is_left_for_review(host: Host):
    async with host.running():
        entry = await host.spawned("ada")
        tree = Repo(Path(entry.cwd or ""))
        head = tree.commit("notes", "a\n")
        tree.write("more", "not committed\n")
        before = tree.fingerprint()
        os.kill(entry.pid or 0, signal.SIGTERM)

        async def reviewed() -> bool:
            return (await host.relay.workspace("sp_ada")).status == "review_requested"

        await until(reviewed)
        (command,) = await host.relay.commands(type="workspace.reconcile")
        await host.ended(command)
        assert tree.fingerprint() == before
        assert host.repo.tip("agent/ada/ada") == head


async def test_a_session_that_is_started_again_keeps_its_worktree(host: Host):
    async with host.running():
        first = await host.spawned("ada")
        os.kill(first.pid or 0, signal.SIGKILL)
        await host.rostered("ada", after=first.pid)
        await host.done("agent.restart", agentId="ada")
        assert await host.relay.commands(type="workspace.reconcile") == []
        assert (await host.relay.workspace("sp_ada")).status == "active"


@pytest.mark.spec("R-98")
async def test_a_runner_that_does_not_listen_is_killed(host: Host):
    async with host.running():
        entry = await host.spawned("ada")
        os.kill(entry.pid or 0, signal.SIGSTOP)
        command = await host.done("agent.shutdown", agentId="ada", graceful=False)
        assert command.status is SUCCEEDED
        assert not alive(entry.pid)


async def test_a_restart_keeps_agent_session_and_workspace(host: Host):
    async with host.running():
        first = await host.spawned("ada")
        command = await host.done("agent.restart", agentId="ada")
        assert command.status is SUCCEEDED
        second = await host.rostered("ada", after=first.pid)
        assert (second.session_name, second.workspace) == (first.session_name, first.workspace)
        assert not alive(first.pid)
        assert await host.exits("ada") == []


@pytest.mark.spec("R-99")
async def test_a_successor_that_does_not_stand_leaves_its_predecessor(host: Host):
    async with host.running():
        first = await host.spawned("ada")
        wish = host.wish("ada", spawnRequestId="sp_next", providerConfig={})
        command = await host.done("agent.restart", agentId="ada", restartSpawn=wish)
        assert command.status is FAILED
        assert alive(first.pid)
        assert (await host.rostered("ada")).pid == first.pid


async def test_a_successor_that_stands_takes_over(host: Host):
    async with host.running():
        first = await host.spawned("ada")
        wish = host.wish("ada", spawnRequestId="sp_next")
        command = await host.done("agent.restart", agentId="ada", restartSpawn=wish)
        assert command.status is SUCCEEDED
        second = await host.rostered("ada", after=first.pid)
        assert second.spawn_request_id == "sp_next"
        assert not alive(first.pid)


@pytest.mark.spec("W-16", "W-21", "AGT-41")
async def test_a_session_that_is_still_there_goes_on_as_the_restart_says(host: Host):
    """To resume an agent that hangs: its session is of the same spawn request, and is told what to go on with."""
    async with host.running():
        first = await host.spawned("ada", providerArgs=["--resume", "old"], model="small")
        wish = host.wish("ada", providerArgs=["--resume", "new"], approvalMode="open")
        command = await host.done("agent.restart", agentId="ada", action="resume", restartSpawn=wish)
        assert command.status is SUCCEEDED, command.error
        second = await host.rostered("ada", after=first.pid)
        assert (second.session_name, second.workspace) == (first.session_name, first.workspace)
        assert (second.model, second.approval_mode) == ("small", "open")
        told = Path(f"/proc/{second.pid}/environ").read_bytes().split(b"\0")
        assert b'AGENT_RELAY_PROVIDER_ARGS_JSON=["--resume", "new"]' in told
        assert not alive(first.pid)


@pytest.mark.spec("R-99")
async def test_a_session_is_not_ended_for_a_restart_that_makes_no_sense(host: Host):
    async with host.running():
        first = await host.spawned("ada")
        wish = host.wish("ada", providerArgs="--resume")
        command = await host.done("agent.restart", agentId="ada", restartSpawn=wish)
        assert (command.status, "providerArgs" in (command.error or "")) == (FAILED, True)
        assert alive(first.pid)


# -- workspaces


async def test_a_merge_asked_of_relay_lands_and_its_owner_goes_on(host: Host):
    async with host.running():
        entry = await host.spawned("ada")
        tree = Repo(Path(entry.cwd or ""))
        head = tree.commit("notes", "a\n")
        wish = wire.WorkspaceAction(action=wire.WorkspaceVerb.MERGE, strategy=wire.Strategy.REBASE_FF)
        answer = await host.relay.act("sp_ada", wish)
        command = await host.ended(wire.decode(wire.Command, answer["command"]))
        assert command.status is SUCCEEDED, command.error
        assert command.result is not None
        assert (command.result["status"], command.result["mergedSha"]) == ("active", head)
        assert host.repo.tip("main") == head
        assert (await host.relay.workspace("sp_ada")).status == "active"
        assert await host.relay.merge_leases() == []


async def test_a_repository_outside_the_base_directory_is_refused(host: Host, tmp_path: Path):
    async with host.running():
        for kind in ("workspace.merge", "workspace.cleanup", "workspace.reconcile"):
            command = await host.done(
                kind,
                workspaceId="w1",
                repoRoot=str(tmp_path),
                worktreePath=str(tmp_path / "x"),
                baseRef="main",
            )
            assert command.status is FAILED
            assert "base directory" in (command.error or "")
            assert "--base-dir" in (command.error or "")


async def test_workspace_commands_that_make_no_sense_fail(host: Host):
    root = str(host.repo.path)
    async with host.running():
        for params in (
            {},
            {"repoRoot": "repo", "worktreePath": root},
            {"repoRoot": root, "worktreePath": root, "branch": 1},
            {"repoRoot": str(host.config.base_dir / "none"), "worktreePath": root},
            {"repoRoot": str(host.config.base_dir), "worktreePath": root},
        ):
            command = await host.done("workspace.merge", **params)
            assert command.status is FAILED
            if params.get("repoRoot", "").endswith("none"):
                assert "put it back there" in (command.error or "")
        assert host.repo.git("worktree", "list").count("\n") == 0


# -- relay goes and comes back


@pytest.mark.spec("R-83")
def test_registration_is_tried_at_ever_longer_intervals():
    assert list(islice(pauses(5.0, 120.0), 7)) == [5, 10, 20, 40, 80, 120, 120]


@pytest.mark.spec("R-125", "R-I23")
async def test_an_outcome_is_reported_by_the_next_daemon_and_nothing_is_done_twice(host: Host):
    async with host.running():
        pass
    command = await host.ask("agent.spawn", **host.wish("ada"))
    claimant = json.loads((host.config.state / "claimant.json").read_text())
    token = await host.relay.claim_command(command.id, claimant)
    outbox = Outcomes(host.config.state / "outbox")
    outbox.put(command.id, wire.PatchCommand(status=SUCCEEDED, result={"fixed": True}, token=token))
    async with host.running():
        ended = await host.ended(command)
        assert ended.result == {"fixed": True}
        await until(lambda: not outbox.pending())
        assert await host.roster() == []


async def test_a_command_begun_by_an_earlier_daemon_is_finished(host: Host):
    async with host.running():
        pass
    command = await host.ask("agent.spawn", **host.wish("ada"))
    claimant = json.loads((host.config.state / "claimant.json").read_text())
    assert await host.relay.claim_command(command.id, claimant) == 1
    async with host.running():
        ended = await host.ended(command)
        assert (ended.status, ended.claim_token) == (SUCCEEDED, 2)
        assert len(await host.roster()) == 1
    late = wire.PatchCommand(status=wire.CommandStatus.FAILED, token=1)
    with pytest.raises(RefusedByRelay, match="succeeded for good"):
        await host.relay.patch_command(command.id, late)


@pytest.mark.spec("CMD-14", "R-I41")
async def test_a_command_of_another_daemon_with_the_same_name_is_left_alone(host: Host):
    theirs = await host.ask("agent.spawn", **host.wish("ada"))
    assert await host.relay.claim_command(theirs.id, "h1/another") == 1
    async with host.running():
        await host.done("agent.dance")
        assert (await host.relay.command(theirs.id)).status is wire.CommandStatus.ACCEPTED
        assert await host.roster() == []


async def test_a_command_is_taken_up_as_soon_as_it_is_announced(host: Host):
    async with host.running(poll=3_600.0):
        await host.done("agent.dance")
        with trio.fail_after(10):
            await host.done("agent.dance")


# -- what relay and the disk may do to a command


@pytest.mark.spec("R-I41")
async def test_a_successor_whose_predecessor_was_not_stopped_yet_is_no_predecessor(host: Host):
    """The daemon was killed after the successor stood, and begins the command again."""
    async with host.running():
        first = await host.spawned("ada")
        wish = host.wish("ada", spawnRequestId="sp_next", label="next")
        spawned = await host.done("agent.spawn", **wish)
        assert spawned.result is not None
        second = spawned.result["managedAgents"][0]["pid"]
        command = await host.done("agent.restart", agentId="ada", restartSpawn=wish)
        assert command.status is SUCCEEDED, command.error
        assert alive(second)
        assert not alive(first.pid)

        async def alone() -> bool:
            return [(each.pid, each.spawn_request_id) for each in await host.roster()] == [
                (second, "sp_next")
            ]

        await until(alone)


async def test_a_shutdown_leaves_nothing_of_the_agent_running(host: Host):
    async with host.running():
        entry = await host.spawned("ada")
        noted = host.config.state / "state" / (entry.session_name or "") / "agent.json"
        agent = (await until(lambda: read_json(noted)))["pid"]
        assert alive(agent)
        os.kill(agent, signal.SIGSTOP)  # it does not see that its runner is gone
        os.kill(entry.pid or 0, signal.SIGSTOP)
        await host.done("agent.shutdown", agentId="ada", graceful=False)
        await until(lambda: not alive(agent))
