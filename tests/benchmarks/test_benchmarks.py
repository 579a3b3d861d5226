"""The benchmarks still measure what they say: each case runs, with numbers too small to mean anything."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str, **smaller: object) -> ModuleType:
        benchmark = importlib.import_module(name)
        for setting, value in smaller.items():
            monkeypatch.setattr(benchmark, setting, value)
        return benchmark

    return load


@pytest.fixture
def runtime(load, tmp_path: Path) -> ModuleType:
    load("runtime._systems", ENVIRONMENTS=tmp_path)
    return load("runtime", ROUNDS=1, SECONDS=0.001)


def test_durable_decisions_stand_beside_a_transaction_each(load) -> None:
    load("_interleaved", SAMPLES=1)
    store = load("store", SECONDS=0.02, WRITERS=(1, 20))
    rows = list(store.rows())
    assert [row.system for row in rows] == 2 * ["relay", "one tx each"]
    assert_measured(rows)


def test_the_edge_stands_beside_a_bare_route(load) -> None:
    edge = load("edge", SAMPLES=1, SECONDS=0.05, CONNECTIONS=(1, 4), BUSIEST=9.9)
    rows = [row for row in edge.rows() if row.unit != "MB"]
    assert [row.system for row in rows] == 2 * ["relay", "bare Quart-trio", "relay / bare"]
    assert_measured(rows)


def test_the_quick_form_of_the_runtime_needs_nothing_but_relay(load, runtime: ModuleType) -> None:
    rows = list(load("actors").rows())
    systems = ["relay", "trio channel", "asyncio queue", "relay / trio channel", "relay / asyncio queue"]
    assert [row.system for row in rows] == 4 * systems
    assert_measured(rows)


def test_relay_has_a_value_for_every_other_case_of_the_runtime(runtime: ModuleType) -> None:
    cases = [dataclasses.replace(case, number=min(case.number, 2_000)) for case in runtime.CASES[4:]]
    relay, trio, *_ = runtime.LOCAL
    rows = list(runtime.compared("runtime", [relay, trio], cases))
    ours = [row for row in rows if row.system == "relay"]
    assert [row.case for row in ours] == [case.name for case in cases]
    assert_measured(row for row in rows if row.case != "passive family member")


def test_what_cannot_be_measured_is_skipped_with_the_reason(
    runtime: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("UV", "/nowhere/uv")
    relay, *_, erlang = runtime.SYSTEMS
    pykka = next(system for system in runtime.SYSTEMS if system.name == "pykka")
    broken = runtime.System("broken", "on_nothing.py")
    systems = [relay, pykka, erlang, broken]
    skipped = [
        row for row in runtime.compared("runtime", systems, runtime.CASES[:1]) if hasattr(row, "skipped")
    ]
    assert [(row.case, row.system) for row in skipped] == [
        ("all cases", "pykka"),
        ("all cases", "erlang"),
        ("tell, 1 actor", "broken"),
    ]
    assert "/nowhere/uv" in skipped[0].skipped
    assert "escript" in skipped[1].skipped
    assert "on_nothing.py" in skipped[2].skipped


def test_a_missed_floor_is_told(load, runtime: ModuleType) -> None:
    row = load("rows").row
    kept = row("runtime", "tell, 1 actor", "relay / pykka", [7.0], "times")
    slow = row("runtime", "ask, 1 000 at once", "relay / pykka", [1.0, 11.0, 99.0], "times")
    late = row("runtime", "ping, p99", "relay", [7.0], "ms")
    assert len(list(runtime.missed([kept]))) == 0
    told = list(runtime.missed([kept, slow, late]))
    assert [line.partition(":")[0] for line in told] == [
        "ask, 1 000 at once, relay / pykka",
        "ping, p99, relay",
    ]


def assert_measured(rows: Iterable) -> None:
    assert all(0 < row.min <= row.median <= row.max for row in rows)
