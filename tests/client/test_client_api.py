"""Every method of the client against a real server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from relay import wire
from relay.client import Client, Refused, StreamedEvent, Unauthorized, find_token, open_client

RegisterAgent, SendMessage = wire.RegisterAgent, wire.SendMessage
HOST = wire.RegisterOrchestrator(id="h1", hostname="box", base_dir="/base")
WORKTREE = wire.WorkspaceReport(
    id="w1",
    repo_root="/base/repo",
    source_cwd="/base/repo",
    worktree_path="/base/repo-w1",
    branch="agent/a1/w1",
    base_ref="main",
    base_sha="b0",
)


@pytest.fixture
async def client(server: Any) -> AsyncIterator[Client]:
    async with open_client(server.base_url, server.token) as client:
        yield client


@pytest.fixture
async def host(client: Client) -> wire.Orchestrator:
    """Host h1 with agent a1 in the worktree w1."""
    registered = await client.register_orchestrator(HOST)
    await client.report_roster(
        "h1", wire.Roster(agents=[wire.ManagedAgent(agent_id="a1", workspace=WORKTREE, session_name="s1")])
    )
    return registered


async def refused(status: int, call: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(Refused) as caught:
        await call(*arguments)
    assert caught.value.status == status
    assert caught.value.error


def test_every_method_is_called_here() -> None:
    called = set(re.findall(r"\bclient\.(\w+)", Path(__file__).read_text()))
    assert {name for name in dir(Client) if not name.startswith("_")} <= called


@pytest.mark.spec("AUT-1", "AUT-3", "AUT-4", "AUT-5", "AUT-7")
async def test_automations(client: Client) -> None:
    action = wire.MessageAction(to="user", body="hello")
    schedule = wire.CronSchedule(expression="0 2 * * *")
    made = await client.create_automation(wire.NewAutomation(name="n", schedule=schedule, action=action))
    assert await client.automation(made.id) == made
    assert await client.automations() == [made]
    times = await client.coming_runs(made.id, limit=3)
    assert times == [(made.next_run_at or 0) + day * 86_400 for day in range(3)]
    changed = await client.change_automation(made.id, wire.ChangeAutomation(name="m", enabled=False))
    assert (changed.name, changed.enabled, changed.schedule) == ("m", False, schedule)
    assert await client.coming_runs(made.id) == []
    done = await client.run_automation(made.id)
    assert done.message is not None
    assert await client.automation_runs(automation_id=made.id, status="succeeded", limit=5) == [done.run]
    await client.delete_automation(made.id)
    await refused(404, client.automation, made.id)
    await refused(404, client.delete_automation, made.id)
    await refused(404, client.run_automation, made.id)
    await refused(404, client.coming_runs, made.id)


async def test_health(client: Client, server: Any) -> None:
    assert client.url == server.base_url
    health = await client.health()
    assert (health.status, health.counts.agents) == ("ok", 0)


@pytest.mark.spec("SYS-15")
async def test_maintenance(client: Client) -> None:
    assert {"reaper", "backup"} <= {job.name for job in await client.jobs()}
    ran = await client.run_job("backup")
    assert ran.ok
    assert (await client.health()).backup_at == ran.job.last_good_at
    verdict = await client.verify_audit()
    assert verdict.ok
    assert (await client.verify_audit(verdict.head)).ok
    assert await client.reap() == wire.Reaped()
    assert (await client.stats()).commands_by_status["pending"] == 0
    await refused(404, client.run_job, "no/such job")
    await refused(400, client.verify_audit, "nonsense")


async def test_agents(client: Client) -> None:
    made = await client.register_agent(RegisterAgent(id="a1", tags=["t"], instance_id="i", meta={"pid": 7}))
    assert made == await client.agent("a1")
    await client.set_status("a1", wire.SetStatus(status=wire.AgentStatus.BUSY, instance_id="i"))
    await client.set_ready("a1", wire.SetReady(ready=True))
    await client.set_label("a1", "reviewer")
    assert (await client.set_tags("a1", ["x", "y"])).tags == ["x", "y"]
    await client.heartbeat("a1", wire.Heartbeat(instance_id="i"))
    (card,) = await client.agents()
    assert (card.status, card.ready, card.label, card.meta) == ("busy", True, "reviewer", {"pid": 7})
    await client.set_label("a1", None)
    assert (await client.agent("a1")).label is None
    await client.delete_agent("a1")
    await refused(404, client.agent, "a1")
    await refused(404, client.delete_agent, "a1")


@pytest.mark.spec("AGT-30", "AGT-31", "AGT-47", "AGT-48")
async def test_what_is_asked_of_agents(client: Client, host: wire.Orchestrator) -> None:
    await client.register_agent(RegisterAgent(id="a1", meta={"runnerManaged": True}))
    asked = await client.agent_action("a1", wire.AgentVerb.SHUTDOWN)
    assert (asked.type, asked.target) == ("agent.shutdown", "orchestrator-h1")
    await refused(404, client.agent_action, "nobody", wire.AgentVerb.SHUTDOWN)
    said = await client.prompt("a1", "go on")
    assert (await client.message(said["messageId"])).body == "go on"
    assert (await client.command(said["commandId"])).target == "a1"
    await refused(404, client.prompt, "nobody", "x")
    moved = wire.Heartbeat(meta={"timelineEvent": {"status": "compacting"}})
    await client.heartbeat("a1", moved)
    assert [entry.status for entry in await client.timeline("a1", limit=1)] == ["compacting"]
    kinds = {"status": wire.AgentStatus.ONLINE, "kind": wire.AgentKind.PROVIDER}
    assert [each.id for each in await client.agents(**kinds)] == ["a1"]
    await refused(422, client.open_terminal, "a1")
    await refused(422, client.close_terminal, "a1", "s")
    spawned = await client.spawn_anywhere(wire.SpawnAgent(provider=wire.Provider.CLAUDE))
    assert spawned.target == "orchestrator-h1"
    elsewhere = wire.SpawnAgent(provider=wire.Provider.CLAUDE, cwd="/nowhere")
    await refused(400, client.spawn_anywhere, elsewhere)


@pytest.mark.parametrize(
    "name", [".", "..", "a/b", "a?b", "a#b", "a%2Fb", "é😀", "a b", "x" * 240, "😀" * 120]
)
async def test_an_agent_may_have_any_name(client: Client, name: str) -> None:
    for each in (name, "user"):
        await client.register_agent(RegisterAgent(id=each))
    await client.set_status(name, wire.SetStatus(status=wire.AgentStatus.IDLE))
    assert (await client.agent(name)).status is wire.AgentStatus.IDLE
    sent = await client.send(SendMessage(from_="user", to=name, body="x"))
    assert [each.id for each in await client.messages(for_=name)] == [sent.id]
    reply = await client.send(SendMessage(from_=name, reply_to=sent.id, body="y"))
    assert reply.to == "user"
    assert name in {each.agent_id for each in await client.activity()}
    await client.delete_agent(name)
    assert [each.id for each in await client.agents()] == ["user"]


@pytest.mark.parametrize("name", ["\ud800", "x\udcff"])
async def test_a_name_that_is_no_unicode_is_refused(client: Client, name: str) -> None:
    for call in (client.agent, client.delete_agent, client.command, client.workspace):
        with pytest.raises(Refused):
            await call(name)
    with pytest.raises(Refused):
        await client.messages(for_=name)
    await refused(400, client.register_agent, RegisterAgent(id=name))


async def test_messages(client: Client) -> None:
    for name in ("a1", "a2"):
        await client.register_agent(RegisterAgent(id=name))
    assert await client.cursor() == 0
    first = await client.send(SendMessage(from_="a1", to="a2", body="hello", idempotency_key="k"))
    assert await client.send(SendMessage(from_="a1", to="a2", body="hello", idempotency_key="k")) == first
    reply = await client.send(SendMessage(from_="a2", to="a1", body="well", reply_to=first.id))
    assert await client.cursor() == reply.id
    assert await client.message(first.id) == first
    assert [each.id for each in await client.thread(reply.id)] == [first.id, reply.id]
    assert [each.body for each in await client.messages(for_="a2", unread=True)] == ["hello"]
    await client.mark_read(first.id, "a2")
    await client.mark_read(first.id, "a2")
    assert await client.messages(for_="a2", unread=True) == []
    assert (await client.delivery(first.id)).read_by == ["a2"]
    assert await client.messages(for_="a2", since=first.id, limit=5) == []
    await refused(404, client.message, 99)
    waits = await client.send(SendMessage(from_="a1", to="policy:p", body="for whoever it is"))
    assert [each.id for each in await client.queued_messages("policy:p")] == [waits.id]
    await client.delete_message(waits.id)
    await refused(404, client.delete_message, waits.id)
    assert await client.queued_messages("p", limit=5) == []
    await client.set_status("a2", wire.SetStatus(status=wire.AgentStatus.OFFLINE))
    await refused(422, client.send, SendMessage(from_="a1", to="a2", body="x"))


async def test_deliveries(client: Client) -> None:
    for name in ("a1", "a2"):
        await client.register_agent(RegisterAgent(id=name))
    sent = await client.send(SendMessage(from_="a1", to="a2", body="hello"))
    dies = {"outcome": wire.Outcome.DIED, "error": "it ended", "retry_ms": 0}
    for _ in range(2):
        (handed,) = await client.take("a2", wire.TakeDeliveries(wait_ms=5_000))
        assert handed.message.body == "hello"
        (result,) = await client.ack("a2", [wire.Ack(message_id=sent.id, token=handed.token, **dies)])
    assert (result.ok, result.rung) == (True, wire.Rung.DEAD)
    assert [each.error for each in await client.dead_letters(agent_id="a2", limit=5)] == ["it ended"]
    assert await client.dead_letters(before=sent.id) == []
    assert await client.redeliver(sent.id) == ["a2"]
    await refused(409, client.redeliver, sent.id, "a2")
    (again,) = await client.take("a2")
    stale, good = (
        wire.Ack(message_id=sent.id, token=each.token, outcome=wire.Outcome.CONFIRMED)
        for each in (handed, again)
    )
    await refused(409, client.ack, "a2", [stale])
    assert [each.ok for each in await client.ack("a2", [stale, good])] == [False, True]
    (found,) = await client.progress(sent.id, rung="confirmed", any=True, wait=5.0)
    assert (found.agent_id, found.rung) == ("a2", wire.Rung.CONFIRMED)
    assert await client.mailbox_progress("a2", since=0, limit=5) == [found]
    await refused(404, client.take, "nobody")


@pytest.mark.spec("MSG-16")
async def test_claims(client: Client) -> None:
    for name in ("a1", "a2", "a3"):
        await client.register_agent(RegisterAgent(id=name, tags=["t"]))
    sent = await client.send(SendMessage(from_="a1", to="tag:t", body="who?", claimable=True))
    assert (await client.claim(sent.id, "a2")).ok
    assert (await client.claim(sent.id, "a2")).ok  # as after a lost answer
    await refused(409, client.claim, sent.id, "a3")
    renewed = await client.renew_claim(sent.id, "a2")
    assert renewed.claim_expires_at is not None
    assert (await client.message(sent.id)).claimed_by == "a2"


async def test_commands(client: Client) -> None:
    new = wire.NewCommand(type="t", source="s", target="a1", params={"deep": {"n": [1]}}, ttl_ms=60_000)
    made = await client.create_command(new)
    assert made == await client.command(made.id)
    token = await client.claim_command(made.id, "me")
    assert token is not None
    assert await client.claim_command(made.id, "me") == token + 1  # as after a lost answer
    late = wire.PatchCommand(status=wire.CommandStatus.FAILED, token=token)
    await refused(409, client.patch_command, made.id, late)
    done = wire.PatchCommand(status=wire.CommandStatus.SUCCEEDED, result={"sha": None}, token=token + 1)
    after = await client.patch_command(made.id, done)
    assert (after.status, after.result) == (wire.CommandStatus.SUCCEEDED, {"sha": None})
    assert await client.commands(target="a1", status="succeeded", type="t", limit=1) == [after]
    other = await client.create_command(wire.NewCommand(type="t", source="s", target="a1"))
    assert [await client.claim_command(other.id) for _ in range(2)] == [1, None]
    await client.cancel_command(other.id)
    assert (await client.command(other.id)).status is wire.CommandStatus.CANCELED
    assert await client.commands(since=0, status="pending") == []
    await refused(404, client.command, "none")


async def test_orchestrators(client: Client, host: wire.Orchestrator) -> None:
    beat = wire.OrchestratorHeartbeat(version="2", protocol_version=3)
    await client.orchestrator_heartbeat("h1", beat)
    known = await client.orchestrator("h1")
    assert (known.version, known.protocol_version, known.created_at) == ("2", 3, host.created_at)
    assert [each.agent_id for each in known.managed_agents] == ["a1"]
    assert await client.orchestrators() == [known]
    asked = wire.SpawnAgent(provider=wire.Provider.CLAUDE, label="new", spawn_request_id="sp_1")
    spawn = await client.spawn("h1", asked)
    assert (spawn.type, spawn.target) == ("agent.spawn", "orchestrator-h1")
    action = wire.OrchestratorAction(action="shutdown", agent_id="a1")
    assert (await client.orchestrator_action("h1", action)).type == "agent.shutdown"
    newer = wire.UpgradeOrchestrator(action="upgrade", target_version="3.0.0")
    upgrade = await client.upgrade_orchestrator("h1", newer)
    assert (upgrade.type, upgrade.params["targetVersion"]) == ("orchestrator.upgrade", "3.0.0")
    nothing = wire.UpgradeOrchestrator(action="upgrade", providers=["unknown"])
    await refused(400, client.upgrade_orchestrator, "h1", nothing)
    await refused(422, client.host_says, "h1", "version")
    await refused(422, client.make_directory, "h1", "new", "shop")
    await refused(422, client.host_says, "h1", "logs/s/1", {"lines": 1})
    with pytest.raises(Refused):
        await anext(client.follow_log("h1", "s"))
    assert await client.orphans() == []
    orphan = wire.Reclaim(worktree_path="/base/wt/x", repo_root="/base/repo")
    assert (await client.reclaim_orphan(orphan)).params["reclaim"] is True
    answer = wire.DecidePermission(approval_id="q", decision=wire.PermissionAnswer.DENY)
    await refused(404, client.decide_permission, "nobody", answer)
    await client.delete_orchestrator("h1")
    assert await client.orchestrators() == []
    await refused(404, client.spawn, "h1", asked)


async def test_workspaces(client: Client, host: wire.Orchestrator) -> None:
    (row,) = await client.workspaces(repo_root="/base/repo", agent_id="a1", status="active")
    assert row == await client.workspace("w1")
    for state in (
        await client.git_state("w1"),
        await client.merge_preview("w1", "rebase-ff"),
        await client.diff("w1"),
        await client.diff("w1", patch=False),
    ):
        assert state["available"] is False  # the host has given no address
    ready = wire.WorkspaceAction(action=wire.WorkspaceVerb.READY, agent_id="a1", detail="done")
    await client.act("w1", ready)
    asked = await client.act("w1", wire.WorkspaceAction(action=wire.WorkspaceVerb.MERGE))
    assert asked["command"]["type"] == "workspace.merge"
    (lease,) = await client.merge_leases()
    assert (lease.repo_root, lease.workspace_id) == ("/base/repo", "w1")
    assert lease.expires_at > lease.acquired_at > 1.6e9
    assert await client.stewards() == []
    await client.register_agent(RegisterAgent(id="a1", capabilities=["steward"]))
    (steward,) = await client.stewards()
    assert (steward.repo_root, steward.agent_id) == ("/base/repo", "a1")
    await refused(404, client.workspace, "none")


async def test_a_workspace_is_deleted(client: Client, host: wire.Orchestrator) -> None:
    await client.act("w1", wire.WorkspaceAction(action=wire.WorkspaceVerb.ABANDON))
    await client.delete_workspace("w1")
    await refused(404, client.workspace, "w1")


@pytest.mark.spec("CFG-3", "CFG-5", "CFG-8", "CFG-10")
async def test_configured_values(client: Client) -> None:
    first = await client.set_config("deploy", "window", {"from": "22:00"}, "me")
    assert (first.version, first.updated_by) == (1, "me")
    second = await client.set_config("deploy", "window", None)
    assert await client.config_value("deploy", "window") == second
    assert await client.config("deploy") == [second]
    await client.delete_config("deploy", "window", "me")
    assert [entry.version for entry in await client.config_history("deploy", "window", limit=2)] == [3, 2]
    await refused(404, client.config_value, "deploy", "window")
    await refused(404, client.delete_config, "deploy", "window")
    await refused(400, client.set_config, "maintenance", "retention", {"eventDays": 0})


async def test_profiles_and_the_stewards(client: Client) -> None:
    profile = wire.AgentProfile(description="reviews", env={"A": "b"})
    made = await client.set_profile("reviewer", profile, "me")
    assert (made.version, made.value["description"]) == (1, "reviews")
    assert await client.profile("reviewer") == made
    assert await client.profiles() == [made]
    await client.delete_profile("reviewer", "me")
    await refused(404, client.profile, "reviewer")
    await refused(404, client.delete_profile, "reviewer")
    assert (await client.steward_config()).version == 0
    written = await client.set_steward_config(wire.StewardConfig(enabled=True), "me")
    assert await client.steward_config() == written


@pytest.mark.spec("POL-2", "POL-4", "POL-6", "POL-9", "POL-13", "POL-16")
async def test_policies(client: Client, host: wire.Orchestrator) -> None:
    policy = wire.SpawnPolicy(orchestrator_id="h1", provider=wire.Provider.CLAUDE)
    assert (await client.set_policy("p", policy, "me")).version == 1
    assert [report.state.status for report in await client.policies()] == [wire.PolicyStatus.STOPPED]
    started = await client.start_policy("p")
    assert (started.type, started.target) == ("agent.spawn", "orchestrator-h1")
    known = await client.policy("p")
    assert (known.state.status, known.policy["orchestratorId"]) == (wire.PolicyStatus.STARTING, "h1")
    await refused(409, client.start_policy, "p")
    assert (await client.restart_policy("p")).type == "agent.restart"
    assert (await client.stop_policy("p")).type == "agent.shutdown"
    assert (await client.delete_policy("p", "me")).type == "agent.shutdown"
    for call in (client.policy, client.start_policy, client.stop_policy, client.delete_policy):
        await refused(404, call, "p")


@pytest.mark.spec("PRV-1", "PRV-3", "PRV-6", "HST-1")
async def test_providers(client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written = await client.set_provider_config(
        "claude", wire.SetProviderConfig(command="no-such-program", env={"KEY": "secret"})
    )
    assert written.env["KEY"] != "secret"
    assert await client.provider_config("claude") == written
    assert (await client.provider_configs())["claude"] == written
    looked = await client.test_provider("claude")
    assert (looked.ok, looked.command) == (False, "no-such-program")
    await refused(400, client.provider_config, "none")
    (tmp_path / "box").mkdir()
    monkeypatch.setenv("AGENT_RELAY_BASE_DIR", str(tmp_path))
    found = await client.server_directories()
    assert "box" in [entry["name"] for entry in found["entries"]]
    await refused(400, client.server_directories, "../..")


async def test_activity(client: Client) -> None:
    new = wire.NewActivity(client_id="c1", kind=wire.ActivityKind.STATE, title="built", metadata={"n": 1})
    made = await client.post_activity(new)
    assert await client.post_activity(new) == made
    assert await client.activity(limit=10) == [made]


async def events(client: Client, count: int, **given: Any) -> list[StreamedEvent]:
    found: list[StreamedEvent] = []
    with trio.fail_after(10):
        async with aclosing(client.events(**given)) as stream:
            async for event in stream:
                found.append(event)
                if len(found) == count:
                    break
    return found


@pytest.mark.spec("SSE-3", "SSE-9")
async def test_events(client: Client) -> None:
    await client.register_agent(RegisterAgent(id="a1"))
    before = (await events(client, 1, after=0))[-1].id
    text = "a\u2028b\u2029c\x85d\r\n\x0b\x1ce\x00"
    sent = await client.send(SendMessage(from_="a1", to="a1", body=text))
    async with aclosing(client.events("a1", before)) as stream:
        with trio.fail_after(10):
            async for event in stream:
                if event.type == "message.new":
                    break
    assert wire.decode(wire.Message, event.data) == sent
    assert event.data["body"] == text


@pytest.mark.spec("MSG-25")
async def test_a_broadcast_may_have_more_readers_than_a_list_of_tags_has_tags(client: Client) -> None:
    sent = await client.send(SendMessage(from_="user", to="broadcast", body="x"))
    names = [f"a{number}" for number in range(120)]
    for name in names:
        await client.register_agent(RegisterAgent(id=name))
        await client.mark_read(sent.id, name)
    assert (await client.message(sent.id)).read_by == names
    assert (await client.delivery(sent.id)).read_by == names
    assert (await client.messages(for_="a1"))[0].read_by == names


async def test_activity_can_be_read_whatever_was_recorded(client: Client) -> None:
    """Tags of 2 × 100 × 240 quotation marks are longer as JSON than metadata in a body may be."""
    tags = ['"' * 237 + f"{number:03}" for number in range(100)]
    await client.register_agent(RegisterAgent(id="a1", tags=tags))
    await client.set_tags("a1", [tag.replace('"', "\\") for tag in tags])
    assert {each.agent_id for each in await client.activity()} == {"a1"}


async def test_workspaces_can_be_read_whatever_was_gathered(client: Client, host: wire.Orchestrator) -> None:
    for number in range(25):
        note = {f"k{number}": "x" * 60_000}
        await client.act("w1", wire.WorkspaceAction(action=wire.WorkspaceVerb.READY, metadata=note))
        await client.act("w1", wire.WorkspaceAction(action=wire.WorkspaceVerb.CONFLICT_FOUND, metadata=note))
    assert [row.id for row in await client.workspaces()] == ["w1"]


async def test_a_payload_is_taken_only_as_deep_as_it_can_be_told(client: Client) -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"a": nested(depth - 1)} if depth else {}

    taken = 0
    for depth in range(190, 260):
        try:
            sent = await client.send(SendMessage(from_="user", to="user", body="x", payload=nested(depth)))
        except Refused as error:
            assert error.status == 400
            continue
        assert await client.message(sent.id) == sent
        taken += 1
    assert taken
    assert len(await events(client, taken, after=0)) == taken


async def test_a_wrong_token_is_unauthorized(server: Any) -> None:
    async with open_client(server.base_url, "wrong") as client:
        assert (await client.health()).status == "ok"
        with pytest.raises(Unauthorized) as caught:
            await client.agents()
        assert caught.value.status == 401
        with pytest.raises(Unauthorized):
            await events(client, 1)


async def test_url_and_token_are_found(server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENT_RELAY_URL", f"{server.base_url}/")
    monkeypatch.setenv("RELAY_HOME", str(server.home))
    monkeypatch.delenv("AGENT_RELAY_TOKEN_FILE", raising=False)
    async with open_client() as client:
        assert await client.agents() == []
    monkeypatch.setenv("AGENT_RELAY_TOKEN", server.token)
    monkeypatch.setenv("RELAY_HOME", str(tmp_path / "empty"))
    async with open_client() as client:
        assert await client.agents() == []


def test_where_a_token_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AGENT_RELAY_TOKEN", "AGENT_RELAY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RELAY_HOME", str(tmp_path))
    assert find_token() is None
    (tmp_path / "token").write_text(" \n")
    assert find_token() is None
    (tmp_path / "token").write_text("of-the-home\n")
    assert find_token() == "of-the-home"
    (tmp_path / "other").write_text("of-the-file")
    monkeypatch.setenv("AGENT_RELAY_TOKEN_FILE", str(tmp_path / "other"))
    assert find_token() == "of-the-file"
    (tmp_path / "other").write_bytes(b"\xff\xfe")
    assert find_token() is None
    monkeypatch.setenv("AGENT_RELAY_TOKEN", "of-the-environment")
    assert find_token() == "of-the-environment"


@pytest.mark.spec("TOK-1", "TOK-2", "TOK-3", "TOK-5", "W-119")
async def test_tokens(client: Client, host: wire.Orchestrator) -> None:
    root = str(client.token)
    asked = wire.NewToken(role="provider", profile_id="provider-agent", sub="runner:a1", ttl_seconds=60)
    limits = wire.Constraints(agents=["a1"], orchestrators=["h1"])
    made = await client.create_token(attrs.evolve(asked, constraints=limits))
    assert await client.one_token(made.record.jti) == made.record
    assert await client.tokens(sub="runner:a1", role="provider", limit=5) == [made.record]
    await refused(400, client.create_token, wire.NewToken(role="root"))
    async with open_client(client.url, made.token) as own:
        assert own.token == made.token != client.token
    client.use_token(made.token)
    renewed = await client.renew_token()
    client.use_token(root)
    async with open_client(client.url, renewed.token) as own:
        assert [each.agent_id for each in await own.workspaces()] == ["a1"]
    reminted = await client.remint_token("h1", renewed.token)
    assert reminted.record.family == made.record.family
    await refused(403, client.remint_token, "h1", renewed.token)
    again = await client.remint_token("h1", renewed.token, lost=True)
    assert await client.tokens(sub="runner:a1", live=True) == [again.record]
    await client.revoke_token(again.record.jti)
    await refused(404, client.revoke_token, again.record.jti)
    client.use_token(made.token)
    await refused(401, client.agents)
    client.use_token(root)
    interactive = await client.interactive_token(wire.ExchangeToken(agent_id="me"))
    assert interactive.record.profile_id == "provider-interactive"
    spawn = await client.spawn("h1", wire.SpawnAgent(provider=wire.Provider.CLAUDE))
    await refused(409, client.runner_token, spawn.id, "a1")
    await client.claim_command(spawn.id)
    assert (await client.runner_token(spawn.id, "a1")).record.sub == "runner:a1"
    assert len((await client.rotate_key()).retires) == 1


async def test_who_is_refused_asks_again_with_the_token_that_took_its_place(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As programs do that an agent has started: the runner keeps the token that is good in a file."""
    first, second = [
        await client.create_token(wire.NewToken(role="r", scope=["agent:read", "event:read"]))
        for _ in range(2)
    ]
    file = tmp_path / "token"
    file.write_text(f"{first.token}\n")
    monkeypatch.setenv("AGENT_RELAY_TOKEN_FILE", str(file))
    monkeypatch.setenv("AGENT_RELAY_TOKEN", first.token)
    async with open_client(client.url) as agent:
        async with aclosing(agent.events(after=0)) as events:
            await anext(events)
            await client.revoke_token(first.record.jti)
            await refused(401, agent.agents)
            file.write_text(f"{second.token}\n")
            assert await agent.agents() == []
            assert agent.token == second.token
            await client.register_agent(RegisterAgent(id="a1"))
            async for event in events:
                if event.type == "agent.status":
                    break


