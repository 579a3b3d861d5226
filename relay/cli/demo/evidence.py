"""The traces that a run of the demo leaves on disk, and how they are read. Everything has stopped by then."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from .plan import Plan
from .stage import Git

__all__ = ["FINISHED", "Evidence", "Outage", "Unproven"]

FINISHED = {"succeeded", "failed", "rejected", "canceled", "timed_out"}


class Unproven(Exception):
    """A claim does not hold; the text says where."""


@dataclass(frozen=True)
class Outage:
    """When the server was killed and when it was started again, in epoch seconds."""

    killed: float
    started: float


class Evidence:
    """The repository, the database (read only) and the agents' journals; and what the demo remembers, to be held
    against them."""

    def __init__(self, git: Git, base: str, database: Path, journals: Path, plan: Plan) -> None:
        self.git = git
        self.base = base
        self.plan = plan
        self._database = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        self.journals = {name: _journal(journals / f"{name}.jsonl") for name in plan.team}
        self.seen: dict[int, str] = {}  # what the live feed showed: event id -> type
        self.acknowledged: dict[str, int] = {}  # what the demo itself sent: key -> id in the answer
        self.outages: list[Outage] = []
        self.original: Git | None = None  # the given repository

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return list(self._database.execute(sql, values))

    def merges(self) -> list[dict[str, Any]]:
        """The merge commands as they stand at the end, in the order in which they were asked for."""
        asked = self.rows("select record from commands where type = 'workspace.merge' order by seq")
        return [json.loads(row[0]) for row in asked]

    def merge_events(self) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
        """Id, epoch milliseconds, type and command of everything that happened to merges, in order."""
        sql = "select id, at, type, data from events where type glob 'command.*' order by id"
        for number, at, kind, data in self.rows(sql):
            command = json.loads(data)["command"]
            if command["type"] == "workspace.merge":
                yield number, at, kind, command

    def close(self) -> None:
        self._database.close()


def _journal(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
