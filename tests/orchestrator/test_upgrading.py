"""Upgrades on a real daemon and server: what is installed, and what becomes of daemon, command and record."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hosts import WITHIN, Host, until

from relay import __version__, wire
from relay.orchestrator import Restart, serve

U, C = wire.UpgradeStatus, wire.CommandStatus
NEW = "99.1.0"


def installer(log: Path, then: str = "") -> str:
    """A command that notes the version that it is to install."""
    program = f"import sys; open({str(log)!r}, 'a').write(sys.argv[1] + chr(10)); {then}"
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} {{version}}"


async def asked(host: Host, **asked: Any) -> wire.Command:
    given = {"action": "upgrade", "target_version": NEW, **asked}
    return await host.relay.upgrade_orchestrator("h1", wire.UpgradeOrchestrator(**given))


async def upgrade(host: Host) -> wire.Upgrade:
    found = (await host.relay.orchestrator("h1")).upgrade
    assert found is not None
    return found


async def settled(host: Host) -> wire.Upgrade:
    async def look() -> wire.Upgrade | None:
        found = await upgrade(host)
        return found if found.status is not U.PENDING else None

    found: wire.Upgrade = await until(look)
    return found


async def lives_until_it_restarts(host: Host, **changes: Any) -> None:
    """The daemon runs, and ends because another version is installed."""
    with trio.fail_after(WITHIN), pytest.raises(Restart, match=f"version {NEW} is installed"):
        await serve(attrs.evolve(host.config, **changes))


@contextmanager
def installed(version: str) -> Iterator[None]:
    """The daemons within are of that version."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("daemon", "upgrading"):
            patch.setattr(f"relay.orchestrator.{module}.__version__", version)
        yield


@pytest.mark.spec("M-167", "P15", "W-I29")
async def test_without_a_way_to_install_it_is_rejected_and_says_what_to_do(host: Host) -> None:
    async with host.running():
        command = await host.ended(await asked(host))
        assert command.status is C.REJECTED
        assert "AGENT_RELAY_UPGRADE_COMMAND" in (command.error or "")
        record = await settled(host)
        assert (record.status, record.error) == (U.FAILED, command.error)


@pytest.mark.spec("R-138", "M-168", "W-44")
async def test_the_daemon_installs_ends_and_arrives_with_the_new_version(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "installed"
    way = {"upgrade_command": installer(log)}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: lives_until_it_restarts(host, **way))

        async def there() -> bool:
            return any(each.id == "h1" for each in await host.relay.orchestrators())

        await until(there)
        command = await asked(host)
    assert log.read_text() == f"{NEW}\n"
    assert (await upgrade(host)).status is U.PENDING, "the daemon never says that it worked"
    under_way = await host.relay.command(command.id)
    assert (under_way.status, under_way.result) == (
        C.RUNNING,
        {"targetVersion": NEW, "providers": ["orchestrator"], "phase": "restart-pending"},
    )
    with installed(NEW):
        async with host.running(**way):
            assert (await settled(host)).status is U.SUCCEEDED
            done = await host.relay.command(command.id)
            assert (done.status, done.result) == (
                C.SUCCEEDED,
                {"version": NEW, "fromVersion": __version__},
            )
    assert log.read_text() == f"{NEW}\n", "it is installed once"


