"""One recipe file: read, understood, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from relay import wire

from ._documents import SUFFIXES, Document, Unreadable, read_document
from ._rules import mistakes

__all__ = ["check_file"]

MOST = 100  # problems
LONGEST = 400  # characters of one


def check_file(path: Path) -> tuple[wire.Recipe | None, list[str]]:
    """The recipe, or None and what is wrong with it: one line for each mistake, with file, path of the member, and line where
    that is known."""
    if path.suffix not in SUFFIXES:
        return None, [f"{path}: a recipe is a file {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"]
    try:
        document = read_document(path)
    except Unreadable as error:
        return None, [f"{path}: {error}"]
    recipe, problems = _understood(document)
    told = [_line(problem) for problem in (*document.problems, *map(document.placed, problems))]
    told = list(dict.fromkeys(told))
    if len(told) > MOST:
        told = [*told[:MOST], f"and {len(told) - MOST} more"]
    return (None if told else recipe), [f"{path}: {problem}" for problem in told]


def _line(problem: str) -> str:
    """One line, although what is wrong may be that a name is far too long, or that it breaks lines."""
    if not problem.isprintable():
        problem = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in problem)
    return problem if len(problem) <= LONGEST else f"{problem[: LONGEST // 2]} … {problem[-LONGEST // 2 :]}"


def _understood(document: Document) -> tuple[wire.Recipe | None, list[str]]:
    content = document.content
    if not isinstance(content, dict):
        return None, ["a recipe is an object with the members name, description and roles"]
    recipe, problems = None, list(mistakes(content))
    try:
        recipe = wire.decode(wire.Recipe, content)
    except wire.Invalid as error:
        problems = [*_others(error.problems, [*document.problems, *problems]), *problems]
    return recipe, problems


def _others(problems: list[str], better: list[str]) -> Iterator[str]:
    """Those of which nothing better is said."""
    known = {problem.partition(":")[0] for problem in better}
    return (problem for problem in problems if problem.partition(":")[0] not in known)
