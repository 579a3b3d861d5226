"""Running the command line: verbs in this process, programs in one of their own."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing

from relay.cli import main

Run = Callable[..., click.testing.Result]

PATIENCE = 20.0  # seconds


def invoke(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, arguments)


def answer(result: click.testing.Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def clean(**settings: str) -> dict[str, str]:
    """The environment without what this test run's own may say to relay."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_RELAY")}
    return kept | settings


def relay(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command as a process, until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        env=clean(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@contextlib.contextmanager
def started(*arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A command as a process, killed at the end if it is still there."""
    with subprocess.Popen(
        [sys.executable, "-m", "relay", *arguments],
        env=clean(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass
class Served:
    """A running server. `announced` is the line it said where it is with."""

    home: Path
    url: str
    announced: dict[str, Any]

    def call(self, method: str, path: str, body: Any) -> Any:
        """What relay answers to the root token."""
        token = (self.home / "token").read_text().strip()
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    def register(self, agent: str, **card: Any) -> None:
        self.call("POST", "agents", {"id": agent, **card})


@contextlib.contextmanager
def serving(home: Path, **settings: str) -> Iterator[Served]:
    """A server process; it is told to stop at the end, and must."""
    with started("serve", "--port", "0", "--json", RELAY_HOME=str(home), **settings) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        announced = json.loads(line)
        yield Served(home, announced["url"], announced)
        process.terminate()
        assert process.wait(PATIENCE) == 0
