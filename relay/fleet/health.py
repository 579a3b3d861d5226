"""Counts for `GET /api/health`: how much there is of what."""

from __future__ import annotations

from relay import wire
from relay.actors import System
from relay.store import Store

__all__ = ["Tally"]

FRESH = 1.0  # seconds that counts are good for: whoever asks for health in a loop costs next to nothing

COUNTS = """
select
  (select count(*) from agents), (select count(*) from orchestrators), (select count(*) from messages),
  (select count(*) from workspaces), (select count(*) from commands where status = 'pending')
"""


class Tally:
    """Counts what is committed, at most once a second."""

    def __init__(self, system: System, store: Store) -> None:
        self._system = system
        self._store = store
        self._counts = wire.Counts()
        self._until = 0.0

    def count(self) -> wire.Counts:
        if self._system.now() >= self._until:
            self._until = self._system.now() + FRESH
            self._counts = _count(self._store)
        return self._counts


def _count(store: Store) -> wire.Counts:
    row = store.row(COUNTS)
    assert row is not None
    agents, orchestrators, messages, workspaces, pending = row
    return wire.Counts(
        agents=agents,
        orchestrators=orchestrators,
        messages=messages,
        workspaces=workspaces,
        pending_commands=pending,
    )
