"""The benchmarks still measure what they say: each case runs, with numbers too small to mean anything."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        monkeypatch.setattr(importlib.import_module("_interleaved"), "SAMPLES", 1)
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize("name", ["actors", "store"])
def test_every_case_stands_beside_its_baseline(load, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load(name)
    small = {"TELLS": 2_000, "ASKS": 2_000, "SECONDS": 0.02, "WRITERS": (1, 20)}
    for setting, value in small.items():
        if hasattr(benchmark, setting):
            monkeypatch.setattr(benchmark, setting, value)
    rows = list(benchmark.rows())
    cases = {row.case for row in rows}
    assert len(rows) == 2 * len(cases) >= 4
    assert {row.system for row in rows if row.system != "relay"}
    assert all(0 < row.min <= row.median <= row.max for row in rows)


def test_the_edge_stands_beside_a_bare_route(load, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = load("edge")
    for setting, value in {"SAMPLES": 1, "SECONDS": 0.05, "CONNECTIONS": (1, 4), "BUSIEST": 9.9}.items():
        monkeypatch.setattr(edge, setting, value)
    rows = [row for row in edge.rows() if row.unit != "MB"]
    assert [row.system for row in rows] == 2 * ["relay", "bare Quart-trio", "relay / bare"]
    assert all(0 < row.min <= row.median <= row.max for row in rows)
