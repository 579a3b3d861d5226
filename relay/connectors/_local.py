"""Programs in folders of this machine.

1. `relay-connector-ID` is looked for in the folders in their order, and nowhere else: not on `PATH`, where anybody's
   program might stand. One that anybody may write, itself or its folder, is none.
2. A run has `within` seconds and may write 64 KiB; beyond that it is ended. It gets a few variables of the environment,
   and no token: whoever needs one has it in the configuration.
3. Each run has a guard (`_guard.py`), which ends it whatever becomes of the server.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from relay.fleet.connectors import Ended, ProgramGone

__all__ = ["LocalPrograms", "folders"]

PREFIX = "relay-connector-"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
GUARD = str(Path(__file__).with_name("_guard.py"))
UNSTARTABLE = 126  # the guard's exit code

MOST_PROGRAMS = 200
MOST_OUTPUT = 64 * 1024  # bytes
ERRORS_KEPT = 4_000  # bytes, the last ones
LEFTOVERS = 1.0  # seconds that output written before the end may take to be read
CHUNK = 16 * 1024

PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)


def folders(home: Path, path: str | None) -> tuple[Path, ...]:
    """Where a server looks: `connectors` in its home, then the absolute folders of `AGENT_RELAY_CONNECTOR_PATH`."""
    named = [Path(each) for each in (path or "").split(os.pathsep) if os.path.isabs(each)]
    return (home / "connectors", *named)


class LocalPrograms:
    """See `relay.fleet.connectors.Programs`. `url` is where the server is; durations are seconds."""

    def __init__(
        self, folders: Sequence[Path], url: str, *, within: float = 25.0, grace: float = 5.0
    ) -> None:
        self._folders = tuple(folders)
        self._url = url
        self._within = within
        self._grace = grace

    def find(self, connector: str) -> str | None:
        if not NAME.fullmatch(connector):
            return None
        paths = (folder / f"{PREFIX}{connector}" for folder in self._folders)
        return next((str(path) for path in paths if _usable(path)), None)

    def all(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for folder in self._folders:
            for name in _names(folder):
                connector = name.removeprefix(PREFIX)
                if name.startswith(PREFIX) and connector not in found and len(found) < MOST_PROGRAMS:
                    path = self.find(connector)
                    if path is not None:
                        found[connector] = path
        return found

    @asynccontextmanager
    async def run(self, connector: str, path: str, action: str, given: bytes) -> AsyncGenerator[Ended]:
        mine, lifeline = os.pipe()
        guarded = [sys.executable, "-I", "-S", GUARD, str(mine), str(self._grace), path, action]
        try:
            process = await trio.lowlevel.open_process(
                guarded,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(mine,),
                start_new_session=True,
                cwd=Path(path).parent if Path(path).parent.is_dir() else "/",
                env=self._environment(connector),
            )
        except BaseException:
            os.close(lifeline)
            raise
        finally:
            os.close(mine)
        run = _Run(process, lifeline)
        try:
            ended = await run.ended(given, self._within)
            if ended.exit_code == UNSTARTABLE and not Path(path).exists():
                raise ProgramGone(path)
            yield ended
        finally:
            await run.close(self._grace)

    def _environment(self, connector: str) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")
        }
        return {**kept, "AGENT_RELAY_URL": self._url, "AGENT_RELAY_CONNECTOR_ID": connector}


class _Run:
    """One run, as its guard's process and the lifeline of that."""

    def __init__(self, process: trio.Process, lifeline: int) -> None:
        self._process = process
        self._lifeline: int | None = lifeline
        self._output, self._errors = bytearray(), bytearray()
        self._flooded = False
        self._reading = 2
        self._read = trio.Event()

    async def ended(self, given: bytes, within: float) -> Ended:
        """The end of the program, or of its time."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed, given)
            nursery.start_soon(self._take_output)
            nursery.start_soon(self._take_errors)
            with trio.move_on_after(within):
                await self._process.wait()
            with trio.move_on_after(LEFTOVERS if self._process.returncode is not None else 0):
                await self._read.wait()
            nursery.cancel_scope.cancel()
        code = self._process.returncode
        trouble = None
        if self._flooded:
            trouble = f"the program wrote more than {MOST_OUTPUT} bytes"
        elif code is None:
            trouble = f"the program did not end within {within:g} s"
        return Ended(bytes(self._output), self._errors.decode(errors="replace"), code, trouble)

    async def close(self, grace: float) -> None:
        """Have the guard end what is left, and wait for it."""
        self._cut()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(grace + LEFTOVERS):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                assert pipe is not None
                await pipe.aclose()

    def _cut(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    async def _feed(self, given: bytes) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(given)
        except trio.BrokenResourceError:
            pass  # it does not want to know
        await self._process.stdin.aclose()

    async def _take_output(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.receive_some(CHUNK):
            self._output += chunk
            if len(self._output) > MOST_OUTPUT:
                self._flooded = True
                self._output.clear()
                self._cut()
                break
        self._one_read()

    async def _take_errors(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.receive_some(CHUNK):
            self._errors += chunk
            del self._errors[:-ERRORS_KEPT]
        self._one_read()

    def _one_read(self) -> None:
        self._reading -= 1
        if not self._reading:
            self._read.set()


def _names(folder: Path) -> Iterable[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return ()


def _usable(path: Path) -> bool:
    try:
        program, folder = path.stat(), path.parent.stat()
    except OSError:
        return False
    open_to_all = (program.st_mode | folder.st_mode) & stat.S_IWOTH
    return stat.S_ISREG(program.st_mode) and not open_to_all and os.access(path, os.X_OK)