async def test_who_is_refused_may_have_another_token(client: Client) -> None:
    first, second = [await client.create_token(wire.NewToken(role="admin")) for _ in range(2)]
    await client.revoke_token(first.record.jti)

    async def another(refused: str) -> str | None:
        return second.token if refused == first.token else None

    async with open_client(client.url, first.token) as client:
        await refused(401, client.agents)
        client.when_refused(another)
        assert await client.agents() == []


async def test_channels(client: Client) -> None:
    card = RegisterAgent(id="c", kind=wire.AgentKind.CHANNEL)
    await client.register_agent(card)
    bound = await client.bind_channel(wire.NewBinding(channel_id="c", target=wire.target_at("tag:t")))
    assert bound.target == wire.BindingTarget(type=wire.TargetType.TAG, id="t")
    assert await client.channel_bindings("c") == await client.channel_bindings() == [bound]
    assert await client.channels() == [await client.channel("c")]
    assert (await client.channel("c")).bindings == [bound]
    sent = await client.channel_event("c", wire.ChannelEvent(body="x", idempotency_key="k"))
    again = await client.channel_event("c", wire.ChannelEvent(body="x", idempotency_key="k"))
    assert (sent.created, again.created) == (1, 0)
    assert sent.messages == again.messages
    await client.unbind_channel(bound.id)
    await refused(404, client.unbind_channel, bound.id)
    await refused(409, client.channel_event, "c", wire.ChannelEvent(body="x"))
    await refused(404, client.channel, "nobody")


