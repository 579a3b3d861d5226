"""A burst to a crowd: 10 000 messages to a tag of 50 agents, from 8 senders at once, until all 500 000 hand-overs are confirmed.

The agents have a runner's way to relay (`_burst_agents`) and are hosted by three processes; server and senders have one each.
Once nothing is disturbed; then the server is killed with SIGKILL, and later the agents are, again and again, while all of
them work. Each time it is checked that no message is lost, none is taken twice, and each sender's come in its order: else
there is no row. The rate is that of hand-overs from the first send to the last confirmation; the server's processor time is
of that time, too. Everything runs on one machine, so agents and senders take from the server what they need themselves.
"""

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from _burst import Burst
from bus import used
from rows import Row, row

MESSAGES = 10_000
AGENTS = 50
BATCH = 100  # messages in one hand-over
KILLED_AT = (0.1, 0.3, 0.5, 0.7, 0.9)  # of all confirmations
LIMIT = 3_600.0  # seconds


def rows() -> Iterator[Row]:
    for case, how in (("", calm), (", killed", stormy)):
        with TemporaryDirectory(prefix="relay-bench-", dir=os.environ.get("RELAY_BENCH_DIR")) as folder:
            name = f"{MESSAGES} to {AGENTS} agents{case}"
            sent, confirmed, processor = trio.run(partial(how, Path(folder)))
            yield row("burst", name, "relay", [MESSAGES * AGENTS / confirmed], "hand-overs/s")
            yield row("burst", f"{name}, all sent", "relay", [sent], "s")
            yield row("burst", f"{name}, all confirmed", "relay", [confirmed], "s")
            if processor is not None:
                yield row("burst", f"{name}, server", "relay", [processor], "s of CPU")


async def calm(folder: Path) -> tuple[float, float, float | None]:
    burst = Burst(folder, agents=AGENTS, messages=MESSAGES)
    try:
        with trio.fail_after(LIMIT):
            await burst.start()
            begin, before = time.perf_counter(), used(burst.server.process.pid)
            await burst.send()
            sent = time.perf_counter() - begin
            await burst.confirmed(AGENTS)
            took = time.perf_counter() - begin, used(burst.server.process.pid) - before
        burst.check(burst.journals())
        return sent, *took
    finally:
        burst.end()


async def stormy(folder: Path) -> tuple[float, float, None]:
    burst = Burst(folder, agents=AGENTS, messages=MESSAGES)
    times = []
    begin = 0.0

    async def send() -> None:
        await burst.send()
        times.append(time.perf_counter() - begin)

    try:
        with trio.fail_after(LIMIT):
            await burst.start()
            begin = time.perf_counter()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                for share in KILLED_AT:
                    await burst.confirmed(AGENTS, share)
                    await burst.server.restart()
                    for crowd in burst.crowds:
                        crowd.kill()
                        crowd.start()
            await burst.confirmed(AGENTS)
            times.append(time.perf_counter() - begin)
        burst.check(burst.journals(), again=len(KILLED_AT) * BATCH)
        sent, confirmed = times
        return sent, confirmed, None
    finally:
        burst.end()
