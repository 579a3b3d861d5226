"""What a report begins and ends with: where it was measured, and all medians side by side."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rows import Row, Skipped

__all__ = ["grid", "header"]

CASE = 38
SYSTEM = 14


def header() -> Iterator[str]:
    """The machine and how busy it is; without a date, so that reports can be compared line by line."""
    yield f"Python {platform.python_version()} ({platform.python_implementation()}), {platform.system()} {platform.machine()}"
    yield f"{os.cpu_count()} CPUs: {_cpu_model()}"
    try:
        yield "load average {:.2f} {:.2f} {:.2f}".format(*os.getloadavg())
    except OSError:
        yield "load average unknown"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "of an unknown model"


def grid(rows: Sequence[Row | Skipped], cases: Sequence[Any]) -> Iterator[str]:
    """A line per case, a column per system, in the order in which they came; then why there is no value."""
    there = [row.system for row in rows if isinstance(row, Row) and " / " not in row.system]
    systems = list(dict.fromkeys(there + [row.system for row in rows if isinstance(row, Skipped)]))
    medians = {(row.case, row.system): row for row in rows if isinstance(row, Row)}
    yield f"{'medians':<{CASE}}{''.join(f'{system:>{SYSTEM}}' for system in systems)}"
    for case in cases:
        found = [medians.get((case.name, system)) for system in systems]
        unit = next((row.unit for row in found if row), "")
        cells = "".join(f"{_number(row.median) if row else '-':>{SYSTEM}}" for row in found)
        yield f"{case.name:<{CASE}}{cells}  {unit}".rstrip()
    yield from _reasons(rows)
    own = [case.name for case in cases if case.own]
    if own and len(systems) > 1:
        yield f"- all but {systems[0]}: {'; '.join(own)}: a case of {systems[0]} only"


def _reasons(rows: Sequence[Row | Skipped]) -> Iterator[str]:
    """One line for each reason of a system, with all cases it holds for."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if isinstance(row, Skipped):
            reasons.setdefault((row.system, row.skipped), []).append(row.case)
    for (system, reason), cases in reasons.items():
        yield f"- {system}: {'; '.join(cases)}: {reason}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"
