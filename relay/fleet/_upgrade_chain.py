"""How upgrades end: for their command first, and then in the host's record. Each step may be repeated, so a chain that a crash
broke is gone through again at the next contact, or when the host's actor starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio

from relay import wire
from relay.store import Decision

from . import _upgrades as upgrades
from ._command_protocol import Conclude
from ._command_rows import find_command
from ._errors import NotFound
from ._moment import Moment

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["Upgrading", "supersede"]

R = TypeVar("R")

WITHIN = 20.0  # seconds that a command has to end


class Upgrading:
    """The upgrade of one host. The wall clock counts as if nobody had set it forward since it was asked for."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._leapt = fleet.absence.leapt()

    def begins(self) -> None:
        """Another one was asked for just now."""
        self._leapt = self._fleet.absence.leapt()

    def ended(self, host: wire.Orchestrator, moment: Moment) -> upgrades.Ended | None:
        """What the contact of the host, as it is now, ends."""
        asked = host.upgrade.requested_at if host.upgrade is not None else None
        leapt = self._fleet.absence.leapt() - self._leapt
        return upgrades.on_contact(host, moment.ms / 1000 - (asked or 0.0) - leapt)

    async def met(
        self, host: wire.Orchestrator, decision: Decision[R], moment: Moment
    ) -> tuple[wire.Orchestrator, Decision[R]]:
        """The host as contact leaves it, and `decision` with that. An upgrade that is over is so for its command first."""
        ended = self.ended(host, moment)
        if ended is None:
            return host, decision
        assert host.upgrade is not None
        result = {"version": host.version, "fromVersion": host.upgrade.from_version}
        known = {name: value for name, value in result.items() if value is not None}
        await _conclude(self._fleet, host.upgrade.command_id, ended, known if ended.error is None else None)
        after, settled = upgrades.settle(host, ended, moment)
        writes, events = (*decision.writes, *settled.writes), (*decision.events, *settled.events)
        return after, attrs.evolve(decision, writes=writes, events=events)

    def left_open(self, host: wire.Orchestrator) -> upgrades.Ended | None:
        """What the end of its command, that the host was not told of, ends."""
        named = host.upgrade.command_id if host.upgrade is not None else None
        command = find_command(self._fleet.store, named or "")
        if command is None or not command.status.final:
            return None
        return upgrades.on_news(host, command.id, command.status, command.error)


async def _conclude(
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
        await _conclude(fleet, key, upgrades.Ended("failed", wire.CommandStatus.CANCELED, why))
