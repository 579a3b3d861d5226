"""Deaths that relay has to be told of: each on disk from when it is first seen until relay has taken it (R-I44)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from relay import wire
from relay._files import read_json, remove, write_json

__all__ = ["Exits"]

log = logging.getLogger(__name__)


class Exits:
    """The reports in a directory, one file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, name: str, report: wire.ExitedAgent) -> None:
        """Keep the report of a session's death; a death that is seen once more after a crash is the same report."""
        began = round((report.started_at or 0) * 1000)
        write_json(self._directory / f"{name}.{began}.json", wire.to_json(report))

    def pending(self) -> dict[Path, wire.ExitedAgent]:
        """The deaths that relay has not been told of, oldest first."""
        files = sorted(self._directory.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        found = {path: _read(path) for path in files}
        return {path: report for path, report in found.items() if report is not None}

    def told(self, exits: Mapping[Path, wire.ExitedAgent]) -> None:
        """Relay knows of these now."""
        for path in exits:
            remove(path)


def _read(path: Path) -> wire.ExitedAgent | None:
    """The report in the file. What is none is set aside: it must not keep the others from being told."""
    try:
        return wire.decode(wire.ExitedAgent, read_json(path))
    except wire.Invalid as error:
        log.warning("%s is no report of a death, and is set aside: %s", path, error)
        path.rename(path.with_suffix(".damaged"))
        return None
