"""Where the demo happens: a temporary folder with a clone to work in, and the processes started there.

The given repository is only read: the clone has no remote, so nothing can be pushed back. Every process the demo
causes is ended when the stage is closed, whoever started it.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from relay.cli.failure import Failure

from .ports import reserve_port
from .processes import caused, marked

__all__ = ["Git", "Stage", "opened"]

GIT_LIMIT = 120.0  # seconds
STOP_LIMIT = 4.0  # seconds that processes get to end by themselves


class Git:
    """Asks git about one repository."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *arguments: str) -> str:
        """The output without the last line end. Raises CalledProcessError with git's own words in `stderr`."""
        done = subprocess.run(
            ["git", "-C", str(self.root), *arguments],
            env=_unbound() | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_LIMIT,
            check=True,
        )
        return done.stdout.removesuffix("\n")

    def holds(self, *arguments: str) -> bool:
        """Whether the command succeeds."""
        try:
            self(*arguments)
        except subprocess.CalledProcessError:
            return False
        return True


class Stage:
    """The folder and its processes. Use `opened`."""

    def __init__(self, root: Path, source: Path | None) -> None:
        self.root = root
        self.source = source
        self.home = root / "home"
        self.journals = root / "agents"
        self.logs = root / "logs"
        self.projects = root / "projects"
        for folder in (self.home, self.journals, self.logs, self.projects):
            folder.mkdir()
        self.database = self.home / "relay.db"
        self.git, self.base = self._clone(self.projects / (source.name if source else "notebook"))
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def _clone(self, target: Path) -> tuple[Git, str]:
        git = Git(target)
        try:
            if self.source is None:
                _small_repository(target)
            else:
                Git(self.root)("clone", "--quiet", "--origin", "origin", str(self.source), str(target))
                git("remote", "remove", "origin")
        except subprocess.CalledProcessError as error:
            raise Failure(
                f"{self.source} cannot be cloned", why=error.stderr.strip(), then=_USABLE
            ) from error
        if not git.holds("rev-parse", "--verify", "HEAD^{commit}"):
            raise Failure(f"{self.source} has no commit yet", then=_USABLE)
        for setting in (
            "commit.gpgsign=false",
            "core.hooksPath=/dev/null",
            "core.logAllRefUpdates=true",
            "gc.auto=0",
        ):
            git("config", *setting.split("="))
        base = git("rev-parse", "--abbrev-ref", "HEAD")
        if base == "HEAD" or base.startswith("agent/"):
            base = "relay-demo-base"
            git("switch", "--quiet", "--create", base)
        return git, base

    @property
    def token(self) -> str:
        """Made by the server when it first starts."""
        return (self.home / "token").read_text().strip()

    def start_server(self) -> None:
        where = ("--database", str(self.database), "--port", str(self.port))
        self._start("server", "serve", *where)

    def start_orchestrator(self, name: str) -> None:
        """A daemon that looks for work more often than usual, so that there is less waiting to watch."""
        settings = {
            "id": name,
            "baseDir": str(self.projects),
            "apiPort": 0,
            "pollIntervalMs": 300,
            "healthIntervalMs": 500,
        }
        path = self.home / "orchestrator.json"
        path.write_text(json.dumps(settings))
        self._start("orchestrator", "orchestrator", "--config", str(path))

    def kill_server(self) -> None:
        """SIGKILL, and it is gone when this returns."""
        with self._running.pop("server") as server:
            server.kill()

    def ended(self) -> str | None:
        """Which of server and orchestrator has ended by itself, and how; None while both run."""
        for name, process in self._running.items():
            if process.poll() is not None:
                return f"the {name} ended with exit code {process.returncode}"
        return None

    def _start(self, name: str, *arguments: str) -> None:
        with (self.logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "relay", *arguments],
                cwd=self.root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        return _unbound() | {
            **marked(self.root),
            "RELAY_HOME": str(self.home),
            "HOME": str(self.home),
            "AGENT_RELAY_URL": self.url,
            "AGENT_RELAY_SPAWN_ADMISSION_DISABLED": "1",
            "AGENT_RELAY_DISABLE_SYSTEMD_SUPERVISOR": "1",
        }

    def stop(self) -> None:
        """Ends every process of this stage: asks first, then kills. Cannot be interrupted."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + STOP_LIMIT
            send(number, self.processes())
            while self.processes() and time.monotonic() < end:
                time.sleep(0.05)
        for process in self._running.values():
            process.wait(STOP_LIMIT)

    def processes(self) -> set[int]:
        """Ids of all running processes that this stage has caused. One that has just been started cannot be told by its
        environment yet."""
        own = {process.pid for process in self._running.values() if process.poll() is None}
        return own | set(caused(self.root))


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def opened(source: Path | None, *, keep: bool) -> Iterator[Stage]:
    """A stage whose processes are gone when the block is left, however it is left; the folder too, unless `keep`."""
    root = Path(tempfile.mkdtemp(prefix="relay-demo-")).resolve()
    stage = None
    try:
        stage = Stage(root, source)
        yield stage
    finally:
        if stage is not None:
            stage.stop()
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


_USABLE = "relay demo --repo PATH, where PATH is a git checkout with at least one commit"


def _unbound() -> dict[str, str]:
    """The environment without what binds a process to a server, or git to another repository: hooks run with that."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("AGENT_RELAY_", "GIT_"))
    }


def _small_repository(target: Path) -> None:
    """For when relay was installed without its checkout."""
    target.mkdir()
    git = Git(target)
    git("init", "--quiet")
    (target / "README.md").write_text("# A notebook\n\nThe repository the demo's agents work in.\n")
    git("add", "README.md")
    identity = ("-c", "user.name=relay", "-c", "user.email=relay@localhost")
    git(*identity, "commit", "--quiet", "--no-gpg-sign", "-m", "Open a notebook")
