"""A host daemon on a real server, with agents that are real processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from checkouts import Repo

from relay import wire
from relay.client import Client, open_client
from relay.orchestrator import Config, serve

AGENT = """
import json, sys
for line in sys.stdin:
    frame = json.loads(line)
    if frame["type"] == "hello": print(json.dumps({"type": "ready"}), flush=True)
    elif frame["type"] == "ping": print(json.dumps({"type": "pong", "id": frame["id"]}), flush=True)
    elif "id" in frame: print(json.dumps({"type": "ack", "id": frame["id"]}), flush=True)
    elif frame["type"] == "shutdown": sys.exit(0)
"""

WITHIN = 40.0  # seconds that anything may take


async def until(what: Callable[[], Any] | Callable[[], Awaitable[Any]]) -> Any:
    """What the question answers, as soon as that is true."""
    with trio.fail_after(WITHIN):
        while True:
            answer: Any = what()
            if isinstance(answer, Awaitable):
                answer = await answer
            if answer:
                return answer
            await trio.sleep(0.02)


@attrs.frozen
class Host:
    """What a test does with the host daemon of `config`, and asks relay about it."""

    config: Config
    relay: Client
    repo: Repo

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[Config]:
        """The daemon runs within the block."""
        config = attrs.evolve(self.config, **changes)
        async with trio.open_nursery() as nursery:
            with trio.fail_after(WITHIN):
                await nursery.start(serve, config)
            yield config
            nursery.cancel_scope.cancel()

    def wish(self, name: str, **given: Any) -> dict[str, Any]:
        program = self.config.home / "agent.py"
        program.write_text(AGENT)
        return {
            "action": "spawn",
            "provider": "command",
            "agentId": name,
            "label": name,
            "cwd": str(self.repo.path),
            "workspaceMode": "isolated",
            "spawnRequestId": f"sp_{name}",
            "providerConfig": {"command": sys.executable, "defaultArgs": [str(program)]},
            **given,
        }

    async def ask(self, kind: str, **params: Any) -> wire.Command:
        """A command for the daemon, as the server would make it."""
        asked = wire.NewCommand(type=kind, source="test", target=self.config.agent_id, params=params)
        return await self.relay.create_command(asked)

    async def ended(self, command: wire.Command) -> wire.Command:
        """The command when it has ended."""

        async def look() -> wire.Command | None:
            now = await self.relay.command(command.id)
            return now if now.status.final else None

        found: wire.Command = await until(look)
        return found

    async def done(self, kind: str, **params: Any) -> wire.Command:
        return await self.ended(await self.ask(kind, **params))

    async def spawned(self, name: str, **given: Any) -> wire.ManagedAgent:
        """A running agent, as the roster shows it."""
        command = await self.done("agent.spawn", **self.wish(name, **given))
        assert command.status is wire.CommandStatus.SUCCEEDED, command.error
        return await self.rostered(name)

    async def roster(self) -> list[wire.ManagedAgent]:
        return (await self.relay.orchestrator(self.config.id)).managed_agents

    async def rostered(self, name: str, *, after: int | None = None) -> wire.ManagedAgent:
        """The agent when the roster has it; in another process than `after`, if given."""

        async def look() -> wire.ManagedAgent | None:
            for entry in await self.roster():
                if entry.agent_id == name and entry.pid not in {0, after}:
                    return entry
            return None

        found: wire.ManagedAgent = await until(look)
        return found

    async def exits(self, name: str) -> list[wire.Activity]:
        """The ends of the agent that relay was told of."""
        begin = f"server-agent-{name}-exited-"
        return [
            each for each in await self.relay.activity(limit=200) if (each.client_id or "").startswith(begin)
        ]

    def end_everything(self) -> None:
        """Kill whatever was started from here: it has the home's path in its environment."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                if os.fsencode(self.config.home) in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
                    os.waitpid(int(entry.name), 0)
            except OSError:
                continue


@asynccontextmanager
async def opened(folder: Path, base_dir: Path, repo: Repo, url: str, token: str) -> AsyncIterator[Host]:
    folder.mkdir()
    config = Config(
        id="h1",
        hostname="h1",
        relay_url=url,
        token=token,
        base_dir=base_dir,
        home=folder,
        api_port=0,
        poll=0.2,
        heartbeat=0.3,
        watch=0.05,
        register_first=0.05,
        register_most=0.2,
        reconnect_first=0.05,
        reconnect_most=0.2,
        admission=False,
    )
    async with open_client(url, token) as relay:
        host = Host(config, relay, repo)
        try:
            yield host
        finally:
            host.end_everything()
