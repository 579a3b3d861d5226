"""How the commands of upgrades end: as the host's record does, and before it. Each step may be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from relay import wire

from . import _upgrades as upgrades
from ._command_protocol import Conclude
from ._errors import NotFound

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["conclude", "supersede"]

WITHIN = 20.0  # seconds that a command has to end


async def conclude(
    fleet: Fleet, command_id: str | None, ended: upgrades.Ended, result: dict[str, Any] | None = None
) -> None:
    """The command ends so, unless it has ended."""
    if command_id is None:
        return
    with trio.fail_after(WITHIN):
        try:
            await fleet.commands[command_id].ask(Conclude(ended.status, result, ended.error))
        except NotFound:
            pass


async def supersede(fleet: Fleet, host: wire.Orchestrator) -> None:
    """Give up the commands of upgrades that another has taken the place of."""
    why = "another upgrade of the host was asked for"
    for key in upgrades.superseded(fleet.store, host):
        await conclude(fleet, key, upgrades.Ended("failed", wire.CommandStatus.CANCELED, why))