async def test_reactions_broadcasts_and_owed_answers(client: Client) -> None:
    await client.register_agent(RegisterAgent(id="a1"))
    asking = SendMessage(from_="u", to="a1", body="?", payload={"replyExpected": True})
    asked = await client.send(asking)
    await client.mark_read(asked.id, "a1")
    (owed,) = await client.reply_obligations("a1")
    assert owed.message_id == asked.id
    reacted = await client.react(asked.id, wire.React(agent_id="a1", emoji="+1"))
    assert reacted.reactions is not None
    assert [each.emoji for each in reacted.reactions] == ["+1"]
    taken_back = await client.react(asked.id, wire.React(agent_id="a1", emoji="+1", remove=True))
    assert taken_back.reactions is None
    told = await client.broadcast(wire.Broadcast(body="hello all"))
    assert told in await client.messages(for_="a1")
    await refused(404, client.react, 999, wire.React(agent_id="a1", emoji="+1"))
    await refused(404, client.reply_obligations, "nobody")


async def test_recipes(client: Client) -> None:
    card = wire.RegisterOrchestrator(id="h1", hostname="h1", base_dir="/srv")
    await client.register_orchestrator(card)
    names = [loaded.name for loaded in await client.recipes()]
    assert (await client.recipe("debug")).name in names
    made = await client.start_recipe(wire.StartRecipe(name="debug", input="it is slow"))
    run, command = made.instance, made.commands[0]
    assert await client.recipe_run(run.id) == run
    assert await client.recipe_runs(status="starting", limit=5) == [run]
    for status in (wire.CommandStatus.RUNNING, wire.CommandStatus.TIMED_OUT):
        await client.patch_command(command.id, wire.PatchCommand(status=status))
    held = (await client.recipe_run(run.id)).steps[0]
    decision = wire.DecideStep(decision=wire.StepDecision.SUCCEEDED)
    assert (await client.decide_step(run.id, held.id, decision)).status is wire.RecipeStatus.STARTING
    await refused(409, client.decide_step, run.id, held.id, decision)
    assert (await client.stop_recipe(run.id, "me")).instance.stopped_by == "me"
    await refused(400, client.stop_recipe, run.id)
    await refused(400, client.start_recipe, wire.StartRecipe(name="none"))
    await refused(404, client.recipe, "none")
    await refused(404, client.recipe_run, "none")


