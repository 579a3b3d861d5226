"""The HTTP edge: a durable `POST /api/messages` against a bare Quart-trio route that stores nothing, in the same run.

relay checks the token and the body, asks the post office, and answers when the message, its audit record and its events
are synced to disk. The bare route parses the body and answers. Both run in a process of their own, as does the load,
which is the same and keeps its connections. Samples alternate, and each is compared with its neighbour: on a noisy
machine believe those ratios only. Beside it: the peak resident memory of a server that has answered one request and
idles.
"""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from rows import Row, row

HERE = Path(__file__).parent
SAMPLES = 7
SECONDS = 1.5
BUSIEST = 0.8  # share of its time that the load may be busy; beyond, it would be what is measured
CONNECTIONS = (1, 8, 64)
TOKEN = "benchmark-token"
BODY = b'{"from":"bench-sender","to":"bench-receiver","body":"%s"}' % (b"x" * 200)
REQUEST = (
    b"POST /api/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"x-agent-relay-token: %s\r\ncontent-length: %d\r\n\r\n%s" % (TOKEN.encode(), len(BODY), BODY)
)
RELAY = """
import sys
from pathlib import Path
from relay.http import run
home = Path(sys.argv[2])
run(database=home / "relay.db", home=home, port=int(sys.argv[1]), ready=print)
"""


def rows() -> Iterator[Row]:
    with TemporaryDirectory(prefix="relay-bench-", dir=os.environ.get("RELAY_BENCH_DIR")) as home:
        with (
            server(["-c", RELAY], home) as (relay, process),
            server([str(HERE / "_edge_bare.py")]) as (bare, _),
        ):
            urllib.request.urlopen(f"http://127.0.0.1:{relay}/api/health", timeout=10).close()
            memory = peak_memory(process.pid)
            for connections in CONNECTIONS:
                case = f"POST /api/messages, {connections} conn."
                pairs = [(load(relay, connections), load(bare, connections)) for _ in range(1 + SAMPLES)][1:]
                yield row("edge", case, "relay", [ours for ours, _ in pairs], "req/s")
                yield row("edge", case, "bare Quart-trio", [theirs for _, theirs in pairs], "req/s")
                yield row("edge", case, "relay / bare", [ours / theirs for ours, theirs in pairs], "times")
            if memory is not None:
                yield row("edge", "idle server, peak memory", "relay", [memory], "MB")


@contextmanager
def server(program: list[str], *arguments: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server program on a free port, from when it accepts connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *program, str(port), *arguments],
        env={**os.environ, "AGENT_RELAY_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port, process)
        yield port, process
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = monotonic() + 30
    while monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        sleep(0.05)
    raise RuntimeError("the server did not start")


def load(port: int, connections: int) -> float:
    """Answers per second."""
    program = [sys.executable, str(HERE / "_edge_load.py"), str(port), str(connections), str(SECONDS)]
    answers, busy = subprocess.run(program, input=REQUEST, stdout=subprocess.PIPE, check=True).stdout.split()
    if float(busy) > BUSIEST:
        raise RuntimeError("the load is busier than the server")
    return float(answers)


def peak_memory(pid: int) -> float | None:
    """Megabytes, where the system says so."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
