"""All recipes that there are: those of the user before those that are bundled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs

from relay import wire

from ._documents import SUFFIXES
from ._reading import check_file

__all__ = ["BUNDLED", "Broken", "Cookbook", "NoRecipe"]

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "bundled"
MOST = 200  # files of a folder
LONGEST = 120  # characters of a name

Signature = tuple[int, int, int]
Read = tuple[Signature, wire.Recipe | None, list[str]]


class NoRecipe(Exception):
    """There is no such recipe; the text says why."""


@attrs.frozen
class Broken:
    """A file that cannot be used, the name that it takes, and what is wrong with it."""

    path: Path
    name: str
    problems: tuple[str, ...]


@attrs.frozen
class _Shelf:
    """What a folder holds, by name."""

    recipes: dict[str, wire.LoadedRecipe]
    broken: dict[str, Broken]


class Cookbook:
    """The recipes of the `user`'s folder, which need not be there, and the bundled ones. May be used by several threads."""

    def __init__(self, user: Path | None = None, *, bundled: Path = BUNDLED) -> None:
        self._folders = [(bundled, "bundled"), *([(user, "user")] if user is not None else [])]
        self._known: dict[Path, Read] = {}
        self._before: dict[Path, Read] = {}
        self._lock = threading.Lock()

    def all(self) -> list[wire.LoadedRecipe]:
        """All that can be started, by name."""
        return sorted(self._look().recipes.values(), key=lambda loaded: loaded.name)

    def broken(self) -> list[Broken]:
        """The files that cannot be used."""
        return sorted(self._look().broken.values(), key=lambda each: each.path)

    def find(self, name: str) -> wire.LoadedRecipe:
        """The recipe of that name; raises `NoRecipe`."""
        shelf = self._look()
        if name in shelf.broken:
            raise NoRecipe(f"the recipe {name} cannot be used: {'; '.join(shelf.broken[name].problems)}")
        if name not in shelf.recipes:
            known = ", ".join(sorted(shelf.recipes)) or "none"
            raise NoRecipe(f"there is no recipe {name[:LONGEST]!r}; the recipes are {known}")
        return shelf.recipes[name]

    def _look(self) -> _Shelf:
        with self._lock:
            self._before, self._known = self._known, {}
            found = _Shelf({}, {})
            for folder, source in self._folders:
                shelf = self._read(folder, source)
                for name in (*shelf.recipes, *shelf.broken):
                    found.recipes.pop(name, None)
                    found.broken.pop(name, None)
                found.recipes.update(shelf.recipes)
                found.broken.update(shelf.broken)
            return found

    def _read(self, folder: Path, source: str) -> _Shelf:
        shelf = _Shelf({}, {})
        first: dict[str, Path] = {}
        for path in _files(folder):
            recipe, problems = self._file(path)
            name = recipe.name if recipe is not None else path.stem
            if recipe is not None and first.setdefault(name, path) != path:
                recipe, problems = None, [f"{path}: name: the recipe {name!r} is in {first[name]} already"]
                log.warning("%s", problems[0])
            if recipe is None:
                shelf.broken.setdefault(name, Broken(path, name, tuple(problems)))
            else:
                shelf.recipes[name] = wire.LoadedRecipe(
                    name=name, source=source, path=str(path), recipe=recipe
                )
        for name in shelf.broken:
            shelf.recipes.pop(name, None)
        return shelf

    def _file(self, path: Path) -> tuple[wire.Recipe | None, list[str]]:
        """As `check_file`; a file that has not changed is not read again."""
        signature = _signature(path)
        known = self._before.get(path)
        if known is None or known[0] != signature:
            recipe, problems = check_file(path)
            for problem in problems:
                log.warning("%s", problem)
            known = (signature, recipe, problems)
        self._known[path] = known
        return known[1], known[2]


def _files(folder: Path) -> Iterator[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name[0] != ".")
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s: the recipes cannot be listed: %s", folder, error.strerror)
        return
    if len(found) > MOST:
        log.warning("%s: holds more than %d recipes; the rest is not looked at", folder, MOST)
    yield from found[:MOST]


def _signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
