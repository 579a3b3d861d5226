"""Real programs as connectors: what their ends mean, and that nothing of them is left."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from connectorkit import alive, install, pids, until_gone, until_started, write

from relay import wire
from relay.actors import open_system
from relay.connectors import LocalPrograms, folders
from relay.fleet import Fleet, Invalid, NotFound, connectors, open_fleet
from relay.store import Owner, Write, open_store

V = wire.ConnectorVerb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "connectors"


def programs(folder: Path, within: float = 1.0, grace: float = 0.3) -> LocalPrograms:
    return LocalPrograms((folder,), "http://127.0.0.1:1", within=within, grace=grace)


@pytest.fixture
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store, programs=programs(folder, within=10.0)) as fleet,
    ):
        yield fleet


@pytest.fixture
async def hasty(folder: Path) -> AsyncIterator[Fleet]:
    """A fleet that gives programs a second."""
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store, programs=programs(folder)) as fleet,
    ):
        yield fleet


async def act(fleet: Fleet, name: str, verb: V = V.START) -> wire.ConnectorResult:
    return await fleet.connectors[name].ask(connectors.Act(verb))


@pytest.mark.spec("CON-1", "CON-3")
async def test_a_program_that_succeeds(fleet: Fleet, folder: Path) -> None:
    install(folder, "fine")
    (found,) = connectors.list_connectors(fleet)
    assert (found.id, found.path, found.installed) == ("fine", str(folder / "relay-connector-fine"), False)
    result = await act(fleet, "fine", V.INSTALL)
    assert (result.ok, result.message, result.error, result.exit_code) == (True, "done install", None, None)
    after = connectors.get_connector(fleet, "fine")
    assert (after.installed, after.enabled, after.running, after.version) == (True, False, True, "1.2")
    assert (after.last_action, after.last_result) == (V.INSTALL, result)
    (audit,) = fleet.store.rows("select client_id from activity")
    assert audit[0].startswith("server-connector-fine-install-")


@pytest.mark.parametrize(
    ("verbs", "installed", "enabled"),
    [
        ([V.INSTALL, V.ENABLE], True, True),
        ([V.INSTALL, V.ENABLE, V.DISABLE], True, False),
        ([V.INSTALL, V.ENABLE, V.UNINSTALL], False, False),
        ([V.DOCTOR, V.STATUS], False, False),
    ],
)
async def test_what_succeeds_is_kept(
    fleet: Fleet, folder: Path, verbs: list[V], installed: bool, enabled: bool
) -> None:
    install(folder, "deaf")
    for verb in verbs:
        assert (await act(fleet, "deaf", verb)).ok
    after = connectors.get_connector(fleet, "deaf")
    assert (after.installed, after.enabled) == (installed, enabled)


@pytest.mark.spec("CON-3", "M-120")
@pytest.mark.parametrize(
    ("name", "error", "exit_code"),
    [
        ("failing", "no luck with enable", None),
        ("crashing", "the program ended with 3", 3),
        ("killed", "the program ended with 137", 137),
        ("ok-but-3", "the program ended with 3", 3),
        ("silent", "the program wrote no answer", None),
        ("babbling", "is no JSON", None),
        ("wrong", "ok: expected true or false", None),
        ("list", "must be an object", None),
    ],
)
async def test_a_program_that_fails_says_why_and_changes_nothing(
    fleet: Fleet, folder: Path, name: str, error: str, exit_code: int | None
) -> None:
    install(folder, name)
    result = await act(fleet, name, V.ENABLE)
    assert not result.ok
    assert result.error is not None
    assert error in result.error
    assert result.exit_code == exit_code
    after = connectors.get_connector(fleet, name)
    assert (after.enabled, after.last_result) == (False, result)
    if name in {"failing", "crashing"}:
        assert result.stderr in {"it hurts", "the end"}


@pytest.mark.parametrize("name", ["hanging", "stubborn", "family"])
async def test_a_program_that_does_not_end_is_ended_with_its_children(
    hasty: Fleet, folder: Path, name: str
) -> None:
    install(folder, name)
    result = await act(hasty, name)
    assert (result.ok, result.error) == (False, "the program did not end within 1 s")
    await until_gone(folder)
    assert len(pids(folder)) == (2 if name == "family" else 1)


@pytest.mark.parametrize("name", ["flooding", "endless"])
async def test_a_program_that_floods_is_ended(fleet: Fleet, folder: Path, name: str) -> None:
    install(folder, name)
    result = await act(fleet, name)
    assert (result.ok, result.error) == (False, "the program wrote more than 65536 bytes")
    await until_gone(folder)


async def test_an_answer_may_be_64_kib_long(fleet: Fleet, folder: Path) -> None:
    frame = len('{"ok": true, "data": {"x": ""}}\n')
    for length, ok in ((65_536 - frame - 40, True), (65_536, False)):
        filler = f"$(head -c {length} /dev/zero | tr '\\0' x)"
        write(folder, "long", f"""printf '{{"ok": true, "data": {{"x": "%s"}}}}\\n' {filler}""")
        assert (await act(fleet, "long")).ok is ok


async def test_the_end_of_what_it_complains_about_is_kept(fleet: Fleet, folder: Path) -> None:
    install(folder, "complaining")
    result = await act(fleet, "complaining")
    assert result.ok
    assert result.stderr is not None
    assert result.stderr.endswith("line 2999 of many")
    assert len(result.stderr) <= 4_000


async def test_what_a_program_leaves_in_its_group_ends_with_it(fleet: Fleet, folder: Path) -> None:
    install(folder, "forking")
    assert (await act(fleet, "forking")).ok
    await until_gone(folder)
    assert len(pids(folder)) == 3


async def test_a_daemon_leaves_the_group(fleet: Fleet, folder: Path) -> None:
    """And keeps the standard output open: nobody waits for it."""
    daemon = f"import os, time; os.setsid(); open({str(folder / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(1000)"
    write(
        folder,
        "daemon",
        f'{sys.executable} -c "{daemon}" &\nwhile [ $(wc -l < "$HERE/pids") -lt 2 ]; do :; done\necho \'{{"ok": true}}\'',
    )
    assert (await act(fleet, "daemon")).ok
    program, left = pids(folder)
    assert (alive(program), alive(left)) == (False, True)
    subprocess.run(["kill", "-9", str(left)], check=True)


@pytest.mark.spec("CON-3")
async def test_a_program_that_vanished_is_unknown(
    fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound):
        await act(fleet, "fine")
    install(folder, "fine")
    await act(fleet, "fine", V.INSTALL)
    path = folder / "relay-connector-fine"
    path.unlink()
    with pytest.raises(NotFound):
        await act(fleet, "fine")
    left = connectors.get_connector(fleet, "fine")
    assert (left.path, left.installed) == (None, True)
    assert connectors.list_connectors(fleet) == [left]
    monkeypatch.setattr(fleet.programs, "find", lambda connector: str(path))
    with pytest.raises(NotFound):
        await act(fleet, "fine")


async def test_a_program_without_an_interpreter_is_a_failure(fleet: Fleet, folder: Path) -> None:
    write(folder, "odd", "").write_text("#!/no/such/interpreter\n")
    result = await act(fleet, "odd")
    assert (result.ok, result.exit_code) == (False, 126)
    assert result.stderr is not None
    assert "cannot be started" in result.stderr


async def test_actions_of_one_connector_wait_for_each_other(fleet: Fleet, folder: Path) -> None:
    script = 'mkdir "$HERE/busy" || exit 9; sleep 0.1; rmdir "$HERE/busy"; echo \'{"ok": true}\''
    write(folder, "single", script)
    write(folder, "other", "echo '{\"ok\": true}'")
    results: list[wire.ConnectorResult] = []

    async def one(name: str) -> None:
        results.append(await act(fleet, name))

    async with trio.open_nursery() as nursery:
        for name in ("single", "single", "single", "other"):
            nursery.start_soon(one, name)
    assert [result.error for result in results] == [None] * 4


async def test_who_stops_waiting_neither_ends_nor_repeats_the_action(fleet: Fleet, folder: Path) -> None:
    install(folder, "counting")
    with trio.CancelScope() as impatient:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(act, fleet, "counting", V.INSTALL)
            await until_started(folder)
            nursery.start_soon(act, fleet, "counting", V.ENABLE)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel()
    assert (await act(fleet, "counting", V.STATUS)).ok
    after = connectors.get_connector(fleet, "counting")
    assert (after.installed, after.enabled) == (True, False), "what had not begun never did"
    assert (folder / "runs").read_text().count("x") == 2


async def test_what_a_program_did_is_told_although_it_cannot_be_recorded(fleet: Fleet, folder: Path) -> None:
    """To say that it had no effect would have it done twice."""
    install(folder, "counting")
    await alter(
        fleet, "create trigger full before insert on connectors begin select raise(abort, 'full'); end"
    )
    assert (await act(fleet, "counting", V.INSTALL)).ok
    await alter(fleet, "drop trigger full")
    assert not connectors.get_connector(fleet, "counting").installed
    assert (await act(fleet, "counting", V.ENABLE)).ok
    assert (folder / "runs").read_text().count("x") == 2


async def alter(fleet: Fleet, sql: str) -> None:
    done = trio.Event()
    fleet.store.stage((Write(sql),), (), Owner(), lambda error: done.set())
    await done.wait()


async def test_the_end_of_the_fleet_ends_what_runs(folder: Path) -> None:
    install(folder, "stubborn")
    async with open_system() as system, open_store(None, system) as store:
        with trio.move_on_after(10) as limit:
            async with open_fleet(system, store, programs=programs(folder, within=100.0)) as fleet:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(act, fleet, "stubborn")
                    await until_started(folder)
                    nursery.cancel_scope.cancel()
    assert not limit.cancelled_caught
    assert not any(alive(pid) for pid in pids(folder))


SERVED = """
import sys, trio
from pathlib import Path
from relay.connectors import LocalPrograms

