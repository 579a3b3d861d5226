"""Where a program is for whoever logs in on this machine: their shell is asked, for it may set another search path.

The name is an argument of the shell, never a part of its text. The shell has a few seconds, and none of the server's token.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import trio

from relay import wire

__all__ = ["look_up"]

SHELLS = ("bash", "dash", "ksh", "sh", "zsh")
SCRIPT = 'command -v -- "$1"'
WITHIN = 5.0  # seconds (O-48)
KEPT = 4_000  # bytes of what it says


async def look_up(
    command: str, environment: Mapping[str, str] = os.environ, *, within: float = WITHIN
) -> wire.ProviderLookup:
    """What the shell says about the command; never raises for what goes wrong with that."""
    shell = environment.get("SHELL", "")
    if Path(shell).name not in SHELLS or not os.path.isabs(shell):
        shell = "/bin/sh"
    known = {name: value for name, value in environment.items() if not name.startswith("AGENT_RELAY_")}
    asked = [shell, "-lc", SCRIPT, shell, command]
    try:
        process = await trio.lowlevel.open_process(
            asked,
            env=known,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return wire.ProviderLookup(ok=False, command=command, error=f"{shell} cannot be asked: {error}")
    said: dict[str, bytes] = {}
    try:
        with trio.move_on_after(within) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_keep, process.stdout, said, "path")
                nursery.start_soon(_keep, process.stderr, said, "error")
            await process.wait()
    finally:
        await _end(process)
    if scope.cancelled_caught:
        why = f"{shell} did not answer within {within:.0f} s: see what your login scripts do"
        return wire.ProviderLookup(ok=False, command=command, error=why)
    return _answer(command, process.returncode == 0, said)


def _answer(command: str, found: bool, said: Mapping[str, bytes]) -> wire.ProviderLookup:
    """The last line is the shell's answer; what is before it comes from login scripts."""
    path, error = (said.get(name, b"").decode(errors="replace").strip() for name in ("path", "error"))
    last = path.splitlines()[-1].strip() if path else ""
    if found and last:
        return wire.ProviderLookup(ok=True, command=command, path=last, error=error or None)
    missing = f"{command} is not in the search path of a login shell"
    return wire.ProviderLookup(ok=False, command=command, error=error or missing)


async def _keep(stream: trio.abc.ReceiveStream | None, said: dict[str, bytes], name: str) -> None:
    """The end of what is said, however much it is."""
    assert stream is not None
    async with stream:
        kept = b""
        async for chunk in stream:
            kept = (kept + chunk)[-KEPT:]
            said[name] = kept


async def _end(process: trio.Process) -> None:
    """The shell, and whatever its scripts have started, in case that is still there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with trio.CancelScope(shield=True):
        await process.wait()
