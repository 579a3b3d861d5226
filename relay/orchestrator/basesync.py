"""The checkouts of a base branch that has moved, and what people have in them (2.19).

Before a landing they are looked at: a file that the landing changes and a person has changed too stops it, as does a
merge or a rebase that somebody is in the middle of. After it they are brought forward by git's own two-tree read,
which overwrites nothing. A file of a person where a landed one belongs stays, and is reported.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import trio

from ._git import git, git_result
from .gitstate import unfinished, worktrees

__all__ = ["Checkout", "checkouts_of", "follow", "hindrance"]

TRIES = 10  # for git's own lock on the index
PAUSE = 0.025  # seconds
FOLLOW_WITHIN = 120.0  # seconds for one checkout
SHOWN = 10  # paths


@attrs.frozen
class Checkout:
    """A place where the base is checked out."""

    path: str


async def checkouts_of(path: str | Path, base: str) -> list[Checkout]:
    """Where the branch is checked out and the directory is there."""
    found = [tree["path"] for tree in await worktrees(path) if tree.get("branch") == base]
    return [Checkout(place) for place in found if Path(place).is_dir()]


async def hindrance(checkout: Checkout, old: str, new: str) -> str | None:
    """Why the base must not move from `old` to `new` under this checkout, and what to do; None when it may."""
    where = checkout.path
    if what := await unfinished(where):
        return f"{where} is in the middle of a {what}: finish or abort it, then merge again"
    touched = set(await _changed(where, old, new)) & await _edited(where)
    if touched:
        return (
            f"{where} has uncommitted changes in {_some(touched)}, which this merge changes too:"
            " commit or stash them there, then merge again"
        )
    return None


async def follow(checkouts: Iterable[Checkout], old: str, new: str) -> dict[str, Any] | None:
    """Bring the checkouts from `old` to `new`. None when there are none; never raises, and ends by its own limit only."""
    reports = [await _reported(checkout.path, old, new) for checkout in checkouts]
    failed = [report for report in reports if not report["reconciled"]]
    return next(iter(failed or reports), None)


async def _reported(where: str, old: str, new: str) -> dict[str, Any]:
    with trio.move_on_after(FOLLOW_WITHIN, shield=True):
        try:
            return await _follow(where, old, new)
        except Exception as error:  # noqa: BLE001 - the landing is a fact; what is wrong here is only reported
            return _unsynced(where, str(error))
    return _unsynced(where, f"git took longer than {FOLLOW_WITHIN:.0f} s")


def _unsynced(where: str, why: str, paths: Iterable[str] = ()) -> dict[str, Any]:
    return {
        "reconciled": False,
        "unsyncedPaths": list(paths),
        "message": f"{where} does not show what has landed: {why}",
    }


async def _follow(where: str, old: str, new: str) -> dict[str, Any]:
    kept = await _untracked(where, await _changed(where, old, new, "A"))
    target = await _without(where, new, kept) if kept else new
    said = await _two_tree_read(where, old, target)
    if said is not None:
        return _unsynced(where, said, await _changed(where, old, new))
    if not kept:
        return {"reconciled": True}
    await _index(where, new, kept)
    return {
        "reconciled": False,
        "unsyncedPaths": kept,
        "message": f"{where} has files of its own in {_some(kept)}; they were left alone",
    }


async def _untracked(where: str, added: list[str]) -> list[str]:
    """Which of the paths have a file that git does not know."""
    there = [name for name in added if os.path.lexists(Path(where, name))]
    if not there:
        return []
    known = set((await git(where, "ls-files", "-z")).split("\0"))
    return [name for name in there if name not in known]


async def _two_tree_read(where: str, old: str, new: str) -> str | None:
    """None when the checkout is at `new`; otherwise git's reason, and nothing has changed."""
    said = ""
    for _ in range(TRIES):
        await git_result(where, "update-index", "-q", "--refresh")
        code, _, said = await git_result(where, "read-tree", "-m", "-u", old, new)
        if code == 0:
            return None
        if "index.lock" not in said:
            break
        await trio.sleep(PAUSE)
    return said


async def _without(where: str, tree: str, names: list[str]) -> str:
    """A tree like the given one that lacks some files."""
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        await git(where, "read-tree", tree, env=env)
        listed = "".join(f"{name}\0" for name in names).encode()
        await git(where, "update-index", "--force-remove", "-z", "--stdin", stdin=listed, env=env)
        return await git(where, "write-tree", env=env)


async def _index(where: str, tree: str, names: list[str]) -> None:
    """Enter the files into the index as they are in the tree, so that a person's file shows as a change of it."""
    entries = await git(where, "ls-tree", "-r", "-z", tree, "--", *(f":(literal){name}" for name in names))
    await git(where, "update-index", "-z", "--index-info", stdin=entries.encode())


async def _changed(where: str, old: str, new: str, kinds: str = "ADMT") -> list[str]:
    listed = await git(
        where, "diff-tree", "-r", "-z", "--no-renames", "--name-only", f"--diff-filter={kinds}", old, new
    )
    return [name for name in listed.split("\0") if name]


async def _edited(where: str) -> set[str]:
    """Tracked files that differ from what is committed, in the index or on disk."""
    options = ("-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=none")
    listed = await git(where, "status", "--porcelain", *options)
    return {entry[3:] for entry in listed.split("\0") if entry}


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
