"""The daemon and a relay that goes, comes, and answers badly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hosts import until

from relay import wire
from relay.cli.demo.ports import reserve_port
from relay.client import Outcomes
from relay.orchestrator import Config, serve
from relay.orchestrator._http import Bad, Request, serve_http

Json = dict[str, Any]


@attrs.define(slots=False)
class FakeRelay:
    """The few routes a daemon needs, with faults on request."""

    commands: dict[str, Json] = attrs.field(factory=dict)
    patched: list[str] = attrs.field(factory=list)
    rosters: list[Json] = attrs.field(factory=list)
    registered: int = 0
    left: list[Json] = attrs.field(factory=list)
    """The statuses that the host's identity was given."""
    known: bool = False
    refuse: int = 0
    """How many reports of a command's status are still answered with 503."""
    deaf: bool = False
    """Whether ends of commands are answered with 503."""
    slow_roster: trio.Event | None = None
    """What the next roster report waits for."""
    refuse_lists: int = 0
    """How many lists of begun commands are still answered with 503."""
    mute: bool = False
    """Whether a goodbye is never answered."""
    port: int = 0

    async def answer(self, request: Request) -> tuple[int, Any]:
        body = json.loads(request.body) if request.body else {}
        match request.method, request.path.split("/")[2:]:
            case "POST", ["orchestrators"]:
                self.registered, self.known = self.registered + 1, True
                return 200, body | {"agentId": f"orchestrator-{body['id']}"}
            case "POST", ["orchestrators", _, "heartbeat"]:
                return (200, {}) if self.known else (404, {"error": "unknown"})
            case "PATCH", ["orchestrators", _, "agents"]:
                return await self._roster(body)
            case "PATCH", ["agents", "orchestrator-h1", "status"]:
                self.left.append(body)
                if self.mute:
                    await trio.sleep_forever()
                return 200, {}
            case "GET", ["commands"]:
                status, limit = request.query["status"], int(request.query["limit"])
                if self.refuse_lists and status != "pending":
                    self.refuse_lists -= 1
                    raise Bad(503, "busy")
                return 200, [each for each in self.commands.values() if each["status"] == status][:limit]
            case "GET", ["commands", name]:
                return 200, self.commands[name]
            case "POST", ["commands", name, "claim"]:
                self._patch(name, {"status": "accepted"})
                return 200, {"claimed": True, "token": 1}
            case "PATCH", ["commands", name]:
                return self._patch(name, body)
        raise Bad(404, "not here")

    async def _roster(self, body: Json) -> tuple[int, Any]:
        waits, self.slow_roster = self.slow_roster, None
        if waits is not None:
            await waits.wait()
        self.rosters.append(body)
        return 200, {}

    def _patch(self, name: str, body: Json) -> tuple[int, Any]:
        if self.refuse:
            self.refuse -= 1
            raise Bad(503, "busy")
        if self.deaf and body["status"] in {"failed", "succeeded"}:
            raise Bad(503, "busy")
        if self.commands[name]["status"] in {"failed", "succeeded", "canceled"}:
            raise Bad(409, "it has ended")
        self.patched.append(body["status"])
        self.commands[name] |= body
        return 200, self.commands[name]

    def command(self, name: str, kind: str, **params: Any) -> None:
        target = "orchestrator-h1"
        self.commands[name] = {
            "id": name,
            "type": kind,
            "source": "test",
            "target": target,
            "status": "pending",
            "params": params,
        }

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """It answers within the block, always on the same port."""
        async with trio.open_nursery() as nursery:
            url = await nursery.start(serve_http, self.answer, "127.0.0.1", self.port)
            self.port = int(url.rpartition(":")[2])
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
async def fake() -> FakeRelay:
    fake = FakeRelay()
    async with fake.up():
        pass
    return fake


@pytest.fixture
def config(fake: FakeRelay, base_dir: Path, tmp_path: Path) -> Config:
    return Config(
        id="h1",
        hostname="h1",
        relay_url=f"http://127.0.0.1:{fake.port}",
        token="secret",
        base_dir=base_dir,
        home=tmp_path,
        api_port=0,
        poll=0.02,
        heartbeat=0.05,
        register_first=0.01,
        register_most=0.02,
        reconnect_first=0.01,
        reconnect_most=0.02,
    )


@asynccontextmanager
async def daemon(config: Config) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, config)
        yield
        nursery.cancel_scope.cancel()


async def health(port: int) -> Json | None:
    import httpx2

    async with httpx2.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/api/health")).json()
        except httpx2.TransportError:
            return None


async def alone(port: int) -> bool:
    """Whether the daemon there is up, and has lost relay."""
    found = await health(port)
    return bool(found) and not found["relay"]["connected"]


@pytest.mark.spec("R-83", "R-84")
async def test_a_relay_that_is_down_is_waited_for(fake: FakeRelay, config: Config):
    port = reserve_port()
    async with daemon(attrs.evolve(config, api_port=port)):

        async def degraded() -> Json | None:
            found = await health(port)
            return found if found and found["degraded"] else None

        found = await until(degraded)
        assert found["ok"] is True
        assert found["registration"]["consecutiveFailures"] >= 5
        assert "did not answer" in found["registration"]["lastError"]
        async with fake.up():
            await until(lambda: fake.rosters)

            async def well() -> bool:
                found = await health(port)
                return bool(found) and not found["degraded"] and found["relay"]["connected"]

            await until(well)


