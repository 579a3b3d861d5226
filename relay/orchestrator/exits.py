"""Deaths that relay has to be told of: each on disk from when it is first seen until relay has taken it (R-I44)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from relay import wire
from relay._files import read_json, remove, write_json

__all__ = ["Exits"]


class Exits:
    """The reports in a directory, one file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, name: str, report: wire.ExitedAgent, now: float) -> None:
        """Keep the report of a session's death at `now` (epoch seconds)."""
        write_json(self._directory / f"{name}.{round(now * 1000)}.json", wire.to_json(report))

    def pending(self) -> dict[Path, wire.ExitedAgent]:
        """The deaths that relay has not been told of, oldest first."""
        files = sorted(self._directory.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        found = {path: read_json(path) for path in files}
        return {path: wire.decode(wire.ExitedAgent, each) for path, each in found.items() if each}

    def told(self, exits: Mapping[Path, wire.ExitedAgent]) -> None:
        """Relay knows of these now."""
        for path in exits:
            remove(path)
