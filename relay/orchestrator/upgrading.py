"""Another version of this very daemon (2.28).

The daemon installs only what it was told how to: its `upgrade_command`, with the version in place of `{version}`. The words are
split as a shell does, and no shell is used.

    asked           no command is known -> rejected      the version makes no sense, or one is under way -> failed
    installing      it failed or took too long -> failed, this version runs on      done -> restarting
    restarting      the daemon ends, whoever started it starts the next one; the agents go on
    back            with the version that was asked for -> relay sees that itself     with another -> failed

That a daemon ends in the middle is seen by a file: one that was installing installs again, one that was restarting does not. The
daemon never says that it worked: the version that it registers with does.
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from relay import __version__, wire
from relay._files import read_json, remove, write_json

from ._problems import Refused, Rejected, Restart
from .config import Config

__all__ = ["COMMAND", "Upgrades"]

log = logging.getLogger(__name__)

Result = dict[str, Any]
Report = Callable[[Result], Awaitable[None]]

COMMAND = "orchestrator.upgrade"
INSTALL_WITHIN = 240.0  # seconds: relay gives up on it after five minutes
VERSION = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?", re.ASCII)
OURS = {"auto", "all", "orchestrator"}
SAID = 2_000  # characters of what the installation printed


class Upgrades:
    """The upgrades of one daemon, one at a time."""

    def __init__(self, config: Config) -> None:
        self._command = config.upgrade_command
        self._version = __version__
        self._file = config.state / "upgrade.json"
        self._installing = trio.Lock()

    async def do(self, command: wire.Command, report: Report) -> None:
        """Returns when there is nothing more to do: relay sees the version itself. Raises `Restart` when the daemon is to end
        for it, and `Rejected` or `Refused` when it is not done."""
        target = _target(command.params)
        if self._command is None:
            raise Rejected(
                "this host does not install versions by itself: set AGENT_RELAY_UPGRADE_COMMAND for its orchestrator,"
                " or install there and start it again"
            )
        if self._installing.locked():
            raise Refused("another upgrade is under way on this host")
        async with self._installing:
            await self._upgrade(command, target, report)

    async def _upgrade(self, command: wire.Command, target: str, report: Report) -> None:
        known = read_json(self._file)
        restarted = (
            isinstance(known, dict) and known.get("commandId") == command.id and known.get("installed")
        )
        facts = {"targetVersion": target, "providers": command.params["providers"]}
        if restarted:
            remove(self._file)
            if self._version != target:
                raise Refused(f"{target} was installed, and still {self._version} runs after the restart")
        elif self._version != target:
            await report({**facts, "phase": "installing"})
            write_json(self._file, {"commandId": command.id, "installed": False})
            await self._install(target)
            write_json(self._file, {"commandId": command.id, "installed": True})
            await report({**facts, "phase": "restart-pending"})
            raise Restart(f"version {target} is installed")

    async def _install(self, target: str) -> None:
        words = [word.replace("{version}", target) for word in shlex.split(self._command or "")]
        log.info("installing version %s: %s", target, shlex.join(words))
        said = ""
        with trio.move_on_after(INSTALL_WITHIN) as limit:
            try:
                done = await trio.run_process(
                    words,
                    stdin=subprocess.DEVNULL,
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            except OSError as error:
                raise Refused(f"{words[0]} cannot be run: {error.strerror or error}") from None
            said = done.stdout.decode(errors="replace").strip()[-SAID:]
            if done.returncode == 0:
                return
            raise Refused(f"{words[0]} ended with {done.returncode}, version {self._version} runs on: {said}")
        if limit.cancelled_caught:
            raise Refused(
                f"{words[0]} took longer than {INSTALL_WITHIN:.0f} s, version {self._version} runs on"
            )


def _target(params: Mapping[str, Any]) -> str:
    target = params.get("targetVersion")
    if not isinstance(target, str) or not VERSION.fullmatch(target):
        raise Refused(f"params.targetVersion must be a version like 1.2.3, not {target!r}")
    parts = params.get("providers")
    if not isinstance(parts, list) or not OURS & {part for part in parts if isinstance(part, str)}:
        raise Rejected("this host upgrades its orchestrator only, and that was not asked for")
    return target
