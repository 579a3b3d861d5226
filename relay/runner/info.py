"""The file that tells the host about its runner (1.24).

While it is there the runner has not ended in order: a host that finds it after the runner's end knows of an accident.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from relay._files import write_json

from .options import Options

__all__ = ["InfoFile"]

log = logging.getLogger(__name__)


class InfoFile:
    """Written at the start and once relay knows the agent. A host that named no file gets none."""

    def __init__(self, options: Options, wall: Callable[[], float]) -> None:
        self._options = options
        self._wall = wall
        self.started_at = wall()

    def write(self, *, registered: bool = False) -> None:
        path = self._options.info_file
        if path is None:
            return
        info = {
            "agentId": self._options.agent_id,
            "runnerId": self._options.instance_id,
            "provider": self._options.provider,
            "pid": os.getpid(),
            "startedAt": round(self.started_at * 1000),
        }
        if registered:
            info["registeredAt"] = round(self._wall() * 1000)
        try:
            write_json(path, info)
        except OSError as error:
            log.warning("the host is not told about this runner: %s", error)

    def remove(self) -> None:
        if self._options.info_file is not None:
            self._options.info_file.unlink(missing_ok=True)