@pytest.mark.parametrize("mute", [False, True])
async def test_a_daemon_that_ends_says_goodbye_and_waits_for_nobody(
    fake: FakeRelay, config: Config, mute: bool
):
    fake.mute = mute
    async with fake.up():
        async with daemon(config):
            await until(lambda: fake.rosters)
            assert fake.left == []
        assert fake.left == [{"status": "offline"}]


async def test_a_daemon_without_a_relay_ends_without_a_goodbye(fake: FakeRelay, config: Config):
    port = reserve_port()
    async with daemon(attrs.evolve(config, api_port=port)):
        async with fake.up():
            await until(lambda: fake.rosters)
        await until(lambda: alone(port))
    async with fake.up():
        assert fake.left == []


@pytest.mark.spec("R-85")
async def test_a_relay_that_forgot_the_host_gets_everything_again(fake: FakeRelay, config: Config):
    async with fake.up(), daemon(config):
        await until(lambda: fake.rosters)
        fake.known = False
        fake.rosters.clear()
        await until(lambda: fake.rosters)
        assert fake.registered == 2


async def test_a_relay_that_was_away_gets_the_roster_again(fake: FakeRelay, config: Config):
    port = reserve_port()
    async with daemon(attrs.evolve(config, api_port=port)):
        async with fake.up():
            await until(lambda: fake.rosters)

        await until(lambda: alone(port))
        fake.rosters.clear()
        async with fake.up():
            await until(lambda: fake.registered == 2 and fake.rosters)


@pytest.mark.spec("R-86", "R-I45")
async def test_an_older_roster_never_overtakes_a_newer_one(fake: FakeRelay, config: Config):
    fake.slow_roster = release = trio.Event()
    async with fake.up(), daemon(config):
        await until(lambda: fake.slow_roster is None)
        fake.command("c1", "agent.dance")  # its end makes another roster due
        await until(lambda: fake.patched[-1:] == ["failed"])
        assert fake.rosters == []
        release.set()
        await until(lambda: len(fake.rosters) == 2)


@pytest.mark.spec("R-100", "R-I24")
async def test_a_status_that_is_refused_for_now_is_sent_again(fake: FakeRelay, config: Config):
    fake.command("c1", "agent.dance")
    fake.refuse = 2
    async with fake.up(), daemon(config):
        await until(lambda: fake.commands["c1"]["status"] == "failed")
        assert fake.patched == ["accepted", "running", "failed"]


async def test_an_outcome_waits_for_a_relay_that_is_away(fake: FakeRelay, config: Config):
    fake.command("c1", "agent.dance")
    fake.deaf = True
    outbox = config.state / "outbox"
    async with fake.up(), daemon(config):
        await until(lambda: outbox.is_dir() and list(outbox.iterdir()))
    assert fake.patched == ["accepted", "running"]
    fake.deaf = False
    async with daemon(config):
        async with fake.up():
            await until(lambda: fake.commands["c1"]["status"] == "failed")
            await until(lambda: not list(outbox.iterdir()))
    assert fake.patched == ["accepted", "running", "failed"]


async def test_a_command_that_ended_meanwhile_is_dropped(fake: FakeRelay, config: Config, base_dir: Path):
    fake.command("c1", "agent.dance")
    take = fake._patch

    def patch(name: str, body: Json) -> tuple[int, Any]:
        answer = take(name, body)
        fake.commands[name]["status"] = "canceled"
        return answer

    fake._patch = patch  # type: ignore[method-assign]
    async with fake.up(), daemon(config):
        await until(lambda: fake.patched)
        fake.command("c2", "agent.dance")
        await until(lambda: len(fake.patched) == 2)
        assert fake.patched == ["accepted", "accepted"]


async def test_begun_commands_are_looked_for_until_relay_has_named_them_all(fake: FakeRelay, config: Config):
    """Relay is busy just then, and has more of them than it lists at once."""
    for number in range(60):
        fake.command(f"cmd_{number}", "agent.dance")
        fake.commands[f"cmd_{number}"]["status"] = "running"
    fake.refuse_lists = 2
    async with fake.up(), daemon(config):
        await until(lambda: {each["status"] for each in fake.commands.values()} == {"failed"})
    assert fake.registered == 1


@pytest.mark.spec("R-I41", "R-I23")
async def test_a_full_disk_delays_an_outcome_and_repeats_nothing(
    fake: FakeRelay, config: Config, monkeypatch: pytest.MonkeyPatch
):
    put, full = Outcomes.put, [True, True]

    def on_a_full_disk(self: Outcomes, command_id: str, outcome: wire.PatchCommand) -> None:
        if full and full.pop():
            raise OSError(28, "No space left on device")
        put(self, command_id, outcome)

    monkeypatch.setattr(Outcomes, "put", on_a_full_disk)
    monkeypatch.setattr("relay.orchestrator.intake.RETRY", 0.01)
    fake.command("cmd_1", "agent.dance")
    async with fake.up(), daemon(config):
        await until(lambda: fake.commands["cmd_1"]["status"] == "failed")
    assert full == []
    assert fake.patched == ["accepted", "running", "failed"]
