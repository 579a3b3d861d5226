"""What it costs to know who asks and whether they may, and to have it on record: the same durable `POST /api/messages` with and
without all of that, in the same run.

One server verifies a token that relay has made, checks its scope and its constraints, and writes the audit record of each message
with its event. The other lets everybody do everything and records nothing; otherwise it is the same. Measured is the time of
the processor that each server spends on a request: waiting for the disk is not counted, and would only make the share smaller.
Samples alternate, and each is compared with its neighbour. The share is that part of a request's time which the difference
makes; when its median is a quarter or more, the run fails.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from edge import RELAY, TOKEN, server
from rows import Row, Skipped, row

HERE = Path(__file__).parent
SAMPLES = 9
SECONDS = 1.5
CONNECTIONS = (1, 16)
CEILING = 25.0  # % of a request's time
BODY = b'{"from":"bench-sender","to":"bench-receiver","body":"%s"}' % (b"x" * 200)
WITHOUT = """
from relay.fleet import messages
from relay.http import auth

auth.Authenticator.identified = lambda self, headers: auth.ROOT
auth.Principal.may = lambda self, scope, **resource: True
auth.Principal.may_be = lambda self, sender, own=None: True
sent = messages.sent
messages.sent = lambda stored, moment, *, audited=True: sent(stored, moment, audited=False)
"""


def rows() -> Iterator[Row | Skipped]:
    folder = os.environ.get("RELAY_BENCH_DIR")
    with (
        TemporaryDirectory(prefix="relay-bench-", dir=folder) as home,
        TemporaryDirectory(prefix="relay-bench-", dir=folder) as other,
        server(["-c", RELAY], home) as relay,
        server(["-c", WITHOUT + RELAY], other) as bare,
    ):
        if not Path("/proc/self/stat").exists():
            yield Skipped("authority", "POST /api/messages", "without authority", "this system has no /proc")
            return
        request = asking(token(relay[0]))
        for connections in CONNECTIONS:
            case = f"POST /api/messages, {connections} conn."
            pairs = [
                (spent(*relay, connections, request), spent(*bare, connections, request))
                for _ in range(1 + SAMPLES)
            ][1:]
            shares = [100 * (1 - theirs / ours) for ours, theirs in pairs]
            yield row("authority", case, "relay", [ours for ours, _ in pairs], "us/req")
            yield row("authority", case, "without authority", [theirs for _, theirs in pairs], "us/req")
            yield row("authority", case, "share of its time", shares, "%")
            if median(shares) >= CEILING:
                raise RuntimeError(f"{case}: who asks takes {median(shares):.0f} % of a request's time")


def token(port: int) -> str:
    """One for the sender of the benchmark's messages, and nothing else."""
    asked = {
        "role": "bench",
        "scope": ["message:send"],
        "constraints": {"agents": ["bench-sender"], "targets": ["bench-receiver"]},
        "ttlSeconds": 3_600,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/tokens",
        data=json.dumps(asked).encode(),
        headers={"content-type": "application/json", "x-agent-relay-token": TOKEN},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        made: str = json.load(answer)["token"]
        return made


def asking(token: str) -> bytes:
    return (
        b"POST /api/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"x-agent-relay-token: %s\r\ncontent-length: %d\r\n\r\n%s" % (token.encode(), len(BODY), BODY)
    )


def spent(port: int, process: subprocess.Popen[bytes], connections: int, request: bytes) -> float:
    """Microseconds of the processor for each request."""
    before = busy(process.pid)
    program = [sys.executable, str(HERE / "_edge_load.py"), str(port), str(connections), str(SECONDS)]
    answers, _ = subprocess.run(program, input=request, stdout=subprocess.PIPE, check=True).stdout.split()
    return 1_000_000 * (busy(process.pid) - before) / (float(answers) * SECONDS)


def busy(pid: int) -> float:
    """Seconds of the processor that the process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
