"""A burst of messages to a tag of 50 agents, between real processes and over real sockets: none is lost, none is worked on
twice, and what one sender sent comes in its order; also when server and runners are killed with SIGKILL in the middle.

Fifty runners, each with a program of its own, would be a hundred processes: each pair takes about 55 MB, and most of a second
of a processor until it is ready, which is more than a test may take on two cores. So three of the agents have real runners and real
programs. The other 47 are hosted by three processes (`benchmarks/_burst_agents.py`): there each has all that a runner has
between relay and its agent's program, from the modules of the runner itself - its presence and tokens, its event stream, its
mailbox, the ladder of hand-overs, its notebook on disk - and only the program is replaced by one that writes what it is
offered and what it takes into a journal on disk before it acknowledges.

Agents that are killed between their journal and their acknowledgement are handed the same batch again, which is no error;
they do not take twice what the journal has. How much is offered again is bounded, and nothing is where no agent was killed.

Here 300 messages are sent, for 15 000 hand-overs; `python3 dev.py bench burst` sends 10 000, and checks the same.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

TESTS = Path(__file__).parent.parent
sys.path += [str(TESTS / "runner"), str(TESTS.parent / "benchmarks")]

from _burst import TAG, TOKEN, Burst  # noqa: E402
from runnerkit import Host  # noqa: E402
from test_runner_deliveries import keep_book  # noqa: E402

MESSAGES = 300
HOSTED = 47
RUNNERS = 3
BATCH = 100  # messages in one hand-over, at most
WITHIN = 280.0  # seconds


@attrs.define
class Crowd:
    """The burst, and the real runners in it, by agent."""

    burst: Burst
    runners: dict[str, Host]

    async def start(self) -> None:
        await self.burst.start()
        self.start_runners()
        await self.burst.ready(HOSTED + RUNNERS)

    def start_runners(self) -> None:
        for agent, host in self.runners.items():
            host.start(agent_id=agent, AGENT_RELAY_TAGS=TAG, AGENT_RELAY_LABEL=agent)

    def kill_agents(self) -> None:
        """And start them again."""
        for host in self.runners.values():
            host.processes[-1].kill()
            host.processes[-1].wait()
        self.start_runners()
        for crowd in self.burst.crowds:
            crowd.kill()
            crowd.start()

    async def confirmed(self, share: float = 1.0) -> None:
        await self.burst.confirmed(HOSTED + RUNNERS, share)

    def check(self, **more: int) -> None:
        journals = {agent: host.taken() for agent, host in self.runners.items()}
        self.burst.check(self.burst.journals() | journals, **more)
        assert len(self.runners) + len(self.burst.names) == HOSTED + RUNNERS


@pytest.fixture
async def crowd(tmp_path: Path) -> AsyncIterator[Crowd]:
    burst = Burst(tmp_path, agents=HOSTED, messages=MESSAGES, senders=5)
    runners = {}
    for agent in (f"runner-{number}" for number in range(RUNNERS)):
        (tmp_path / agent).mkdir()
        runners[agent] = Host(tmp_path / agent, burst.server.url, TOKEN)
        keep_book(runners[agent])
    try:
        with trio.fail_after(WITHIN):
            yield Crowd(burst, runners)
    finally:
        for host in runners.values():
            host.end()
        burst.end()


@pytest.mark.spec("R-I2", "R-I11", "M-I2")
async def test_a_burst_to_a_crowd_arrives_once_and_in_order(crowd: Crowd) -> None:
    await crowd.start()
    await crowd.burst.send()
    await crowd.confirmed()
    crowd.check()
    assert all(host.offered(number) == 1 for host in crowd.runners.values() for number in host.taken())


@pytest.mark.spec("R-I2", "R-I11", "M-I1")
async def test_a_burst_to_a_crowd_survives_a_server_that_is_killed_again_and_again(crowd: Crowd) -> None:
    await crowd.start()
    killed = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.burst.send, killed)
        for share in (0.2, 0.6):
            await crowd.confirmed(share)
            await crowd.burst.server.restart()
        killed.set()
    await crowd.confirmed()
    crowd.check()


@pytest.mark.spec("R-I2", "R-I11", "R-38")
async def test_a_burst_to_a_crowd_survives_agents_and_server_that_are_killed_in_the_middle(
    crowd: Crowd,
) -> None:
    await crowd.start()
    killed = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.burst.send, killed)
        await crowd.confirmed(0.2)
        crowd.kill_agents()
        await crowd.confirmed(0.6)
        crowd.kill_agents()
        await crowd.burst.server.restart()
        killed.set()
    await crowd.confirmed()
    crowd.check(again=2 * BATCH)
