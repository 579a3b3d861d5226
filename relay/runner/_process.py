"""A child process in a process group of its own, spoken to in lines.

Rules: lines are written whole or not at all, by one task, from a bounded queue. Lines that are too long are cut
(stderr) or reported as such (stdout). When the leader ends, whatever it left behind in its group is killed; when the
block of `open_process` is left, nothing of the group is alive and the leader has been reaped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from .adapter import AgentGone

__all__ = ["LONGEST_LINE", "ChildProcess", "Lines", "error_log", "open_process"]

LONGEST_LINE = 1024 * 1024  # bytes
LONGEST_ERROR_LINE = 64 * 1024
QUEUED_LINES = 64
TERM_GRACE = 2.0  # seconds between SIGTERM and SIGKILL
LEFTOVERS = 5.0  # seconds that output written before the end may take to be read
CHUNK = 64 * 1024


class Lines:
    """Cuts a byte stream into lines. A line of more than `longest` bytes becomes None, wherever it ends."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            yield self._line(part)
        if len(self._rest) + len(rest) > self._longest:
            self._skipping = True
            self._rest.clear()
        elif not self._skipping:
            self._rest += rest

    def _line(self, part: bytes) -> bytes | None:
        line = bytes(self._rest + part)
        self._rest.clear()
        skipped, self._skipping = self._skipping, False
        return None if skipped or len(line) > self._longest else line


class ChildProcess:
    """Made by `open_process`."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._queue, self._queued = trio.open_memory_channel[bytes](QUEUED_LINES)
        self._ended = trio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def write(self, line: bytes) -> bool:
        """Queues a line; False when the process has ended, or has not read for so long that the queue is full."""
        if self._ended.is_set():
            return False
        try:
            self._queue.send_nowait(line + b"\n")
        except trio.WouldBlock:
            return False
        return True

    async def lines(self) -> AsyncGenerator[bytes | None]:
        """What the process writes to stdout, None for a line that is too long; ends soon after the process."""
        assert self._process.stdout is not None
        lines = Lines(LONGEST_LINE)
        while chunk := await self._process.stdout.receive_some(CHUNK):
            for line in lines.feed(bytes(chunk)):
                yield line

    async def ended(self) -> int:
        """Waits for the end; the exit code, negative for a signal."""
        await self._ended.wait()
        assert self._process.returncode is not None
        return self._process.returncode

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to everything in the process's group."""
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            pass

    async def stop(self, grace: float) -> None:
        """Waits `grace` seconds for the end, then SIGTERM, then SIGKILL. With 0 it is SIGKILL at once."""
        if grace > 0:
            with trio.move_on_after(grace):
                await self._ended.wait()
            if not self._ended.is_set():
                self.signal(signal.SIGTERM)
                with trio.move_on_after(TERM_GRACE):
                    await self._ended.wait()
        if not self._ended.is_set():
            self.signal(signal.SIGKILL)
            await self._ended.wait()

    async def _write_queued(self) -> None:
        assert self._process.stdin is not None
        try:
            async for line in self._queued:
                await self._process.stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it ended, or closed its input and will hear nothing more

    async def _wait(self) -> None:
        await self._process.wait()
        self.signal(signal.SIGKILL)
        self._ended.set()

    async def _kill(self) -> None:
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await self._process.wait()
        self._ended.set()


@asynccontextmanager
async def open_process(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], on_error_line: Callable[[bytes], None]
) -> AsyncGenerator[ChildProcess]:
    """Starts `command`; raises `AgentGone` when the system will not."""
    try:
        process = await trio.lowlevel.open_process(
            command,
            cwd=cwd,
            env=env,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except (OSError, ValueError) as error:
        raise AgentGone(f"cannot start {command[0]}: {error}") from error
    child = ChildProcess(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child._write_queued)  # noqa: SLF001 - tasks of the class this module is about
            nursery.start_soon(child._wait)  # noqa: SLF001
            nursery.start_soon(_read_errors, process, on_error_line)
            yield child
            nursery.cancel_scope.cancel()
    finally:
        await child._kill()  # noqa: SLF001
        with trio.CancelScope(shield=True):
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                await pipe.aclose()


async def _read_errors(process: trio.Process, on_line: Callable[[bytes], None]) -> None:
    """Every line of stderr, cut to what a log can bear."""
    assert process.stderr is not None
    rest = bytearray()
    while chunk := await process.stderr.receive_some(CHUNK):
        *whole, last = chunk.split(b"\n")
        for part in whole:
            on_line(bytes(rest + part)[:LONGEST_ERROR_LINE])
            rest.clear()
        rest += last[: max(0, LONGEST_ERROR_LINE - len(rest))]
    if rest:
        on_line(bytes(rest))


@contextmanager
def error_log(path: Path | None) -> Iterator[Callable[[bytes], None]]:
    """What takes the lines of the agent's stderr: the log file, else the runner's own stderr."""
    file = sys.stderr.buffer if path is None else path.open("ab")

    def keep(line: bytes) -> None:
        try:
            file.write(line + b"\n")
            file.flush()
        except OSError:
            pass  # a full disk must not end the agent

    try:
        yield keep
    finally:
        if path is not None:
            file.close()