async def test_pairs(client: Client) -> None:
    for name in ("a1", "a2"):
        await client.register_agent(RegisterAgent(id=name))
    pair, other, third = [
        await client.propose_pair(wire.ProposePair(from_="a1", to="a2", topic=f"t{number}"))
        for number in range(3)
    ]
    assert await client.pair(pair.id) == pair
    assert (await client.accept_pair(pair.id, "a2")).status is wire.PairStatus.ACTIVE
    assert (await client.reject_pair(other.id, "a2")).status is wire.PairStatus.REJECTED
    assert (await client.end_pair(third.id, "a1")).ended_by == "a1"
    said = await client.send_in_pair(pair.id, wire.PairMessage(from_="a1", body="hi", idempotency_key="k"))
    assert (said.to, said.kind) == ("a2", "pair")
    assert [found.id for found in await client.pairs(status="active", agent_id="a1", limit=5)] == [pair.id]
    await refused(404, client.pair, "none")
    await refused(403, client.accept_pair, pair.id, "a1")
    await refused(409, client.end_pair, third.id, "a1")
    await refused(409, client.send_in_pair, third.id, wire.PairMessage(from_="a1", body="hi"))


async def test_tasks(client: Client) -> None:
    await client.register_agent(RegisterAgent(id="a1"))
    assert await client.integrations() == []
    event = wire.IntegrationEvent(title="build broken", target="a1", key="b1")
    reported = await client.report_event(event)
    assert (reported.created, (await client.report_event(event)).created) == (True, False)
    (task,) = await client.tasks(status="open", source="root", target="a1", limit=1)
    assert await client.tasks(claimed_by="a1", channel="c") == []
    held = await client.claim_task(task.id, "a1")
    assert (held.ok, held.task) == (True, await client.task(task.id))
    done = wire.SetTaskStatus(status=wire.TaskStatus.DONE, agent_id="a1", body="built")
    assert (await client.set_task_status(task.id, done)).status is wire.TaskStatus.DONE
    assert [event.type for event in await client.task_events(task.id)] == [
        *("created", "updated", "claimed", "status")
    ]
    await refused(404, client.task, 9)
    await refused(409, client.claim_task, task.id, "a1")


