"""The JSON-lines adapter against real programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from runnerkit import alive

from relay.runner import AgentGone, DeliveryFailed, Options, Patience
from relay.runner.command import CommandAgent, open_agent
from relay.runner.leftover import end_leftover, record_agent

PRELUDE = """
import json, os, signal, sys
def say(**frame): print(json.dumps(frame), flush=True)
def hear(): return json.loads(sys.stdin.readline() or '{"type": "eof"}')
"""
READY = PRELUDE + "hear(); say(type='ready', capabilities={'compact': True})\n"
HURRY = Patience(ready=5, ack=0.4, result=5, ping=5)

Open = Callable[..., AbstractAsyncContextManager[CommandAgent]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(script: str, patience: Patience = HURRY) -> AsyncIterator[CommandAgent]:
        options = Options(
            provider="command",
            agent_id="a1",
            cwd=tmp_path,
            relay_url="http://127.0.0.1:1",
            token=None,
            provider_config={"command": sys.executable, "defaultArgs": ["-c", script]},
            state_dir=tmp_path / "state",
            patience=patience,
            log_file=tmp_path / "agent.log",
        )
        with trio.fail_after(20):
            async with open_agent(options, dict(os.environ)) as agent:
                await agent.hello(options, "session-1")
                yield agent

    return opened


async def gone(pid: int) -> None:
    with trio.fail_after(5):
        while alive(pid):
            await trio.sleep(0.01)


def nothing() -> None: ...


MESSAGE: dict[str, Any] = {"id": 3, "from": "b", "to": "a1", "body": "hi"}


@pytest.mark.spec("R-139")
async def test_a_message_is_delivered_when_it_is_acknowledged(opened: Open) -> None:
    script = """
m = hear()
while m['type'] != 'messages': m = hear()
say(type='ack' if m['messages'][0]['id'] == 3 else 'nack', id=m['id'])
hear()
"""
    async with opened(READY + script) as agent:
        await agent.deliver([MESSAGE], nothing)


@pytest.mark.spec("R-141")
async def test_a_refused_message_is_a_failed_delivery_with_the_agents_words(opened: Open) -> None:
    refuse = (
        "while True:\n m = hear()\n if m['type'] == 'messages': say(type='nack', id=m['id'], error='no')\n"
    )
    async with opened(READY + refuse) as agent:
        with pytest.raises(DeliveryFailed, match="no"):
            await agent.deliver([MESSAGE], nothing)


async def test_an_idle_agent_that_does_not_acknowledge_fails_the_delivery(opened: Open) -> None:
    async with opened(READY + "while hear()['type'] != 'eof': pass") as agent:
        with pytest.raises(DeliveryFailed, match="not acknowledged"):
            await agent.deliver([MESSAGE], nothing)


async def test_a_busy_agent_may_acknowledge_after_its_turn(opened: Open) -> None:
    # It is busy for longer than an idle agent would be given, and its patience begins with the end of the turn.
    script = f"""
import time
say(type='turn', state='start')
m = hear()
while m['type'] != 'messages': m = hear()
time.sleep({2.9 * HURRY.ack})
say(type='turn', state='end')
time.sleep({0.5 * HURRY.ack})
say(type='ack', id=m['id'])
hear()
"""
    async with opened(READY + script) as agent:
        assert (await agent.frames.receive())["state"] == "start"
        await agent.deliver([MESSAGE], nothing)


@pytest.mark.spec("R-140")
async def test_an_agent_that_never_says_ready_is_given_up(opened: Open) -> None:
    with pytest.raises(AgentGone, match="did not say ready"):
        async with opened(PRELUDE + "while hear()['type'] != 'eof': pass", Patience(ready=0.3)):
            pass


async def test_an_agent_that_ends_before_it_is_ready_says_how(opened: Open) -> None:
    with pytest.raises(AgentGone, match="code=3"):
        async with opened("raise SystemExit(3)"):
            pass


@pytest.mark.spec("R-142")
@pytest.mark.parametrize(("lines", "status"), [(19, "offline"), (20, "error")])
async def test_twenty_unusable_lines_in_a_row_are_an_error(opened: Open, lines: int, status: str) -> None:
    async with opened(
        READY + f"print('garbage\\n' * {lines}, flush=True)\nif {lines} >= 20: hear(); hear()"
    ) as agent:
        await agent.exited.wait()
        assert agent.exit is not None
        assert agent.exit.status == status


async def test_a_line_that_is_too_long_is_skipped_and_the_next_one_heard(opened: Open) -> None:
    async with opened(READY + "print('x' * 1_100_000, flush=True)\nsay(type='turn', state='start')") as agent:
        assert await agent.frames.receive() == {"type": "turn", "state": "start"}


async def test_what_an_agent_said_before_it_ended_is_heard(opened: Open) -> None:
    async with opened(READY + "say(type='reply', to='b', body='bye')\nos._exit(0)") as agent:
        await agent.exited.wait()
        assert agent.frames.receive_nowait()["body"] == "bye"


async def test_an_agent_that_answers_no_ping_is_killed(opened: Open) -> None:
    async with opened(READY + "while True: hear()", Patience(ping=0.1)) as agent:
        await agent.exited.wait()
        assert agent.exit is not None
        assert (agent.exit.status, agent.exit.signal) == ("offline", 9)


async def test_an_agent_that_ignores_every_request_to_end_is_killed_with_its_children(
    opened: Open, tmp_path: Path
) -> None:
    script = """
import subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(['sleep', '600'])
say(type='log', pids=[os.getpid(), child.pid])
while True: signal.pause()
"""
    async with opened(READY + script) as agent:
        pids = (await agent.frames.receive())["pids"]
        await agent.shutdown(0.1)
        for pid in pids:
            await gone(pid)


async def test_nothing_is_left_when_the_block_is_left_in_a_hurry(opened: Open) -> None:
    with trio.CancelScope() as scope:
        async with opened(READY + "say(type='log', pid=os.getpid())\nwhile True: signal.pause()") as agent:
            pid = (await agent.frames.receive())["pid"]
            scope.cancel()
            await trio.sleep_forever()
    assert not alive(pid)


@pytest.mark.spec("R-54", "R-55")
async def test_only_what_the_agent_supports_is_asked_of_it(opened: Open) -> None:
    script = """
while True:
    m = hear()
    if m['type'] == 'compact': say(type='result', id=m['id'], ok=True, data={'saved': 5})
"""
    async with opened(READY + script) as agent:
        assert await agent.ask("compact") == {"saved": 5}
        with pytest.raises(DeliveryFailed, match="does not support interrupt"):
            await agent.ask("interrupt")


async def test_a_later_life_kills_the_process_on_record_and_only_that(opened: Open, tmp_path: Path) -> None:
    record = tmp_path / "agent.json"
    async with opened(READY + "while True: signal.pause()") as agent:
        record_agent(record, agent.pid, "session-1")
        noted = json.loads(record.read_text())
        record.write_text(json.dumps({**noted, "tick": "1"}))
        await end_leftover(record)
        assert alive(noted["pid"])
        record_agent(record, agent.pid, "session-1")
        await end_leftover(record)
        await agent.exited.wait()
        assert not record.exists()
