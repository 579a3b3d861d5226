"""Session records and what is said of a session that ended."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from relay import wire
from relay.client import Outcomes
from relay.orchestrator import Config, _processes, diagnosis, session
from relay.orchestrator._processes import Life, boot, start_tick
from relay.orchestrator.session import Launch, Session
from relay.orchestrator.sessions import Sessions

ENTRY = wire.ManagedAgent(agent_id="ada", session_name="ar-x", pid=7, started_at=wire.Instant(100.0))


@pytest.fixture
def sessions(base_dir: Path, tmp_path: Path) -> Sessions:
    return Sessions(Config(id="h1", base_dir=base_dir, home=tmp_path), lambda: 200.0)


def of_this_process(**given: Any) -> Session:
    launch = Launch(
        name="ar-x",
        agent_id="ada",
        provider="command",
        cwd="/",
        label=None,
        approval_mode="guarded",
        spawn_request_id="sp_1",
        policy_name=None,
        workspace={"id": "w1", "mode": "shared"},
        environment={},
    )
    fields = {
        "pid": os.getpid(),
        "tick": start_tick(os.getpid()),
        "boot": boot(),
        "started_at": 100.0,
        **given,
    }
    return Session(launch=launch, **fields)


@pytest.mark.spec("R-95", "R-I42")
def test_a_session_of_which_nothing_can_be_known_is_kept(sessions: Sessions, monkeypatch: pytest.MonkeyPatch):
    sessions.live["ar-x"] = of_this_process()

    def unreadable(pid: int) -> str | None:
        raise PermissionError

    monkeypatch.setattr(_processes, "start_tick", unreadable)
    assert sessions.live["ar-x"].life() is Life.UNKNOWN
    assert sessions.look() is False
    assert list(sessions.live) == ["ar-x"]
    assert sessions.exits.pending() == {}


@pytest.mark.spec("R-95", "R-I42")
async def test_a_process_that_may_be_anothers_is_not_signalled():
    assert await _processes.stop_group(os.getpid(), None, 0.0) is False
    assert await _processes.stop_group(os.getpid(), "another start", 0.0) is True


def test_a_pid_that_belongs_to_somebody_else_now_is_dead(sessions: Sessions):
    assert of_this_process(tick="1").life() is Life.DEAD
    assert of_this_process().life() is Life.ALIVE
    assert of_this_process(boot="another").life() is Life.DEAD


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


def killed(process: subprocess.Popen[bytes]) -> None:
    """It is dead, and nobody has asked how it ended."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.spec("R-94")
def test_how_a_runner_ended_is_seen_also_when_it_ends_while_one_looks(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
):
    mine = of_this_process(pid=child.pid, tick=start_tick(child.pid))
    mine.child = True

    def just_then(pid: int, tick: str | None) -> Life:
        killed(child)
        return _processes.life_of(pid, tick)

    monkeypatch.setattr(session, "life_of", just_then)
    assert mine.life() is Life.DEAD
    assert mine.code == -9


def test_how_a_process_that_another_part_has_started_ended_is_not_taken_from_it(
    child: subprocess.Popen[bytes],
):
    stranger = of_this_process(pid=child.pid, tick="of a runner that had this pid before")
    killed(child)
    assert stranger.life() is Life.DEAD
    assert child.wait() == -9


def test_a_report_names_signal_or_exit_code_and_the_end_of_the_log(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n\n" for number in range(50)) + "\x1b[31mred\x1b[0m\x07\n")
    killed = diagnosis.report(ENTRY, -9, 130.5, log, restarted=True)
    assert (killed.signal, killed.exit_code, killed.runtime_ms, killed.restarted) == (
        "SIGKILL",
        None,
        30_500,
        True,
    )
    assert killed.log_tail is not None
    assert killed.log_tail.split("\n")[-2:] == ["line 49", "red"]
    assert len(killed.log_tail.split("\n")) == 20
    failed = diagnosis.report(ENTRY, 1, 130.5, tmp_path / "none", restarted=False)
    assert (failed.signal, failed.exit_code, failed.log_tail) == (None, 1, None)
    unseen = diagnosis.report(ENTRY, None, 130.5, log, restarted=False)
    assert (unseen.signal, unseen.exit_code) == (None, None)
    assert "nobody saw" in (unseen.last_error or "")


def test_an_outcome_survives_and_odd_ids_stay_in_the_outbox(tmp_path: Path):
    outbox = Outcomes(tmp_path / "outbox")
    outcome = wire.PatchCommand(status=wire.CommandStatus.FAILED, error="no")
    for name in ("cmd_1", "../../evil", "a/b"):
        outbox.put(name, outcome)
        assert name in Outcomes(tmp_path / "outbox")
    assert set(Outcomes(tmp_path / "outbox").pending()) == {"cmd_1", "../../evil", "a/b"}
    assert {path.name for path in tmp_path.iterdir()} == {"outbox"}


# -- what an earlier daemon left


def left(sessions: Sessions, **given: Any) -> Session:
    """A session on record, as a daemon that was killed has left it."""
    session = of_this_process(**given)
    sessions.records.save(session)
    return session


@pytest.mark.spec("R-I43", "R-89")
def test_a_restart_that_was_cut_short_starts_no_second_runner(sessions: Sessions):
    left(sessions, due=150.0)
    sessions.recover()
    assert sessions.look() is False
    (session,) = sessions.live.values()
    assert (session.pid, session.due) == (os.getpid(), None)


@pytest.mark.spec("R-I42", "R-I43")
def test_a_restart_waits_while_nobody_can_say_whether_the_old_runner_lives(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    left(sessions, due=150.0)
    sessions.recover()

    def unreadable(pid: int) -> str | None:
        raise PermissionError

    monkeypatch.setattr(_processes, "start_tick", unreadable)
    assert sessions.look() is False
    (session,) = sessions.live.values()
    assert (session.pid, session.due) == (os.getpid(), 150.0)


@pytest.mark.spec("R-I41")
def test_a_session_that_was_never_started_is_not_found_by_the_spawn_that_is_begun_again(sessions: Sessions):
    left(sessions, pid=0, tick=None, boot="")
    sessions.recover()
    assert sessions.find({"spawnRequestId": "sp_1"}) is None
    assert list((sessions.records.info_file("x").parents[1] / "sessions").iterdir()) == []
    assert sessions.exits.pending() == {}


async def test_two_shutdowns_at_once_are_one_end_and_no_news(
    sessions: Sessions, child: subprocess.Popen[bytes]
):
    """Each waits for the other; none sees half of what the other does."""
    session = of_this_process(pid=child.pid, tick=start_tick(child.pid))
    session.child = True
    sessions.live["ar-x"] = session
    ended: list[bool] = []

    async def stop() -> None:
        ended.append(await sessions.stop(session, 5.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        nursery.start_soon(stop)
        while len(ended) < 2:
            assert sessions.look() is False
            await trio.sleep(0)
    assert ended == [True, True]
    assert sessions.live == {}
    assert sessions.exits.pending() == {}
