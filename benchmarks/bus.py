"""The bus: durable messages over WebSockets, against a `POST /api/messages` each at the same concurrency in the same run.

Beside it: the time from a send until an event stream and the bus tell of it, and how many events a second 500 event streams
are told, with the share of a processor that the server needs for it. The server is a process of its own, as is the load.
Samples alternate, and each is compared with its neighbour: on a noisy machine believe the ratios.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from edge import RELAY, TOKEN, load, server
from rows import Row, row

HERE = Path(__file__).parent
SAMPLES = 5
SECONDS = 1.5
BUSIEST = 0.8
LATENCIES = 200
LISTENERS = 500
FANNED_OUT = 500  # messages
TICKS = os.sysconf("SC_CLK_TCK")


def rows() -> Iterator[Row]:
    with (
        TemporaryDirectory(prefix="relay-bench-", dir=os.environ.get("RELAY_BENCH_DIR")) as home,
        server(["-c", RELAY], home) as (port, process),
    ):
        for sockets in (1, 32):
            for per_frame in (1, 50):
                case = f"send, {sockets} sockets, {per_frame} a frame"
                pairs = [(sent(port, sockets, per_frame), load(port, sockets)) for _ in range(1 + SAMPLES)][
                    1:
                ]
                yield row("bus", case, "relay", [ours for ours, _ in pairs], "msg/s")
                yield row("bus", case, "POST", [post for _, post in pairs], "msg/s")
                yield row("bus", case, "bus / POST", [ours / post for ours, post in pairs], "times")
        for how in ("sse", "bus"):
            yield from latency(port, how)
        yield from fan_out(port, process.pid)


def run(*arguments: object) -> list[float]:
    mode, port, *rest = map(str, arguments)
    program = [sys.executable, str(HERE / "_bus_load.py"), mode, port, TOKEN, *rest]
    return [
        float(each) for each in subprocess.run(program, stdout=subprocess.PIPE, check=True).stdout.split()
    ]


def sent(port: int, sockets: int, per_frame: int) -> float:
    rate, busy = run("send", port, sockets, per_frame, SECONDS)
    if busy > BUSIEST:
        raise RuntimeError("the load is busier than the server")
    return rate


def latency(port: int, how: str) -> Iterator[Row]:
    samples = [sorted(run("latency", port, how, LATENCIES)) for _ in range(SAMPLES)]
    for share in (50, 99):
        found = [1000 * each[len(each) * share // 100] for each in samples]
        yield row("bus", f"from send until told by {how}, p{share}", "relay", found, "ms")


def fan_out(port: int, pid: int) -> Iterator[Row]:
    rates, shares = [], []
    for _ in range(SAMPLES):
        before = used(pid)
        rate, seconds = run("fan-out", port, LISTENERS, FANNED_OUT)
        rates.append(rate)
        shares.append(100 * (used(pid) - before) / seconds)
    yield row("bus", f"fan-out to {LISTENERS} streams", "relay", rates, "events/s")
    yield row("bus", f"fan-out to {LISTENERS} streams, CPU", "relay", shares, "%")


def used(pid: int) -> float:
    """Seconds of a processor that the process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
