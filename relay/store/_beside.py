"""Long reads of the database in a thread, on a connection of their own: neither the loop nor the writer waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import trio

from ._copies import reading
from .backups import Backup, list_backups, make_backup
from .chain import Head, Verdict, verify
from .witnesses import witnesses

__all__ = ["Beside"]


@attrs.frozen
class Beside:
    """A database in use, and the folder of its backups. One read at a time: others wait."""

    database: Path
    backups: Path
    vfs: str | None
    _one: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(1))

    async def back_up(self, at: float) -> Backup:
        return await trio.to_thread.run_sync(self._back_up, at, limiter=self._one)

    async def verify_audit(self, noted: Sequence[Head]) -> Verdict:
        return await trio.to_thread.run_sync(self._verify, noted, limiter=self._one)

    def _back_up(self, at: float) -> Backup:
        return make_backup(self.database, self.backups, at, progress=_go_on, vfs=self.vfs)

    def _verify(self, noted: Sequence[Head]) -> Verdict:
        backups = list_backups(self.backups, self.database.stem)
        with closing(reading(self.database, _go_on, self.vfs)) as connection:

            def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
                _go_on("checking")
                return connection.execute(sql, params).fetchall()

            return verify(rows, [*noted, *witnesses(rows, backups)])


def _go_on(stage: str) -> None:
    """Raises `Cancelled` when nobody waits for it any more."""
    trio.from_thread.check_cancelled()
