"""How an agent's process starts, ends and is started again, and when its runner ends."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from runnerkit import Host, Relay, alive, until

from relay.runner import TAKEN_OVER, Options, Patience, read_options
from relay.runner.environment import agent_environment
from relay.runner.keeper import Accidents


@pytest.mark.spec("R-67", "R-I13", "R-8")
async def test_an_agent_that_was_killed_is_started_again(host: Host, relay: Relay) -> None:
    async with host.running() as runner:
        number = await relay.send("die")
        await until(lambda: len(host.noted("started")) == 2)
        after = await relay.send("after")
        await until(lambda: host.taken() == [number, after])
        assert runner.code is None
        first, second = host.noted("started")
        assert first["session"] != second["session"]
        assert not alive(first["pid"])


@pytest.mark.spec("R-68", "R-I17")
async def test_an_agent_that_ends_too_often_is_given_up(host: Host, relay: Relay) -> None:
    host.flag("fleeting").touch()
    async with host.running() as runner:
        await until(lambda: runner.code is not None)
        assert runner.code == 1
        assert len(host.noted("started")) == 4
        card = await relay.agent()
        assert (card["status"], card["ready"]) == ("offline", False)
        assert card["meta"]["terminalStatus"] == "error"


@pytest.mark.spec("R-68", "R-I17", "R-I18")
def test_four_rapid_ends_in_two_minutes_are_too_many() -> None:
    accidents = Accidents()
    pauses = [accidents.pause(now, lived=5.0) for now in (5.0, 10.0, 15.0, 20.0)]
    assert pauses == [0.5, 1.0, 1.5, None]


@pytest.mark.spec("R-69", "R-I18")
def test_an_agent_that_lives_for_a_while_is_always_started_again() -> None:
    accidents = Accidents()
    pauses = [accidents.pause(31.0 * number, lived=31.0) for number in range(1, 11)]
    assert all(pause is not None and 0.5 <= pause <= 10.0 for pause in pauses)


@pytest.mark.spec("R-I18")
def test_pauses_grow_with_the_ends_up_to_ten_seconds() -> None:
    accidents = Accidents()
    pauses = [accidents.pause(float(number), lived=60.0) or 0.0 for number in range(40)]
    assert all(earlier <= later for earlier, later in pairwise(pauses))
    assert (pauses[0], pauses[-1]) == (0.5, 10.0)


@pytest.mark.spec("R-71", "R-I15")
async def test_a_shutdown_while_it_waits_to_be_started_again_is_the_end(host: Host, relay: Relay) -> None:
    async with host.running() as runner:
        for _ in range(3):
            started = len(host.noted("started"))
            os.kill(host.noted("started")[-1]["pid"], signal.SIGKILL) if started else None
            await until(lambda started=started: len(host.noted("started")) > started)
            await until(relay.is_ready)
        before = len(host.noted("started"))
        os.kill(host.noted("started")[-1]["pid"], signal.SIGKILL)
        assert (await relay.done("agent.shutdown"))["status"] == "succeeded"
        await until(lambda: runner.code is not None)
        assert runner.code == 0
        assert len(host.noted("started")) == before


@pytest.mark.spec("R-72", "R-I16")
async def test_an_agent_that_failed_is_not_started_again(host: Host, relay: Relay) -> None:
    script = host.folder / "agent.py"
    script.write_text(script.read_text().replace("os.kill(os.getpid(), 9)", "sys.exit(3)"))
    async with host.running() as runner:
        await relay.send("die")
        await until(lambda: runner.code is not None)
        assert runner.code == 1
        assert len(host.noted("started")) == 1


@pytest.mark.spec("R-73", "R-I16")
@pytest.mark.parametrize("how", [{"headless": False}, {"config": {"restart": False}}])
async def test_an_agent_that_is_not_to_be_restarted_is_not(
    host: Host, relay: Relay, how: dict[str, Any]
) -> None:
    config = {**host.provider, **how.pop("config", {})}
    async with host.running(provider_config=config, **how) as runner:
        await relay.send("die")
        await until(lambda: runner.code is not None)
        assert runner.code == 0
        assert len(host.noted("started")) == 1


@pytest.mark.spec("R-74", "R-140")
async def test_an_agent_that_does_not_come_up_again_ends_the_runner(host: Host, relay: Relay) -> None:
    async with host.running(patience=Patience(ready=1.0)) as runner:
        await until(relay.is_ready)
        host.flag("mute").touch()
        await relay.send("die")
        await until(lambda: runner.code is not None)
        assert runner.code == 1
        assert len(host.noted("started")) == 2


async def test_an_agent_that_dies_of_its_first_prompt_is_an_accident(host: Host, relay: Relay) -> None:
    host.flag("startled").touch()
    async with host.running(prompt="begin") as runner:
        await until(lambda: len(host.noted("prompt")) == 2)
        await until(relay.is_ready)
        assert runner.code is None


@pytest.mark.spec("R-4")
async def test_a_blank_prompt_is_none(host: Host, relay: Relay) -> None:
    async with host.running(prompt=" \n "):
        number = await relay.send("one")
        await until(lambda: host.taken() == [number])
        assert host.noted("prompt") == []


async def test_a_prompt_is_given_once_however_often_the_agent_is_started(host: Host, relay: Relay) -> None:
    async with host.running(prompt="begin"):
        first = await relay.send("one")  # it is handed over after the prompt was acknowledged
        await until(lambda: relay.is_read(first))
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        await until(lambda: len(host.noted("started")) == 2)
    async with host.running(prompt="begin"):
        second = await relay.send("two")
        await until(lambda: host.taken() == [first, second])
    assert len(host.noted("prompt")) == 1


@pytest.mark.spec("R-5")
async def test_a_first_prompt_that_is_refused_holds_up_no_message(host: Host, relay: Relay) -> None:
    host.flag("sulky").touch()
    async with host.running(prompt="begin"):
        number = await relay.send("one")
        await until(lambda: host.taken() == [number])


@pytest.mark.spec("R-18")
async def test_an_info_file_that_cannot_be_written_stops_nobody(host: Host, relay: Relay) -> None:
    (host.folder / "file").touch()
    async with host.running(info_file=host.folder / "file" / "info.json"):
        number = await relay.send("one")
        await until(lambda: host.taken() == [number])


async def test_a_second_runner_takes_over_and_the_first_ends(host: Host, relay: Relay) -> None:
    first = host.start()
    await until(relay.is_ready)
    one = await relay.send("one")
    await until(lambda: relay.is_read(one))
    (started,) = host.noted("started")
    host.state = host.folder / "elsewhere"
    async with host.running() as second:
        await until(relay.is_ready)
        await relay.send("work")  # whichever has it: both have something to say now
        await until(lambda: first.poll() is not None)
        assert first.returncode == TAKEN_OVER
        await until(lambda: not alive(started["pid"]))
        two = await relay.send("two")
        await until(lambda: relay.is_read(two))
        assert second.code is None
        await until(relay.is_ready)


async def test_a_second_runner_on_the_same_state_does_not_start(host: Host, relay: Relay) -> None:
    first = host.start()
    await until(relay.is_ready)
    second = host.start()
    await until(lambda: second.poll() is not None)
    assert second.returncode == 1
    assert f"process {first.pid}" in host.log.read_text()
    assert first.poll() is None
    assert len(host.noted("started")) == 1


async def test_an_agent_that_says_too_much_about_itself_is_heard_all_the_same(
    host: Host, relay: Relay
) -> None:
    async with host.running():
        frames = [
            {"type": "status", "status": "busy", "id": str(number), "label": "x" * 1_000}
            for number in range(60)
        ]
        await relay.send("frames", payload={"frames": frames})
        await until(lambda: relay.has_status("busy"))

        async def is_told() -> bool:
            return (await relay.agent())["meta"].get("busyReasons") == ["provider-turn"]

        await until(is_told)
        await relay.send("rest")
        await until(lambda: relay.has_status("idle"))


async def test_a_runner_that_was_taken_over_is_told_so_by_its_heartbeat(host: Host, relay: Relay) -> None:
    async with host.running(liveness=0.2) as runner:
        await until(relay.is_ready)
        await relay.http.post("/api/agents", json={"id": "a1", "instanceId": "another"})
        await until(lambda: runner.code is not None)
        assert runner.code == TAKEN_OVER
        card = await relay.agent()
        assert (card["instanceId"], card["status"]) == ("another", "online")


async def test_an_agent_that_relay_has_forgotten_is_registered_again(host: Host, relay: Relay) -> None:
    async with host.running(liveness=0.2):
        await until(relay.is_ready)
        await relay.http.delete("/api/agents/a1")
        await until(relay.is_ready)
        number = await relay.send("one")
        await until(lambda: host.taken() == [number])


@pytest.mark.spec("R-I19")
async def test_what_another_session_says_changes_nothing(host: Host, relay: Relay) -> None:
    async with host.running():
        foreign = {"type": "status", "status": "busy", "providerSessionId": "not this one"}
        number = await relay.send("frames", payload={"frames": [foreign]})
        await until(lambda: relay.is_read(number))
        await until(lambda: relay.has_status("idle"))


async def test_a_new_process_is_not_offline_because_the_last_one_said_so(host: Host, relay: Relay) -> None:
    async with host.running():
        await relay.send("frames", payload={"frames": [{"type": "status", "status": "offline"}]})
        await until(lambda: relay.has_status("offline"))
        await until(lambda: relay.is_ready(False))
        assert (await relay.done("agent.restart"))["status"] == "succeeded"
        await until(relay.is_ready)
        await until(lambda: relay.has_status("idle"))


@pytest.mark.spec("R-147")
async def test_subagents_are_counted(host: Host, relay: Relay) -> None:
    def said(status: str, name: str) -> dict[str, Any]:
        frame = {"type": "status", "status": status, "reason": "subagent", "id": name}
        return {"payload": {"frames": [frame]}}

    async def are(count: int) -> bool:
        return (await relay.agent())["meta"].get("activeSubagentCount") == count

    async with host.running():
        for status, name, count in (("busy", "a", 1), ("busy", "b", 2), ("idle", "a", 1), ("idle", "b", 0)):
            await relay.send("frames", **said(status, name))
            await until(lambda count=count: are(count))
        await until(lambda: relay.has_status("idle"))


@pytest.mark.spec("R-I22")
async def test_what_the_agent_reports_is_in_its_timeline_once(host: Host, relay: Relay) -> None:
    async def reported() -> list[dict[str, Any]]:
        entries = await relay.get("/api/agents/a1/timeline")
        return [entry for entry in reversed(entries) if entry["status"].startswith("session")]

    began = {"status": "session started", "metadata": {"provider": "claude"}}
    frames = [
        {"type": "status", "status": "idle", "timeline": began},
        {"type": "status", "status": "idle", "timeline": {"id": "no status"}},
        {
            "type": "status",
            "status": "busy",
            "timeline": {"status": "session busy", "id": "b", "timestamp": 5},
        },
        {"type": "status", "status": "idle", "timeline": {"status": "session busy", "id": "b"}},
        {
            "type": "status",
            "status": "idle",
            "providerSessionId": "x",
            "timeline": {"status": "session of old"},
        },
        {"type": "status", "status": "idle", "timeline": {"status": "session over"}},
    ]
    async with host.running():
        await relay.send("frames", payload={"frames": frames})

        async def over() -> bool:
            return any(entry["status"] == "session over" for entry in await reported())

        await until(over)
        first, busy, last = await reported()
        assert (first["status"], first["metadata"]) == ("session started", {"provider": "claude"})
        assert (busy["status"], busy["at"]) == ("session busy", 5)
        assert last["at"] >= first["at"]
        assert "timelineEvent" not in (await relay.agent())["meta"]


@pytest.mark.spec("AGT-33")
async def test_what_the_agent_can_do_can_be_asked_of_it(host: Host, relay: Relay) -> None:
    async def asked(action: str) -> dict[str, Any]:
        answer = await relay.http.post("/api/agents/a1/actions", json={"action": action})
        assert answer.status_code == 202, answer.text
        return await relay.outcome(answer.json()["command"]["id"])

    async with host.running():
        await until(relay.is_ready)
        for action in ("compact", "reconnect", "restart"):
            assert (await asked(action))["status"] == "succeeded"
        await until(relay.is_ready)
        assert (await relay.agent())["meta"]["lifecycleAction"] is None
        prompted = await relay.http.post("/api/agents/a1/prompt", json={"body": "hi"})
        assert (await relay.outcome(prompted.json()["commandId"]))["status"] == "succeeded"


# -- what the agent is told


def options(tmp_path: Path, **more: Any) -> Options:
    given: dict[str, Any] = {
        "provider": "command",
        "agent_id": "a1",
        "cwd": tmp_path,
        "relay_url": "http://relay",
        "token": "secret",
        "provider_config": {"command": "x"},
        "instance_id": "run-1",
        "state_dir": tmp_path,
    }
    return Options(**given | more)


async def test_nothing_of_the_runners_own_reaches_the_agent(host: Host, relay: Relay) -> None:
    host.start(
        AGENT_RELAY_AGENT_ID="a1",
        AGENT_RELAY_PROMPT="begin",
        AGENT_RELAY_SPAWN_REQUEST_ID="sp-1",
        AGENT_RELAY_WORKSPACE_MODE="isolated",
        AGENT_RELAY_SYSTEM_PROMPT_APPEND="be kind",
    )
    await until(lambda: len(host.noted("started")) == 1)
    (started,) = host.noted("started")
    assert set(started["env"]) == {
        "AGENT_RELAY_URL",
        "AGENT_RELAY_ID",
        "AGENT_RELAY_RUNNER_ID",
        "AGENT_RELAY_PROVIDER_SESSION_ID",
        "AGENT_RELAY_APPROVAL",
        "AGENT_RELAY_TOKEN",
        "AGENT_RELAY_TOKEN_JTI",
        "AGENT_RELAY_TOKEN_PROFILE",
        "AGENT_RELAY_TOKEN_EXPIRES_AT",
        "AGENT_RELAY_TOKEN_FILE",
        "AGENT_RELAY_WORKSPACE_MODE",
    }
    assert host.token not in started["env"].values()
    assert started["hello"]["systemPrompt"] == "be kind"
    assert started["env"]["AGENT_RELAY_PROVIDER_SESSION_ID"] == started["hello"]["sessionId"]


@pytest.mark.spec("R-6", "R-I35")
def test_a_provider_may_add_variables_but_not_change_what_the_agent_is_told(tmp_path: Path) -> None:
    config = {"command": "x", "env": {"AGENT_RELAY_ID": "liar", "MODEL": "m", "PATH": "/p"}}
    told = agent_environment(
        options(tmp_path, provider_config=config), "session-1", {"PATH": "/usr/bin", "HOME": "/h"}
    )
    assert told["AGENT_RELAY_ID"] == "a1"
    assert (told["MODEL"], told["PATH"], told["HOME"]) == ("m", "/p", "/h")


def test_without_a_token_the_agent_gets_none(tmp_path: Path) -> None:
    inherited = {"AGENT_RELAY_TOKEN": "the host's"}
    told = agent_environment(options(tmp_path, token=None), "session-1", inherited)
    assert "AGENT_RELAY_TOKEN" not in told


def test_long_texts_may_come_in_files(tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("begin")
    (tmp_path / "system").write_text("be kind")
    environ = {
        "AGENT_RELAY_PROVIDER_CONFIG_JSON": '{"command": "sh", "headless": {"shutdownTimeoutMs": 1500}}',
        "AGENT_RELAY_PROMPT": "ignored",
        "AGENT_RELAY_PROMPT_FILE": str(tmp_path / "prompt"),
        "AGENT_RELAY_SYSTEM_PROMPT_APPEND_FILE": str(tmp_path / "system"),
    }
    read = read_options(["command", "--cwd", str(tmp_path)], environ)
    assert (read.prompt, read.system_prompt, read.grace) == ("begin", "be kind", 1.5)


@pytest.mark.spec("R-I34")
async def test_no_token_is_published_or_logged(host: Host, relay: Relay) -> None:
    host.start()
    await until(relay.is_ready)
    found = await relay.done("agent.compact")
    shown = f"{await relay.agent()}{found}{host.info.read_text()}{host.log.read_text()}"
    assert host.token not in shown
