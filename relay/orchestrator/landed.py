"""Is everything of one commit in another already? Three answers (2.12-4).

Ancestry misses squashed and picked commits, patch ids miss squashed ones, so content is asked for in memory too.
Whoever deletes on the answer takes `UNKNOWN` for no.
"""

from __future__ import annotations

import enum
from pathlib import Path

from ._git import GitError, git, git_result, succeeds

__all__ = ["Landed", "contained", "unmerged"]


class Landed(enum.Enum):
    CONTAINED = "contained"
    CARRIES_NEW = "carries-new"
    UNKNOWN = "unknown"


async def contained(path: str | Path, base: str, tip: str) -> Landed:
    """Whether everything of `tip` is in `base`: by ancestry, by tree, by merging in memory, by patch."""
    try:
        if await succeeds(path, "merge-base", "--is-ancestor", tip, base):
            return Landed.CONTAINED
        trees = (await git(path, "rev-parse", f"{base}^{{tree}}", f"{tip}^{{tree}}")).splitlines()
        if trees[0] == trees[1]:
            return Landed.CONTAINED
        code, out, _ = await git_result(path, "merge-tree", "--write-tree", base, tip)
        if code == 0 and out.split("\n", 1)[0] == trees[0]:
            return Landed.CONTAINED
        if await _picked(path, base, tip):
            return Landed.CONTAINED
        return Landed.CARRIES_NEW if code in (0, 1) else Landed.UNKNOWN
    except GitError:
        return Landed.UNKNOWN


async def _picked(path: str | Path, base: str, tip: str) -> bool:
    """Whether every commit has a twin in the base. Merges have no patch id, so with one this proves nothing."""
    if await git(path, "rev-list", "--merges", "--max-count=1", f"{base}..{tip}"):
        return False
    return not await unmerged(path, base, tip)


async def unmerged(path: str | Path, base: str, tip: str) -> list[str]:
    """The commits of `tip` without a twin in `base`, oldest first."""
    listed = (await git(path, "cherry", base, tip)).splitlines()
    return [line[2:] for line in listed if line.startswith("+")]