async def test_connectors(client: Client, server: Any) -> None:
    folder = Path(server.home) / "connectors"
    folder.mkdir()
    program = folder / "relay-connector-k"
    program.write_text(
        '#!/bin/sh\n[ "$1" = start ] && exit 3\necho \'{"ok": true, "message": "all is well"}\'\n'
    )
    program.chmod(0o755)
    (found,) = await client.connectors()
    assert (found.id, found.path) == ("k", str(program))
    configured = await client.configure_connector("k", {"config": {"url": "http://h"}, "token": "t"})
    assert configured.config == {"config": {"url": "http://h"}, "token": "********"}
    assert await client.connector("k") == configured
    done = await client.connector_action("k", wire.ConnectorVerb.DOCTOR)
    assert (done.ok, done.message) == (True, "all is well")
    failed = await client.connector_action("k", wire.ConnectorVerb.START)
    assert (failed.ok, failed.exit_code) == (False, 3)
    await refused(404, client.connector, "none")
    await refused(404, client.connector_action, "none", wire.ConnectorVerb.START)


async def test_the_bus(client: Client) -> None:
    """More of it is in test_client_bus."""
    hello = wire.bus.Hello(
        role=wire.bus.Role.PROVIDER, component_id="runner-1", agent_id="a1", instance_id="i"
    )
    async with client.open_bus(hello) as bus:
        (sent,) = await bus.send([SendMessage(from_="a1", to="user", body="hello")])
        assert isinstance(sent, wire.Message)
        assert await client.message(sent.id) == sent
