"""All tasks, as the decisions of the post office made them so far, durable or not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from relay import wire
from relay.store import Store

from ._staged import Progress, Staged
from ._task_rows import find_task

__all__ = ["TaskBook"]


NOT_THERE = (
    "select distinct claimed_by from tasks where claimed_by is not null"
    " and not exists (select 1 from agents where agents.id = claimed_by and agents.status <> 'offline')"
)


class TaskBook:
    """Finds tasks; `keep` what is decided on one, and write it with the same decision."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store = store
        self._staged: Staged[int, wire.Task] = Staged(progress)
        self._keys: Staged[tuple[str, str], int] = Staged(progress)

    def find(self, number: int) -> wire.Task | None:
        return self._staged[number] if number in self._staged else find_task(self._store, number)

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
        self, fit: Callable[[wire.Task], bool], condition: str, *values: Any, most: int | None = None
    ) -> list[wire.Task]:
        """The tasks that fit, by id; `condition` finds the durable ones among them, and maybe others."""
        numbers = {
            number for (number,) in self._store.rows(f"select id from tasks where {condition}", *values)
        }
        numbers |= {number for number, _ in self._staged}
        found = (self.find(number) for number in sorted(numbers))
        return list(islice((task for task in found if task is not None and fit(task)), most))

    def holders(self) -> list[str]:
        """Whoever may hold a task and be gone."""
        named = {agent_id for (agent_id,) in self._store.rows(NOT_THERE)}
        named |= {task.claimed_by for _, task in self._staged if task is not None and task.claimed_by}
        return sorted(named)

    def keep(self, task: wire.Task) -> None:
        self._staged.put(task.id, task)
        if task.key is not None and (task.source, task.key) not in self._keys:
            self._keys.put((task.source, task.key), task.id)
