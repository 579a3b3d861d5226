"""`/api/host/directories`: what folders there are on the server's own machine, below one that is configured (HST-1, O-55)."""

import os
from pathlib import Path
from typing import Any

import trio

from .answers import Answer, ok
from .errors import Refused
from .routing import Call, Routes

__all__ = ["BASE", "listing", "route"]

route = Routes()

BASE = "AGENT_RELAY_BASE_DIR"
"""The variable that names the folder beyond which nothing is shown; `~/projects`, as for a host's daemon, unless it is set."""

MOST = 1_000  # entries
WITHIN = 5.0  # seconds that the file system has


@route("GET", "/api/host/directories", scope="orchestrator:read")
async def directories(call: Call[None]) -> Answer:
    base = Path(os.environ.get(BASE) or Path.home() / "projects").absolute()
    path = base / (call.query.text("path", longest=1_000) or "")
    call.need("orchestrator:read", path=os.path.normpath(path))
    with trio.fail_after(WITHIN):
        return ok(await trio.to_thread.run_sync(listing, base, path, abandon_on_cancel=True))


def listing(base: Path, path: Path) -> dict[str, Any]:
    """As a host answers (ORC-66). Raises 400 for what is no directory, or not below the base: as written, and also where its
    symbolic links lead."""
    plain = Path(os.path.normpath(path))
    if (
        "\0" in str(path)
        or not plain.is_relative_to(base)
        or not plain.resolve().is_relative_to(base.resolve())
    ):
        raise Refused(400, f"path: {path} is not below {base}, which is as far as this server shows ({BASE})")
    try:
        found = sorted(
            each.name for each in plain.iterdir() if not each.name.startswith(".") and each.is_dir()
        )
    except OSError as error:
        raise Refused(400, f"path: {plain} cannot be listed: {error.strerror}") from error
    entries = [{"name": name, "path": str(plain / name)} for name in found[:MOST]]
    parent = {} if plain == base else {"parent": str(plain.parent)}
    return {"path": str(plain), **parent, "baseDir": str(base), "entries": entries}
