"""What a benchmark reports: one row per case and system, from several samples of one run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Floor", "Row", "Skipped", "row"]


@dataclass(frozen=True)
class Row:
    """`system` is what was measured: relay, or the baseline it stands beside in the same run."""

    bench: str
    case: str
    system: str
    median: float
    min: float
    max: float
    unit: str


@dataclass(frozen=True)
class Skipped:
    """A system that was not measured, and why."""

    bench: str
    case: str
    system: str
    skipped: str


@dataclass(frozen=True)
class Floor:
    """What a run says about a promise. `failed` makes the exit code 1."""

    text: str
    failed: bool


def row(bench: str, case: str, system: str, samples: Sequence[float], unit: str) -> Row:
    return Row(bench, case, system, statistics.median(samples), min(samples), max(samples), unit)
