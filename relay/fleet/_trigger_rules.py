"""Which events an automation waits for, and which runs of automations an event goes back to.

An automation is not begun by what its own runs have caused, nor by what those have caused that were begun by them. An event
says so where relay itself has written the run's id into it: into the params of a command, the meta of a message, the
metadata of a task, the meta of an agent. What agents do then is their own; for that there is a bound on runs in a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from relay import wire
from relay.store import Store

from ._automation_rows import find_run

__all__ = ["LONGEST_CHAIN", "RUN_ID", "fits", "origin"]

RUN_ID = "automationRunId"
DEEPEST = 6
LONGEST_CHAIN = 10
"""Automations that begin each other, one after the other; the run of the last one begins nothing more."""


def fits(schedule: wire.EventSchedule, subject: str | None, data: Mapping[str, Any]) -> bool:
    """Whether an event of that type is one that is waited for."""
    if schedule.subject is not None and schedule.subject != subject:
        return False
    return all(_has(data, path, wanted) for path, wanted in (schedule.where or {}).items())


def _has(data: Any, path: str, wanted: Any) -> bool:
    """What is absent is as null; of a list any element will do."""
    for name in path.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    found = data if isinstance(data, list) else [data]
    return any(
        _same(each, one) for each in found for one in (wanted if isinstance(wanted, list) else [wanted])
    )


def _same(one: Any, other: Any) -> bool:
    """True is not 1, and 1 is 1.0."""
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def origin(store: Store, kind: str, subject: str | None, data: Mapping[str, Any]) -> tuple[str, ...]:
    """The automations that an event goes back to, the first first."""
    run_id = _run_of(store, kind, subject, data)
    run = find_run(store, run_id) if run_id is not None else None
    return (*run.chain, run.automation_id) if run is not None else ()


def _run_of(store: Store, kind: str, subject: str | None, data: Mapping[str, Any]) -> str | None:
    if kind.startswith("automation."):
        return _text(data.get("run"), "id")
    found = _mentioned(data, DEEPEST)
    if found is not None:
        return found
    number = data.get("messageId") or (subject if kind.startswith("message.") else None)
    command = _text(data.get("metadata"), "commandId")
    return _of_record(store, "messages", number) or _of_record(store, "commands", command)


def _mentioned(data: Any, depth: int) -> str | None:
    """The run that any object within the data names."""
    if depth == 0 or not isinstance(data, Mapping | list):
        return None
    if isinstance(data, list):
        return next(filter(None, (_mentioned(each, depth - 1) for each in data)), None)
    return _text(data, RUN_ID) or next(
        filter(None, (_mentioned(each, depth - 1) for each in data.values())), None
    )


def _text(data: Any, name: str) -> str | None:
    value = data.get(name) if isinstance(data, Mapping) else None
    return value if isinstance(value, str) and value else None


def _of_record(store: Store, table: str, key: Any) -> str | None:
    """The run that the message or command was made by."""
    if key is None:
        return None
    row = store.row(f"select record from {table} where id = ?", key)
    return _mentioned(orjson.loads(row[0]), DEEPEST) if row else None
