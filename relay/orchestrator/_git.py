"""Git as a subprocess: never a shell, never a prompt, never an editor, never somebody's hook.

The caller's cancel scope is the time limit: when it ends, git and all it started are killed. Output is bounded. What
a repository lock is held by (`held`) is handed down to every git, so that the lock outlives a daemon that is killed
for as long as its git still runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextvars import ContextVar
from pathlib import Path

import trio

__all__ = ["GitError", "git", "git_result", "held", "is_safe_ref", "succeeds", "surroundings"]

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "GIT_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
HARMLESS = (
    "GIT_ALLOW_PROTOCOL",
    "GIT_AUTHOR_",
    "GIT_COMMITTER_",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_KEY_",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_VALUE_",
    "GIT_EXEC_PATH",
    "GIT_HTTP_",
    "GIT_PROXY_",
    "GIT_SSH",
    "GIT_SSL_",
)
"""How git reaches remotes, and who somebody is. Everything else that begins with `GIT_` may come from a git hook or an
editor around the daemon, and says which repository is meant, or which files: it would lead git astray."""

SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "diff.ignoreSubmodules=none",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "push.recurseSubmodules=no",
    "status.showUntrackedFiles=normal",
    "submodule.recurse=false",
)
"""What a repository may have set otherwise: programs of its own, and answers that hide something."""

OPTIONS = [part for setting in SETTINGS for part in ("-c", setting)]

STDERR_TAIL = 2_000  # characters
LARGEST = 32 * 1024 * 1024  # bytes of output
TERMINATE_WITHIN = 1.0  # seconds

held: ContextVar[tuple[int, ...]] = ContextVar("held", default=())
"""File descriptors that every git of this task inherits."""


class GitError(Exception):
    """Git said no. `code` is its exit code, `stderr` the end of what it said."""

    def __init__(self, arguments: tuple[str, ...], code: int, stderr: str) -> None:
        super().__init__(f"git {arguments[0]} failed ({code}): {stderr or 'it did not say why'}")
        self.code = code
        self.stderr = stderr


async def git(
    where: str | Path, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> str:
    """What git prints, without the final newline; raises `GitError`."""
    code, out, err = await git_result(where, *arguments, stdin=stdin, env=env)
    if code:
        raise GitError(arguments, code, err)
    return out


async def succeeds(where: str | Path, *arguments: str) -> bool:
    """Whether git exits with 0. An exit code above 1 is no answer: raises `GitError`."""
    code, _, err = await git_result(where, *arguments)
    if code not in (0, 1):
        raise GitError(arguments, code, err)
    return code == 0


async def git_result(
    where: str | Path,
    *arguments: str,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    largest: int = LARGEST,
) -> tuple[int, str, str]:
    """Exit code, output, and the end of the error output of one git command run in `where`.

    Git is killed when it has printed more than `largest` bytes; the output is what there was until then.
    """
    process = await trio.lowlevel.open_process(
        ["git", *OPTIONS, "-C", str(where), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**surroundings(), **ENVIRONMENT, **(env or {})},
        start_new_session=True,
        pass_fds=held.get(),
    )
    out, err = bytearray(), bytearray()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, process, stdin)
            nursery.start_soon(_read, process, process.stdout, out, largest)
            nursery.start_soon(_read, process, process.stderr, err, LARGEST)
            await process.wait()
    except BaseException:
        with trio.CancelScope(shield=True):
            await _end(process)
        raise
    said = err.decode(errors="replace").strip()[-STDERR_TAIL:]
    assert process.returncode is not None
    return process.returncode, out.decode(errors="replace").rstrip("\n"), said


def surroundings() -> dict[str, str]:
    """The daemon's environment without what would lead git astray: for git, and for agents."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(HARMLESS)
    }


async def _feed(process: trio.Process, data: bytes) -> None:
    assert process.stdin is not None
    async with process.stdin:
        try:
            await process.stdin.send_all(data)
        except trio.BrokenResourceError:
            pass  # git did not want to read it; it says why


async def _read(
    process: trio.Process, stream: trio.abc.ReceiveStream | None, into: bytearray, largest: int
) -> None:
    assert stream is not None
    async with stream:
        async for part in stream:
            into += part[: largest - len(into)]
            if len(into) >= largest:
                _kill(process, signal.SIGKILL)


async def _end(process: trio.Process) -> None:
    """Git and whatever it started, by the group that it leads."""
    _kill(process, signal.SIGTERM)
    with trio.move_on_after(TERMINATE_WITHIN):
        await process.wait()
    _kill(process, signal.SIGKILL)
    await process.wait()


def _kill(process: trio.Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def is_safe_ref(name: str) -> bool:
    """Whether git would take `name` for the name of a branch and never for an option, a pattern or something else."""
    forbidden = set(" ~^:?*[\\\x7f") | {chr(number) for number in range(32)}
    return (
        name not in {"", "@", "HEAD"}
        and not name.startswith(("-", "/", "."))
        and not name.endswith(("/", ".", ".lock"))
        and not forbidden & set(name)
        and ".." not in name
        and "@{" not in name
        and "//" not in name
    )
