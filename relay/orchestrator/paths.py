"""Whether a path lies in the directory this host works in (2.1-2)."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["inside"]


def inside(base: Path, path: Path) -> bool:
    """Whether `path` is `base` or below it, as written and also where its symbolic links lead."""
    return _below(os.path.abspath(base), os.path.abspath(path)) and _below(
        os.path.realpath(base), os.path.realpath(path)
    )


def _below(base: str, path: str) -> bool:
    relative = os.path.relpath(path, base)
    return not relative.startswith("..") and not os.path.isabs(relative)
