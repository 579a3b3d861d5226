"""Runs the benchmarks: `python3 dev.py bench [NAME] [--case NAME]... [--rounds N] [--json FILE]`.

A benchmark is a module or package of this folder with a function `rows()` that yields `Row`s, and a `Skipped` for a
system that could not be measured; its docstring says what is compared with what. Rows are printed as they come; `--json`
writes all of them as one list. The exit code is 1 when relay itself could not be measured.

A benchmark with a list `CASES` of things with a `name`, and `own` when they are of relay only, is one of many cases and systems: its `rows(cases, rounds)` can be
asked for some of them, its `versions()` say what it compares, and its report ends with a grid of the medians. It may have
floors: `floors(rows, cases)` yields what is to be said of each, and whether that makes the exit code 1.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from _report import grid, header
from rows import Row, Skipped

HELPERS = {"__main__", "rows"}


def main() -> int:
    names = benchmarks()
    parser = argparse.ArgumentParser(prog="python3 dev.py bench", description="Side-by-side measurements.")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help=f"one of: {', '.join(names)}; all when left out"
    )
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="NAME",
        help="only this case, or all that begin so; repeatable",
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help="samples of each system and case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    options = parser.parse_args()
    if options.name and options.name not in names:
        parser.error(f"there is no benchmark {options.name}; there is: {', '.join(names) or 'none yet'}")
    chosen = [importlib.import_module(name) for name in ([options.name] if options.name else names)]
    if options.case or options.rounds:
        for benchmark in chosen:
            if not hasattr(benchmark, "CASES"):
                parser.error(f"{benchmark.__name__} has no --case and no --rounds")
    for told in header():
        print(told)
    found: list[Row | Skipped] = []
    failed = False
    for benchmark in chosen:
        if hasattr(benchmark, "CASES"):
            cases = selected(benchmark.CASES, options.case, parser)
            measured, complaints = compare(benchmark, cases, options.rounds)
        else:
            measured, complaints = measure(benchmark.rows()), False
        found += measured
        failed |= complaints or any(isinstance(row, Skipped) and row.system == "relay" for row in measured)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    return 1 if failed else 0


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def selected(cases: Sequence[Any], wanted: Sequence[str], parser: argparse.ArgumentParser) -> list[Any]:
    """In the order of the benchmark. A name that is a case's own means that one, also where others begin with it."""
    chosen = set()
    for name in wanted:
        exact = {case.name for case in cases if case.name == name}
        meant = exact or {case.name for case in cases if case.name.startswith(name)}
        if not meant:
            parser.error(f"there is no case {name}; there is: {'; '.join(case.name for case in cases)}")
        chosen |= meant
    return [case for case in cases if case.name in chosen or not wanted]


def compare(
    benchmark: ModuleType, cases: Sequence[Any], rounds: int | None
) -> tuple[list[Row | Skipped], bool]:
    """The rows, and whether a floor says that the run has failed."""
    print(*benchmark.versions(), sep=", ", end="\n\n", flush=True)
    measured = measure(benchmark.rows(cases, rounds))
    print()
    for told in grid(measured, cases):
        print(told)
    print()
    floors = list(benchmark.floors(measured, cases)) if hasattr(benchmark, "floors") else []
    for floor in floors:
        print(floor.text)
    return measured, any(floor.failed for floor in floors)


def measure(rows: Iterable[Row | Skipped]) -> list[Row | Skipped]:
    measured = []
    for row in rows:
        measured.append(row)
        print(line(row), flush=True)
    return measured


def benchmarks() -> list[str]:
    folder = Path(__file__).parent
    modules = [path.stem for path in folder.glob("*.py") if path.stem not in HELPERS]
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    return sorted(name for name in modules + packages if not name.startswith("_"))


def line(row: Row | Skipped) -> str:
    start = f"{row.bench:<8} {row.case:<37} {row.system:<21}"
    if isinstance(row, Skipped):
        return f"{start} {'skipped':>14}: {row.skipped}"
    return f"{start} {row.median:>14,.2f} {row.unit}  ({row.min:,.2f} to {row.max:,.2f})"


if __name__ == "__main__":
    sys.exit(main())
