"""All tasks, as the decisions of the post office made them so far, durable or not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from relay import wire
from relay.store import Store, Write

from ._staged import Added, Durability, Staged
from ._task_rows import find_task
from ._task_rules import prolonged

__all__ = ["TaskBook"]


THOSE = "select id, record from tasks where {} order by +id limit ?"  # the condition's index, rather than the order's
PROLONG = (
    "update tasks set claim_expires_at = claim_expires_at + ?1, orphaned_at = orphaned_at + ?1, record = json_patch(record,"
    " json_object('claimExpiresAt', claim_expires_at + ?1, 'orphanedAt', orphaned_at + ?1)) where claimed_by is not null"
)
"""A member that is null is none of the record's."""


class TaskBook:
    """Finds tasks; `keep` what is decided on one, and write it with the same decision."""

    def __init__(self, store: Store, durability: Durability) -> None:
        self._store = store
        self._staged: Staged[int, wire.Task] = Staged(durability)
        self._keys: Staged[tuple[str, str], int] = Staged(durability)
        self._added = Added(durability)

    def find(self, number: int) -> wire.Task | None:
        if number in self._staged:
            return self._staged[number]
        found = find_task(self._store, number)
        return found and self._with_added(found)

    def of_source(self, source: str, key: str | None) -> wire.Task | None:
        """The task that this source has reported with this key."""
        if key is None:
            return None
        if (source, key) in self._keys:
            number = self._keys[source, key]
        else:
            row = self._store.row("select id from tasks where source = ? and key = ?", source, key)
            number = row[0] if row else None
        return self.find(number) if number is not None else None

    def those(
        self, fit: Callable[[wire.Task], bool], condition: str, *values: Any, most: int
    ) -> list[wire.Task]:
        """The first tasks that fit, at most `most`; `condition` finds the durable ones among them, and no others."""
        staged = dict(self._staged)
        rows = self._store.rows(THOSE.format(condition), *values, most + len(staged))
        durable = (self._with_added(_read(record)) for number, record in rows if number not in staged)
        found = list(islice(filter(fit, durable), most))
        found += [task for task in staged.values() if task is not None and fit(task)]
        return sorted(found, key=lambda task: task.id)[:most]

    def _with_added(self, task: wire.Task) -> wire.Task:
        seconds = self._added.seconds
        return prolonged(task, seconds) if seconds and task.claimed_by is not None else task

    def prolong(self, seconds: float) -> Write:
        """Whoever holds a task, or did when it was orphaned, has so much more time."""
        for number, task in self._staged:
            if task is not None and task.claimed_by is not None:
                self._staged.put(number, prolonged(task, seconds))
        self._added.add(seconds)
        return Write(PROLONG, (round(seconds * 1000),))

    def keep(self, task: wire.Task) -> None:
        self._staged.put(task.id, task)
        if task.key is not None and (task.source, task.key) not in self._keys:
            self._keys.put((task.source, task.key), task.id)


def _read(record: str) -> wire.Task:
    return wire.decode(wire.Task, record)
