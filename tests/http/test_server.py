"""The server as a process: how it starts, stops, and is stopped when it does not."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from relay.http import CannotListen, Settings, run, serve
from relay.http.listening import listen
from relay.store import Locked

PROGRAM = """
import sys
from pathlib import Path
from relay.http import run
home = Path(sys.argv[1])
run(
    database=home / "relay.db", home=home, port=0, allowed_hosts=("relay.example",),
    ready=lambda ready: print(ready.base_url, ready.token_file, flush=True),
)
"""

FREEZING = """
import sys
from pathlib import Path
from relay.http import routing, run, server, system
server.STOP_WITHIN = 0.2

@system.route("GET", "/api/freeze", scope="public")
async def freeze(call):
    while True:
        pass

home = Path(sys.argv[1])
run(database=None, home=home, port=0, ready=lambda ready: print(ready.base_url, ready.token_file, flush=True))
"""


@contextmanager
def process(home: Path, program: str = PROGRAM) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process that has announced itself, and its address."""
    environment = {name: value for name, value in os.environ.items() if name != "AGENT_RELAY_TOKEN"}
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(home)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        url, token_file = child.stdout.readline().split()
        assert token_file == str(home / "token")
        yield child, url
    finally:
        child.kill()
        child.communicate()


def token(home: Path) -> dict[str, str]:
    return {"X-Agent-Relay-Token": (home / "token").read_text().strip()}


def test_a_signal_shows_what_the_actors_are_doing(tmp_path: Path) -> None:
    with process(tmp_path) as (child, _):
        child.send_signal(signal.SIGUSR1)
        assert child.stderr is not None
        said = ""
        while "main thread:" not in said:
            said += child.stderr.readline()
    assert "post-office, running, mailbox 0/1000" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path) as (child, url):
        with httpx2.stream("GET", f"{url}/api/events", headers=token(tmp_path)) as stream:
            next(stream.iter_bytes())
            child.send_signal(number)
            assert child.wait(10) == 0
        assert child.stderr is not None
        assert child.stderr.read() == ""


def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    message = {"from": "a1", "to": "a2", "body": "x"}
    with process(tmp_path) as (child, url):
        sent = httpx2.post(f"{url}/api/messages", headers=token(tmp_path), json=message)
        assert sent.status_code == 201
        child.kill()
        child.wait(10)
    with process(tmp_path) as (_, url):
        found = httpx2.get(f"{url}/api/messages/{sent.json()['id']}", headers=token(tmp_path))
        assert found.json() == sent.json()


def test_configured_hosts_are_answered_and_others_are_not(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        for host, status in [("relay.example:1", 200), ("localhost", 200), ("evil.example", 421)]:
            assert httpx2.get(f"{url}/api/health", headers={"Host": host}).status_code == status


def test_a_process_whose_event_loop_is_stuck_is_ended_and_says_where(tmp_path: Path) -> None:
    with process(tmp_path, FREEZING) as (child, url):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /api/freeze HTTP/1.1\r\nhost: localhost\r\n\r\n")
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.recv(1)
            child.send_signal(signal.SIGTERM)
            assert child.wait(15) != 0
        assert child.stderr is not None
        assert "freeze" in child.stderr.read()


def test_a_full_disk_is_an_answer_and_not_the_end(tmp_path: Path) -> None:
    """Files of the process may not grow beyond 1 MiB for a while: what is refused then has had no effect."""
    with process(tmp_path) as (child, url), httpx2.Client(base_url=url, headers=token(tmp_path)) as client:

        def send(number: int) -> int:
            body = {"from": "a", "to": "b", "body": "x" * 60_000, "idempotencyKey": f"key-{number}"}
            return client.post("/api/messages", json=body).status_code

        unlimited = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (1 << 20, unlimited[1]))
        answers = [send(number) for number in range(30)]
        assert set(answers) == {201, 503}
        assert answers.count(503) > 8
        assert client.get("/api/health").status_code == 200
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, unlimited)
        wait_until(lambda: send(100) == 201)
        stored = client.get("/api/messages", params={"for": "b", "limit": 100}).json()
        assert len(stored) <= answers.count(201) + 1


def wait_until(holds: Callable[[], bool], within: float = 10.0) -> None:
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_database_in_use_is_an_error_that_says_by_whom(tmp_path: Path) -> None:
    with process(tmp_path) as (child, _):
        with pytest.raises(Locked, match=str(child.pid)):
            run(database=tmp_path / "relay.db", home=tmp_path, port=0, ready=print)


async def test_an_address_in_use_is_an_error_that_says_so(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, stalled=1.0) as taken:
        settings = Settings(database=None, home=tmp_path, port=taken.getsockname()[1])
        with pytest.raises(CannotListen, match="Address already in use"), trio.fail_after(10):
            await serve(settings)


async def test_a_host_that_is_none_is_not_blamed_on_the_port(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=r"no\.such\.host") as caught, trio.fail_after(10):
        await serve(Settings(database=None, home=tmp_path, host="no.such.host.invalid", port=0))
    assert not caught.value.port


async def test_a_host_that_does_not_resolve_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=r"999\.1\.1\.1"):
        listen("999.1.1.1", 0, stalled=1.0)
