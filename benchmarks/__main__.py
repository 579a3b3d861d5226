"""Runs the benchmarks: `python3 dev.py bench [NAME] [--json FILE]`.

A benchmark is a module of this folder with a function `rows()` that yields `Row`s; its docstring says what is compared
with what. Rows are printed as they come; `--json` writes all of them as one list.
"""

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rows import Row

HELPERS = {"__main__", "rows"}


def main() -> int:
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in HELPERS)
    names = [name for name in names if not name.startswith("_")]
    parser = argparse.ArgumentParser(prog="python3 dev.py bench", description="Side-by-side measurements.")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help=f"one of: {', '.join(names)}; all when left out"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    options = parser.parse_args()
    if options.name and options.name not in names:
        parser.error(f"there is no benchmark {options.name}; there is: {', '.join(names) or 'none yet'}")
    found: list[Row] = []
    for name in [options.name] if options.name else names:
        for row in importlib.import_module(name).rows():
            found.append(row)
            print(
                f"{row.bench:<12} {row.case:<28} {row.system:<18}"
                f" {row.median:>12,.2f} {row.unit}  ({row.min:,.2f} to {row.max:,.2f})",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
