"""Git as a subprocess: never a shell, never a prompt, never an editor, never somebody's hook.

The caller's cancel scope is the time limit; when it ends, the whole process group is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import trio

__all__ = ["GitError", "git", "git_result", "is_safe_ref"]

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
LEAKY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
STDERR_TAIL = 2_000  # characters


class GitError(Exception):
    """Git said no. `code` is its exit code, `stderr` the end of what it said."""

    def __init__(self, arguments: tuple[str, ...], code: int, stderr: str) -> None:
        super().__init__(f"git {arguments[0]} failed ({code}): {stderr or 'it did not say why'}")
        self.code = code
        self.stderr = stderr


async def git(where: str | Path, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> str:
    """What git prints, without the final newline; raises `GitError`."""
    code, out, err = await git_result(where, *arguments, stdin=stdin, env=env)
    if code:
        raise GitError(arguments, code, err)
    return out


async def git_result(
    where: str | Path, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Exit code, output, and the end of the error output of one git command run in `where`."""
    environ = {name: value for name, value in os.environ.items() if name not in LEAKY}
    done = await trio.run_process(
        ["git", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-C", str(where), *arguments],
        stdin=stdin,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**environ, **ENVIRONMENT, **(env or {})},
        start_new_session=True,
        deliver_cancel=_kill_group,
    )
    err = done.stderr.decode(errors="replace").strip()[-STDERR_TAIL:]
    return done.returncode, done.stdout.decode(errors="replace").rstrip("\n"), err


async def _kill_group(process: trio.Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        with trio.move_on_after(1):
            await process.wait()
            return
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, subprocess.SubprocessError):
        pass


def is_safe_ref(name: str) -> bool:
    """Whether git would take `name` for the name of something and never for an option or a pattern."""
    forbidden = set(" ~^:?*[\\\x7f") | {chr(number) for number in range(32)}
    return (
        bool(name)
        and not name.startswith(("-", "/", "."))
        and not name.endswith(("/", ".", ".lock"))
        and not forbidden & set(name)
        and ".." not in name
        and "@{" not in name
        and "//" not in name
    )
