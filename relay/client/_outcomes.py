"""Outcomes of commands that relay has not acknowledged yet.

An outcome is final once it is known. It is put here before it is reported, and goes when relay has answered, so
neither a crash of its owner nor one of relay loses or changes it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import trio

from relay import wire
from relay._files import read_json, remove, write_json

from ._client import Client
from ._errors import Overloaded, Refused, RelayError, Unauthorized

__all__ = ["Outcomes"]

log = logging.getLogger(__name__)

UNKNOWN = 401  # the status for whom relay does not know: it may, once there is another token
RETRY = 1.0  # seconds


class Outcomes:
    """One file per outcome, named by the command."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changed = trio.Event()
        self._settled = trio.Event()

    def put(self, command_id: str, outcome: wire.PatchCommand) -> None:
        """Keep this, on disk when this returns; it takes the place of an earlier one. Raises `OSError`."""
        write_json(self._path(command_id), wire.to_json(outcome))
        if self._settled.is_set():
            self._settled = trio.Event()
        self._changed.set()

    def pending(self) -> dict[str, Any]:
        """What is still to be reported, by command."""
        files = sorted(self._directory.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return {unquote(path.stem): outcome for path in files if (outcome := read_json(path)) is not None}

    def __contains__(self, command_id: str) -> bool:
        return self._path(command_id).exists()

    async def settled(self) -> None:
        """Wait until `deliver` finds nothing left to report."""
        while not self._settled.is_set():
            await self._settled.wait()

    async def deliver(self, relay: Client) -> None:
        """Report what is here, and whatever comes, for ever."""
        while True:
            self._changed = trio.Event()
            failed = False
            for command_id, outcome in self.pending().items():
                failed = not await self._report(relay, command_id, outcome) or failed
            if not self.pending():
                self._settled.set()
            with trio.move_on_after(RETRY if failed else 60):
                await self._changed.wait()

    async def _report(self, relay: Client, command_id: str, outcome: Any) -> bool:
        """Whether this outcome is settled: relay took it, or will never take it."""
        try:
            await relay.patch_command(command_id, wire.decode(wire.PatchCommand, outcome))
        except Overloaded:
            return False
        except (
            Refused,
            wire.Invalid,
        ) as error:  # it ended otherwise meanwhile, or is unknown: nothing is left to report
            if isinstance(error, Unauthorized) and error.status == UNKNOWN:
                return False
            log.warning("relay does not want the outcome of %s: %s", command_id, error)
        except RelayError:
            return False
        remove(self._path(command_id))
        return True

    def _path(self, command_id: str) -> Path:
        return self._directory / f"{quote(command_id, safe='')}.json"