@pytest.mark.spec("R-137")
async def test_an_installation_that_fails_leaves_the_daemon_as_it_is(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "installed"
    ways = {
        installer(log, "print('no such version'); sys.exit(3)"): "no such version",
        "/nowhere/at/all {version}": "cannot be run",
    }
    for way, why in ways.items():
        async with host.running(upgrade_command=way):
            command = await host.ended(await asked(host))
            assert (command.status, why in (command.error or "")) == (C.FAILED, True), command.error
            assert (await settled(host)).status is U.FAILED
            assert (await host.relay.orchestrator("h1")).version == __version__


async def test_a_daemon_that_comes_back_as_it_was_says_that_it_failed(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "installed"
    way = {"upgrade_command": installer(log)}
    async with host.running():
        pass
    command = await asked(host)
    await lives_until_it_restarts(host, **way)
    async with host.running(**way):
        done = await host.ended(command)
        assert (done.status, "after the restart" in (done.error or "")) == (C.FAILED, True)
        assert (await settled(host)).status is U.FAILED
    assert log.read_text() == f"{NEW}\n"


async def test_a_daemon_that_ended_while_it_installed_installs_again(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "installed"
    async with host.running(upgrade_command=installer(log, "import time; time.sleep(600)")):
        command = await asked(host)
        await until(lambda: log.exists() and log.read_text())
    await lives_until_it_restarts(host, upgrade_command=installer(log))
    assert log.read_text() == f"{NEW}\n{NEW}\n"
    assert (await host.relay.command(command.id)).status is C.RUNNING


@pytest.mark.spec("W-50")
async def test_the_version_that_runs_is_not_installed_and_arrives_with_the_next_heartbeat(
    host: Host, tmp_path: Path
) -> None:
    log = tmp_path / "installed"
    async with host.running(upgrade_command=installer(log)):
        await asked(host, target_version=__version__)
        assert (await settled(host)).status is U.SUCCEEDED
    assert not log.exists()


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"targetVersion": f"{NEW}; touch hacked", "providers": ["orchestrator"]}, C.FAILED),
        ({"targetVersion": "--help", "providers": ["orchestrator"]}, C.FAILED),
        ({"targetVersion": f"{NEW}\n", "providers": ["orchestrator"]}, C.FAILED),
        ({"providers": ["orchestrator"]}, C.FAILED),
        ({"targetVersion": NEW, "providers": ["codex"]}, C.REJECTED),
        ({"targetVersion": NEW, "providers": "orchestrator"}, C.REJECTED),
        ({"targetVersion": NEW}, C.REJECTED),
    ],
)
async def test_what_makes_no_sense_is_not_installed(
    host: Host, tmp_path: Path, params: Any, status: wire.CommandStatus
) -> None:
    log = tmp_path / "installed"
    async with host.running(upgrade_command=installer(log)):
        done = await host.done("orchestrator.upgrade", **params)
        assert done.status is status, done.error
    assert not log.exists()


async def test_relay_shows_the_daemon_the_token_of_its_host_and_no_other_opens_its_api(
    host: Host, server: Any
) -> None:
    """The host API of a daemon that is told no token is shut; the root token never opens one."""
    import httpx2

    async with host.running():
        known = await host.relay.orchestrator("h1")
        assert known.capabilities is not None
        assert known.capabilities["selfUpgrade"] is False
        headers = {"X-Agent-Relay-Token": server.token}
        async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
            direct = await client.get(f"{known.api_url}/api/sessions")
            assert direct.status_code == 401
            asked = await client.get(f"{server.base_url}/api/orchestrators/h1/sessions")
            assert (asked.status_code, asked.json()) == (200, {"sessions": []})
            version = await client.get(f"{server.base_url}/api/orchestrators/h1/version")
            assert version.json()["orchestrator"] == __version__


async def test_the_log_of_an_agent_is_followed_through_relay(host: Host, server: Any) -> None:
    import httpx2

    async with host.running():
        entry = await host.spawned("ada")
        headers = {"X-Agent-Relay-Token": server.token}
        async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
            url = f"{server.base_url}/api/orchestrators/h1/logs/{entry.session_name}?stream=1"
            async with client.stream("GET", url, timeout=30) as answer:
                assert answer.headers["content-type"] == "text/event-stream"
                parts = answer.aiter_lines()
                assert (await anext(parts)).startswith('data: {"lines": [')
                await host.done("agent.shutdown", agentId="ada")
                with trio.fail_after(30):
                    rest = [part async for part in parts]
                assert "event: end" in rest
