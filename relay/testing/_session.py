"""What the pytest plugin and the simulated tests tell each other. Without pytest there is nothing to tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

__all__ = ["NOTED", "Session", "session"]

NOTED = "relay_simulation"
"""The name of the user property with `[runs, steps, seconds]` of a simulation."""


@attrs.define
class Session:
    """The options of the command line, and the test that is running."""

    seed: int | None = None
    runs: int | None = None
    replay: Sequence[int] | None = None
    item: Any = None

    @property
    def test(self) -> str:
        """The node id of the test, its path seen from where pytest was called."""
        if self.item is None:
            return "the test"
        _, colons, name = self.item.nodeid.partition("::")
        called_in: Path = self.item.config.invocation_params.dir
        try:
            path = os.path.relpath(self.item.path, called_in)
        except ValueError:  # another drive
            path = str(self.item.path)
        return f"{path}{colons}{name}"

    def marked(self, name: str) -> bool:
        """Whether the test has this marker."""
        return self.item is not None and self.item.get_closest_marker(name) is not None

    def note(self, runs: int, steps: int, seconds: float) -> None:
        """Remember for the summary, also that of another process, how much was simulated."""
        if self.item is not None:
            self.item.user_properties.append((NOTED, [runs, steps, seconds]))


session = Session()
