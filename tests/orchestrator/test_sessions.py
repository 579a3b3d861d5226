"""Session records and what is said of a session that ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from relay import wire
from relay._files import write_json
from relay.client import Outcomes
from relay.orchestrator import Config, _processes, diagnosis, session
from relay.orchestrator._processes import Life, boot, start_tick, tagged
from relay.orchestrator.records import TAG, Records
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


LEADER_ENDS_FIRST = """
import ctypes, threading, sys
threading.Thread(target=sys.stdin.read).start()
print(flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.spec("R-94")
@pytest.mark.skipif(sys.platform != "linux", reason="threads outlive the first one as Linux has it")
def test_a_runner_is_not_dead_before_the_last_of_its_threads():
    command = [sys.executable, "-c", LEADER_ENDS_FIRST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        child.stdout.readline()
        mine = of_this_process(pid=child.pid, tick=start_tick(child.pid))
        mine.child = True
        while "\nState:\tZ" not in Path(f"/proc/{child.pid}/status").read_text():
            assert mine.life() is Life.ALIVE
        assert mine.life() is Life.ALIVE
        child.kill()
        while mine.life() is Life.ALIVE:
            pass
        assert mine.code == -9
        child.returncode = mine.code


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


# -- the daemon is killed at the worst moment


class Killed(BaseException):
    """The daemon's process is gone: nothing that comes after is done."""


def next_life(sessions: Sessions) -> Sessions:
    after = Sessions(sessions._config, lambda: 300.0)
    after.recover()
    return after


def starter(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of runners, sleeping processes; the names of the sessions that were started."""
    started: list[str] = []

    def start(launch: Launch, config: Config, records: Records, *, fresh: bool) -> int:
        started.append(launch.name)
        environment = {**os.environ, TAG: str(records.info_file(launch.name))}
        process = subprocess.Popen(["sleep", "1000"], start_new_session=True, env=environment)
        process.returncode = 0
        return process.pid

    monkeypatch.setattr("relay.orchestrator.sessions.start_runner", start)
    return started


@pytest.fixture
def no_sleepers(tmp_path: Path) -> Iterator[None]:
    yield
    for path in (tmp_path / "orchestrators/h1/sessions").glob("*.json"):
        for pid in tagged(TAG, str(tmp_path / "orchestrators/h1/runners" / path.name)):
            os.kill(pid, signal.SIGKILL)


def dies(*_: Any, **__: Any) -> int:
    raise Killed


@pytest.mark.usefixtures("no_sleepers")
async def test_a_start_again_that_was_cut_short_is_made_up_for(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    left(sessions, pid=os.getpid(), tick="1", due=150.0, deaths=[140.0])
    sessions.recover()
    monkeypatch.setattr("relay.orchestrator.sessions.start_runner", dies)
    with pytest.raises(Killed):
        sessions.look()
    after = next_life(sessions)
    started = starter(monkeypatch)
    assert after.look() is True
    assert started == ["ar-x"]
    (session,) = after.live.values()
    assert (session.life(), session.due, session.deaths) == (Life.ALIVE, None, [140.0])
    third = next_life(after)
    assert third.look() is False
    assert [each.pid for each in third.live.values()] == [session.pid]


@pytest.mark.usefixtures("no_sleepers")
async def test_a_restart_that_was_cut_short_between_the_two_processes_is_made_up_for(
    sessions: Sessions, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
):
    session = left(sessions, pid=child.pid, tick=start_tick(child.pid))
    session.child = True
    sessions.live["ar-x"] = session
    monkeypatch.setattr("relay.orchestrator.sessions.start_runner", dies)
    with pytest.raises(Killed):
        await sessions.restart(session, 5.0, "cmd_1")
    after = next_life(sessions)
    started = starter(monkeypatch)
    assert after.look() is True
    assert started == ["ar-x"]


@pytest.mark.spec("R-I41")
@pytest.mark.usefixtures("no_sleepers")
async def test_a_restart_that_is_begun_again_restarts_once(
    sessions: Sessions, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
):
    session = left(sessions, pid=child.pid, tick=start_tick(child.pid))
    session.child = True
    sessions.live["ar-x"] = session
    started = starter(monkeypatch)
    new = await sessions.restart(session, 5.0, "cmd_1")
    assert new is not None
    after = next_life(sessions)
    (found,) = after.live.values()
    assert await after.restart(found, 5.0, "cmd_1") is found
    assert (found.pid, found.life(), started) == (new.pid, Life.ALIVE, ["ar-x"])
    assert await after.restart(found, 5.0, "cmd_2") is not None
    assert started == ["ar-x", "ar-x"]


async def test_a_shutdown_that_was_cut_short_is_the_end_and_no_news(
    sessions: Sessions, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
):
    session = left(sessions, pid=child.pid, tick=start_tick(child.pid))
    session.child = True
    sessions.live["ar-x"] = session
    sessions.records.info_file("ar-x").write_text("{}")  # the runner had no time to tidy up

    async def killed_meanwhile(*_: Any) -> bool:
        killed(child)
        child.wait()
        raise Killed

    monkeypatch.setattr("relay.orchestrator.sessions.stop_group", killed_meanwhile)
    with pytest.raises(Killed):
        await sessions.stop(session, 5.0)
    monkeypatch.undo()
    after = next_life(sessions)
    assert after.look() is False
    assert after.exits.pending() == {}
    found = after.find({"agentId": "ada"})
    assert found is not None
    assert await after.stop(found, 5.0) is True
    assert next_life(after).live == {}


async def test_a_shutdown_that_did_not_come_about_is_forgotten(
    sessions: Sessions, child: subprocess.Popen[bytes]
):
    """The daemon was killed before the signal, and the command is not asked for any more."""
    left(sessions, pid=child.pid, tick=start_tick(child.pid), asked=True)
    after = next_life(sessions)
    assert after.look() is False
    killed(child)
    child.wait()
    assert after.look() is True
    assert len(after.exits.pending()) == 1


@pytest.mark.spec("R-I44")
def test_a_death_that_is_seen_twice_is_one_report(sessions: Sessions, monkeypatch: pytest.MonkeyPatch):
    left(sessions, pid=os.getpid(), tick="1")
    sessions.recover()
    with monkeypatch.context() as patch:
        patch.setattr(sessions.records, "forget", dies)
        with pytest.raises(Killed):
            sessions.look()
    after = next_life(sessions)
    assert after.look() is True
    assert len(after.exits.pending()) == 1


# -- what a runner leaves running


@pytest.fixture
def asleep() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes that sleep, each in a session of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**environment: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, **environment}
        started.append(subprocess.Popen(["sleep", "1000"], start_new_session=True, env=env))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.spec("R-I50")
@pytest.mark.parametrize("how", ["death", "shutdown"])
async def test_the_agent_of_a_runner_that_is_over_ends_too(
    sessions: Sessions, tmp_path: Path, asleep: Callable[..., subprocess.Popen[bytes]], how: str
):
    """It is in a session of its own, so the end of the runner is not its end; it must not work on in a worktree that is
    taken away, or beside a successor."""
    agent, stranger = asleep(), asleep()
    helper = asleep(AGENT_RELAY_PROVIDER_SESSION_ID="session-1")
    noted = {"pid": agent.pid, "tick": start_tick(agent.pid), "session": "session-1"}
    write_json(tmp_path / "orchestrators/h1/state/ar-x/agent.json", noted)
    session = left(sessions, pid=os.getpid(), tick="1")
    sessions.live["ar-x"] = session
    assert sessions.occupant("/") == "ada"
    if how == "death":
        assert sessions.look() is True
    else:
        assert await sessions.stop(session, 0.0) is True
    assert (agent.wait(10), helper.wait(10)) == (-9, -9)
    assert stranger.poll() is None
    assert sessions.occupant("/") is None


def test_damaged_reports_and_records_stop_nobody_else(sessions: Sessions, tmp_path: Path):
    (tmp_path / "orchestrators/h1/exits/bad.json").write_text('{"agentId": 1}')
    left(sessions)
    for number, damage in enumerate(({"pid": "x"}, {"deaths": 1}, {"due": "x"}, {"started_at": None})):
        record = tmp_path / f"orchestrators/h1/sessions/ar-{number}.json"
        record.write_text(json.dumps(attrs.asdict(of_this_process(), filter=lambda a, _: a.init) | damage))
    record = tmp_path / "orchestrators/h1/sessions/ar-y.json"
    launch = attrs.asdict(of_this_process().launch) | {"workspace": {"mode": "odd"}}
    record.write_text(json.dumps({"launch": launch, "pid": 1}))
    after = next_life(sessions)
    assert list(after.live) == ["ar-x"]
    assert after.look() is False
    assert after.exits.pending() == {}
    assert [path.name for path in (tmp_path / "orchestrators/h1/exits").iterdir()] == ["bad.damaged"]
