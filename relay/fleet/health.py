"""Counts for `GET /api/health` and `GET /api/stats`: how much there is of what."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Generic, TypeVar

import attrs

from relay import wire
from relay.actors import System
from relay.store import Store

__all__ = ["Tally"]

T = TypeVar("T")

FRESH = 1.0  # seconds that counts are good for: whoever asks for health in a loop costs next to nothing

COUNTS = {
    "agents": "select count(*) from agents",
    "orchestrators": "select count(*) from orchestrators",
    "messages": "select count(*) from messages",
    "queued_messages": "select count(*) from messages where delivery = 'queued'",
    "dead_letters": "select count(*) from deliveries where rung = 'dead'",
    "tasks": "select count(*) from tasks",
    "workspaces": "select count(*) from workspaces",
    "pending_commands": "select count(*) from commands where status = 'pending'",
}
ALL_COUNTS = f"select {', '.join(f'({count})' for count in COUNTS.values())}"


class Tally:
    """Counts what is committed, at most once a second."""

    def __init__(self, system: System, store: Store) -> None:
        self._counts = Fresh(system, lambda: _count(store))
        self._stats = Fresh(system, lambda: _divide(store))

    def count(self) -> wire.Counts:
        return self._counts.get()

    def stats(self) -> wire.Stats:
        return attrs.evolve(self._stats.get(), counts=self.count())


class Fresh(Generic[T]):
    """A value that is computed again once it is older than `FRESH`."""

    def __init__(self, system: System, compute: Callable[[], T]) -> None:
        self._system = system
        self._compute = compute
        self._value: T | None = None
        self._until = 0.0

    def get(self) -> T:
        now = self._system.now()
        if self._value is None or now >= self._until:
            self._until = now + FRESH
            self._value = self._compute()
        return self._value


def _count(store: Store) -> wire.Counts:
    row = store.row(ALL_COUNTS)
    assert row is not None
    return wire.Counts(**dict(zip(COUNTS, row, strict=True)))


def _divide(store: Store) -> wire.Stats:
    """Most messages are available: that is what remains, so that nobody reads them all."""
    row = store.row(
        "select (select count(*) from messages), (select count(*) from messages where delivery = 'queued'),"
        " (select count(*) from messages where delivery = 'expired')"
    )
    assert row is not None
    total, queued, expired = row
    return wire.Stats(
        counts=wire.Counts(),
        agents_by_status=_by_status(store, "agents", wire.AgentStatus),
        messages_by_delivery_status={
            wire.DeliveryStatus.QUEUED.value: queued,
            wire.DeliveryStatus.AVAILABLE.value: total - queued - expired,
            wire.DeliveryStatus.EXPIRED.value: expired,
        },
        tasks_by_status=_by_status(store, "tasks", wire.TaskStatus),
        commands_by_status=_by_status(store, "commands", wire.CommandStatus),
    )


def _by_status(store: Store, table: str, kind: type[StrEnum]) -> dict[str, int]:
    found = dict(store.rows(f"select status, count(*) from {table} group by status"))
    return {status.value: found.get(status.value, 0) for status in kind}