async def main():
    programs = LocalPrograms((Path(sys.argv[1]),), "http://x", within=100.0, grace=0.3)
    async with programs.run("family", programs.find("family"), "start", b"{}"):
        pass

trio.run(main)
"""


async def test_a_killed_server_leaves_nothing_running(folder: Path) -> None:
    install(folder, "family")
    with subprocess.Popen([sys.executable, "-c", SERVED, str(folder)]) as server:
        await until_started(folder, 2)
        server.send_signal(signal.SIGKILL)
        server.wait()
    await until_gone(folder)


async def test_what_a_program_is_told(fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RELAY_TOKEN", "the-root-token")
    monkeypatch.setenv("LC_TIME", "C")
    install(folder, "echoing")
    await fleet.connectors["echoing"].ask(connectors.Configure({"url": "http://h", "depth": 3}))
    result = await act(fleet, "echoing")
    assert result.data == {
        "connector": "echoing",
        "action": "start",
        "config": {"url": "http://h", "depth": 3},
    }
    assert result.message is not None
    assert "AGENT_RELAY_URL=http://127.0.0.1:1 " in result.message
    assert "AGENT_RELAY_CONNECTOR_ID=echoing " in result.message
    assert "LC_TIME=C " in result.message
    assert "PATH=" in result.message
    assert "the-root-token" not in result.message
    assert "TOKEN" not in result.message


async def test_secrets_reach_the_program_and_nobody_else(fleet: Fleet, folder: Path) -> None:
    install(folder, "echoing")
    write(
        folder, "leaking", """cat >&2; echo '{"ok": false, "message": "cannot log in with hunter2hunter2"}'"""
    )
    config = {"apiToken": "hunter2hunter2", "deep": {"password": "p4ssw0rd", "user": "u"}, "useToken": True}
    hidden = {"apiToken": "********", "deep": {"password": "********", "user": "u"}, "useToken": True}
    for name in ("echoing", "leaking"):
        configured = await fleet.connectors[name].ask(connectors.Configure(config))
        assert configured.config == hidden == connectors.get_connector(fleet, name).config
    result = await act(fleet, "leaking")
    assert (result.error, "hunter2" in str(result.stderr)) == ("cannot log in with ********", False)
    assert result.stderr is not None
    echoed = await act(fleet, "echoing")
    assert echoed.data is not None
    assert echoed.data["config"] == hidden
    told = fleet.store.rows("select record from activity union all select data from events")
    records = fleet.store.rows("select record from connectors")
    assert not any("hunter2" in text or "p4ssw0rd" in text for (text,) in (*told, *records))


async def test_no_end_of_a_secret_is_seen_where_a_long_complaint_is_cut(fleet: Fleet, folder: Path) -> None:
    filler = "$(head -c 3990 /dev/zero | tr '\\0' y)"
    write(folder, "wordy", f"""printf 'xxxx%s%s' hunter2hunter2 {filler} >&2; echo '{{"ok": true}}'""")
    await fleet.connectors["wordy"].ask(connectors.Configure({"token": "hunter2hunter2"}))
    assert (await act(fleet, "wordy")).stderr == "*" * 8 + "y" * 3990


async def test_a_mask_that_is_written_back_stands_for_what_it_hides(fleet: Fleet, folder: Path) -> None:
    write(folder, "checking", """grep -q '"token":"the-secret"' && echo '{"ok": true}'""")
    await fleet.connectors["checking"].ask(connectors.Configure({"token": "the-secret", "n": 1}))
    seen = connectors.get_connector(fleet, "checking").config
    changed = await fleet.connectors["checking"].ask(connectors.Configure({**seen, "n": 2}))
    assert changed.config == {"token": "********", "n": 2}
    assert (await act(fleet, "checking")).ok
    for wrong in ({"secret": "********"}, {"deep": {"password": "********"}}):
        with pytest.raises(Invalid):
            await fleet.connectors["checking"].ask(connectors.Configure(wrong))


@pytest.mark.spec("CON-4")
async def test_only_what_is_known_is_configured(fleet: Fleet, folder: Path) -> None:
    with pytest.raises(NotFound):
        await fleet.connectors["nothing"].ask(connectors.Configure({}))
    with pytest.raises(NotFound):
        connectors.get_connector(fleet, "nothing")


def test_where_programs_are_found(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    places = folders(tmp_path, f"{other}::relative:/no/such/folder")
    assert places == (folder, other, Path("/no/such/folder"))
    found = LocalPrograms(places, "http://x")
    assert found.all() == {}
    install(folder, "fine")
    install(other, "fine", "silent")
    assert found.all() == {
        "fine": str(folder / "relay-connector-fine"),
        "silent": str(other / "relay-connector-silent"),
    }
    (other / "relay-connector-silent").chmod(0o644)
    assert found.find("silent") is None
    (other / "relay-connector-silent").chmod(0o757)
    assert found.find("silent") is None, "anybody could have written it"
    for name in ("", ".", "../connectors/relay-connector-fine", "a/b", "fine\n", "x" * 81, "-x"):
        assert found.find(name) is None
    folder.chmod(0o777)
    assert found.find("fine") == str(other / "relay-connector-fine")
    (folder / "relay-connector-folder").mkdir()
    assert "folder" not in found.all()
