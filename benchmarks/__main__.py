"""Runs the benchmarks: `python3 dev.py bench [NAME] [--json FILE]`.

A benchmark is a module or package of this folder with a function `rows()` that yields `Row`s, and a `Skipped` for a
system that could not be measured; its docstring says what is compared with what. Rows are printed as they come; `--json`
writes all of them as one list. A benchmark may have floors: its `missed(rows)` yields a line for each that was missed,
and then the exit code is 1.
"""

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rows import Row, Skipped

HELPERS = {"__main__", "rows"}


def main() -> int:
    names = benchmarks()
    parser = argparse.ArgumentParser(prog="python3 dev.py bench", description="Side-by-side measurements.")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help=f"one of: {', '.join(names)}; all when left out"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    options = parser.parse_args()
    if options.name and options.name not in names:
        parser.error(f"there is no benchmark {options.name}; there is: {', '.join(names) or 'none yet'}")
    found: list[Row | Skipped] = []
    failed: list[str] = []
    for name in [options.name] if options.name else names:
        benchmark = importlib.import_module(name)
        measured: list[Row | Skipped] = []
        for row in benchmark.rows():
            measured.append(row)
            print(line(row), flush=True)
        if hasattr(benchmark, "missed"):
            failed += benchmark.missed([row for row in measured if isinstance(row, Row)])
        found += measured
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    for floor in failed:
        print(f"floor missed: {floor}")
    return 1 if failed else 0


def benchmarks() -> list[str]:
    folder = Path(__file__).parent
    modules = [path.stem for path in folder.glob("*.py") if path.stem not in HELPERS]
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    return sorted(name for name in modules + packages if not name.startswith("_"))


def line(row: Row | Skipped) -> str:
    start = f"{row.bench:<8} {row.case:<28} {row.system:<21}"
    if isinstance(row, Skipped):
        return f"{start} {'skipped':>14}: {row.skipped}"
    return f"{start} {row.median:>14,.2f} {row.unit}  ({row.min:,.2f} to {row.max:,.2f})"


if __name__ == "__main__":
    sys.exit(main())
