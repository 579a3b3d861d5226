"""Upgrades of hosts: what was asked, and how it came out (agents-workspaces 6.3 to 6.5).

The host's record names the last upgrade. It leaves `pending` once: when the host is heard of with the version that was
asked for, or is heard of with another when its time is over, or its executor says that it did not work. Only contact ends
it, never a timer: a host that is not heard of may be on its way. Functions here decide and do nothing else.
"""

from __future__ import annotations

import re

import attrs

from relay import __version__, wire
from relay.store import Decision, Store

from ._audit import Caller, audit
from ._errors import Conflict, Invalid
from ._machine import NONE, Moves
from ._moment import Moment
from ._new_command import new_command
from ._orchestrator_protocol import Dispatched
from ._orchestrator_rules import announced

__all__ = ["COMMAND", "MOVES", "Ended", "ask", "missed", "on_contact", "on_news", "settle", "superseded"]

COMMAND = "orchestrator.upgrade"
DEADLINE_MS = 300_000
TTL_MS = DEADLINE_MS + 300_000
DASHBOARD = "dashboard"
CORE = re.compile(r"(\d+)\.(\d+)\.(\d+)", re.ASCII)

U = wire.UpgradeStatus
MOVES: Moves = {
    NONE: {"asked": U.PENDING},
    U.PENDING: {"asked": U.PENDING, "arrived": U.SUCCEEDED, "missed": U.FAILED, "failed": U.FAILED},
    U.SUCCEEDED: {"asked": U.PENDING},
    U.FAILED: {"asked": U.PENDING},
}
"""Spec 18.4 and 22.11."""

FAILURES = (wire.CommandStatus.FAILED, wire.CommandStatus.REJECTED, wire.CommandStatus.CANCELED)
"""Ends of the command that end the upgrade, too. One that timed out does not: the host may still come back as asked."""


@attrs.frozen
class Ended:
    """How a pending upgrade came out: an event of `MOVES`, and what becomes of its command."""

    event: str
    status: wire.CommandStatus
    error: str | None = None


def ask(
    host: wire.Orchestrator, asked: wire.UpgradeOrchestrator, moment: Moment, by: Caller | None
) -> tuple[wire.Orchestrator, Decision[Dispatched]]:
    """The host with its new upgrade record, and the command for it (ORC-40 to ORC-43)."""
    target = asked.target_version or __version__
    if not asked.parts:
        known = ", ".join(wire.UpgradePart)
        raise Invalid(f"providers: none of them is known; give at least one of {known}")
    force = asked.force is True
    if not force and _is_older(target, host.version):
        raise Conflict(
            f"host {host.id} has version {host.version}, and {target} is older: give force, if it is meant"
        )
    command, writes, events = new_command(moment, _command(host, target, asked.parts, moment, force=force))
    record = wire.Upgrade(
        desired_version=target,
        status=MOVES[host.upgrade.status if host.upgrade else NONE]["asked"],
        command_id=command.id,
        providers=asked.parts,
        from_version=host.version,
        requested_by=DASHBOARD,
        requested_at=wire.Instant(moment.ms / 1000),
    )
    after = attrs.evolve(host, upgrade=record)
    row, told = announced(after)
    note, noted = audit(
        moment,
        f"server-orchestrator-upgrade-{host.id}-{command.id}",
        f"an upgrade of host {host.id} to {target} was asked for",
        body=f"{host.version or '?'} → {target}",
        meta=host.id,
        icon="ti-arrow-up-circle",
        view="orchestrators",
        metadata={
            "orchestratorId": host.id,
            "targetVersion": target,
            "providers": [part.value for part in asked.parts],
            "commandId": command.id,
        },
        by=by,
    )
    reply = Dispatched(host.id, command)
    return after, Decision(reply=reply, writes=(*writes, row, note), events=(*events, told, noted))


def _command(
    host: wire.Orchestrator, target: str, parts: list[wire.UpgradePart], moment: Moment, *, force: bool
) -> wire.NewCommand:
    params = {
        "targetVersion": target,
        "providers": [part.value for part in parts],
        "force": force,
        "orchestratorId": host.id,
        "requestedBy": DASHBOARD,
        "requestedAt": moment.ms,
    }
    return wire.NewCommand(type=COMMAND, source="system", target=host.agent_id, params=params, ttl_ms=TTL_MS)


def _is_older(target: str, now: str | None) -> bool:
    """By the three leading numbers. What has none cannot be compared, and is not older."""
    found, have = CORE.match(target), CORE.match(now or "")
    if found is None or have is None:
        return False
    return tuple(map(int, found.groups())) < tuple(map(int, have.groups()))


def on_contact(host: wire.Orchestrator, age: float) -> Ended | None:
    """What the host's contact ends. `host` is as it says it is now, `age` the seconds since the upgrade was asked for.
    Having arrived counts more than having been late (W-I30)."""
    upgrade = host.upgrade
    if upgrade is None or upgrade.status is not U.PENDING:
        return None
    if host.version and host.version == upgrade.desired_version:
        return Ended("arrived", wire.CommandStatus.SUCCEEDED)
    if round(age * 1000) > DEADLINE_MS:
        return Ended("missed", wire.CommandStatus.FAILED, missed(host, upgrade))
    return None


def missed(host: wire.Orchestrator, upgrade: wire.Upgrade) -> str:
    return (
        f"host {host.id} reports version {host.version or '?'} and not {upgrade.desired_version},"
        f" {DEADLINE_MS // 60_000} minutes after it was asked to change"
    )


def on_news(
    host: wire.Orchestrator | None, command_id: str, status: wire.CommandStatus, error: str | None
) -> Ended | None:
    """What the end of a command ends: the upgrade that names it, if its executor, or a person, gave it up."""
    upgrade = host.upgrade if host is not None else None
    if upgrade is None or upgrade.status is not U.PENDING or upgrade.command_id != command_id:
        return None
    if status in FAILURES:
        return Ended("failed", status, error or f"the command of the upgrade was {status}")
    return None


def settle(host: wire.Orchestrator, ended: Ended, moment: Moment) -> tuple[wire.Orchestrator, Decision[None]]:
    """The record as it ended, told and audited (A6, A7)."""
    before = host.upgrade
    assert before is not None
    status = MOVES[before.status][ended.event]
    settled = attrs.evolve(
        before, status=status, settled_at=wire.Instant(moment.ms / 1000), error=ended.error
    )
    after = attrs.evolve(host, upgrade=settled)
    row, told = announced(after)
    well = status is U.SUCCEEDED
    metadata = {"orchestratorId": host.id, "commandId": before.command_id}
    note, noted = audit(
        moment,
        f"server-orchestrator-{'upgraded' if well else 'upgrade-failed'}-{host.id}-{moment.ms}",
        f"host {host.id} was upgraded" if well else f"an upgrade of host {host.id} did not complete",
        body=f"{before.from_version or '?'} → {host.version}" if well else ended.error,
        meta=host.id,
        icon="ti-arrow-up-circle" if well else "ti-alert-triangle",
        view="orchestrators",
        metadata=metadata | {"version": host.version} if well else metadata,
    )
    return after, Decision(reply=None, writes=(row, note), events=(told, noted))


def superseded(store: Store, host: wire.Orchestrator) -> list[str]:
    """The open commands of upgrades that the host's record does not name any more."""
    current = host.upgrade.command_id if host.upgrade is not None else None
    sql = (
        "select id from commands where target = ? and type = ? and source = 'system' and id is not ?"
        " and status in ('pending', 'accepted', 'running') order by seq"
    )
    return [key for (key,) in store.rows(sql, host.agent_id, COMMAND, current)]
