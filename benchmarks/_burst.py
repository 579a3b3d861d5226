"""A burst of messages to a tag of many agents, between real processes: what sends, what takes, and what must be true after."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import apsw
import trio
from _burst_agents import entries

from relay import wire
from relay.cli.demo.ports import reserve_port
from relay.client import Client, RelayError, open_client

HERE = Path(__file__).parent
TOKEN = "burst-token-" + "x" * 32
TAG = "crowd"
PAUSE = 0.1  # seconds between two looks, or two tries


class Server:
    """`relay serve` on a port and files of its own; may be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.home.mkdir()
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        serve = ("serve", "--port", str(self.port), "--database", str(self.home / "relay.db"))
        env = {**os.environ, "RELAY_HOME": str(self.home), "AGENT_RELAY_TOKEN": TOKEN}
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "relay", *serve], env=env, stdout=log, stderr=log
            )
        async with open_client(self.url, TOKEN) as relay:
            while True:
                try:
                    await relay.health()
                except RelayError:
                    await trio.sleep(PAUSE)
                else:
                    return

    async def restart(self) -> None:
        """After SIGKILL."""
        self.kill()
        await self.start()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None


class Crowd:
    """One process that hosts several agents; may be killed and started again."""

    def __init__(self, server: Server, folder: Path, agents: list[str]) -> None:
        self.server = server
        self.folder = folder
        self.agents = agents
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = [sys.executable, str(HERE / "_burst_agents.py")]
        with (self.folder / "agents.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*program, self.server.url, TOKEN, str(self.folder), TAG, *self.agents],
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def journal(self, agent: str) -> Path:
        return self.folder / agent / "journal"


class Burst:
    """Senders, and a tag of agents in a few processes. `sent` is what senders were told.."""

    def __init__(
        self, folder: Path, *, agents: int, messages: int, senders: int = 8, processes: int = 3
    ) -> None:
        self.server = Server(folder / "relay")
        self.each = messages // senders
        self.sent: dict[str, list[int]] = {f"sender-{number}": [] for number in range(senders)}
        self.names = [f"agent-{number}" for number in range(agents)]
        self.crowds = [Crowd(self.server, folder, self.names[start::processes]) for start in range(processes)]

    async def start(self) -> None:
        """The server, and every agent registered and ready."""
        await self.server.start()
        for crowd in self.crowds:
            crowd.start()
        await self.ready(len(self.names))

    async def ready(self, count: int) -> None:
        async with open_client(self.server.url, TOKEN) as relay:
            await until(partial(_are_ready, relay, count))

    async def send(self, go_on: trio.Event | None = None) -> None:
        """All senders at once. They keep the last quarter of their messages until `go_on` is set."""
        async with trio.open_nursery() as nursery:
            for sender, sent in self.sent.items():
                nursery.start_soon(self._send_all, sender, sent, go_on)

    async def _send_all(self, sender: str, sent: list[int], go_on: trio.Event | None) -> None:
        """Numbered messages, one after the other; whatever is not answered is sent again with its key."""
        async with open_client(self.server.url, TOKEN) as relay:
            while len(sent) < self.each:
                if go_on is not None and len(sent) >= 3 * self.each // 4:
                    await go_on.wait()
                number = str(len(sent))
                message = wire.SendMessage(from_=sender, to=f"tag:{TAG}", body=number, idempotency_key=number)
                try:
                    sent.append((await relay.send(message)).id)
                except RelayError:
                    await trio.sleep(PAUSE)

    @property
    def messages(self) -> int:
        """Of messages that there are in the end."""
        return self.each * len(self.sent)

    def rungs(self) -> dict[str, int]:
        """How many hand-overs came how far, by the database."""
        return dict(self.rows("select rung, count(*) from deliveries group by rung"))

    def rows(self, sql: str) -> list[tuple]:
        database = apsw.Connection(str(self.server.home / "relay.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            database.set_busy_timeout(5_000)
            return list(database.execute(sql))
        finally:
            database.close()

    async def confirmed(self, agents: int, share: float = 1.0) -> None:
        """Wait until so much of all that there will be has been confirmed by this many agents."""
        wanted = share * agents * self.messages
        await until(lambda: self.rungs().get("confirmed", 0) >= wanted)

    def check(self, journals: dict[str, list[int]], *, again: int = 0) -> None:
        """Each agent took all messages, none twice, those of each sender in its order; and relay has that on record. Of what a
        hosted agent took, at most `again` was offered to it more than once."""
        everything = sorted(number for numbers in self.sent.values() for number in numbers)
        assert everything == [number for (number,) in self.rows("select id from messages order by id")]
        assert len(everything) == len(set(everything)) == self.messages
        place = {
            number: (sender, index) for sender, sent in self.sent.items() for index, number in enumerate(sent)
        }
        for agent, taken in journals.items():
            assert sorted(taken) == everything, f"{agent} took something twice, or not at all"
            due = dict.fromkeys(self.sent, 0)
            for sender, index in map(place.__getitem__, taken):
                assert index == due[sender], f"{agent} took what {sender} sent out of order"
                due[sender] += 1
        assert self.rungs() == {"confirmed": len(journals) * self.messages}
        for crowd in self.crowds:
            for agent in crowd.agents:
                repeats = Counter(entries(crowd.journal(agent), "offered")) - Counter(everything)
                assert repeats.total() <= again, f"{agent} was offered {repeats} again"

    def journals(self) -> dict[str, list[int]]:
        """What the hosted agents took."""
        return {
            agent: entries(crowd.journal(agent), "taken") for crowd in self.crowds for agent in crowd.agents
        }

    def end(self) -> None:
        for crowd in self.crowds:
            crowd.kill()
        self.server.kill()


async def _are_ready(relay: Client, count: int) -> bool:
    return sum(bool(agent.ready) and TAG in agent.tags for agent in await relay.agents()) >= count


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    """The condition holds, or trio's scope around this ends the wait."""
    while True:
        try:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
        except RelayError:
            pass
        await trio.sleep(PAUSE)
