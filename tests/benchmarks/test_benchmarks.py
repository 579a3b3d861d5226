"""The benchmarks still measure what they say: each case runs, with numbers too small to mean anything."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    spec = importlib.util.spec_from_file_location("bench_main", BENCHMARKS / "__main__.py")
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)

    def load(name: str, **smaller: object) -> ModuleType:
        if name == "__main__":
            return main
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


def test_who_asks_is_measured_beside_a_server_that_does_not_care(load) -> None:
    authority = load("authority", SAMPLES=1, SECONDS=0.1, CONNECTIONS=(1,), CEILING=101.0)
    rows = list(authority.rows())
    assert [row.system for row in rows] == ["relay", "without authority", "share of its time"]
    assert all(row.median > 0 for row in rows[:2])


def test_the_bus_stands_beside_a_post_for_each_message(load) -> None:
    bus = load("bus", SAMPLES=1, SECONDS=0.05, BUSIEST=9.9, LATENCIES=3, LISTENERS=3, FANNED_OUT=50)
    rows = list(bus.rows())
    assert all(row.median > 0 for row in rows if row.unit != "%")
    assert {row.unit for row in rows} == {"msg/s", "times", "ms", "events/s", "%"}
    assert sum(row.system == "bus / POST" for row in rows) == 4


def test_a_burst_is_measured_calm_and_with_everybody_killed(load) -> None:
    rows = list(load("burst", MESSAGES=40, AGENTS=3, KILLED_AT=(0.4,)).rows())
    assert [row.unit for row in rows] == ["hand-overs/s", "s", "s", "s of CPU", "hand-overs/s", "s", "s"]
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


def test_relay_has_a_value_for_every_other_case_of_the_runtime(load, runtime: ModuleType) -> None:
    cases = [
        dataclasses.replace(case, number=min(case.number, 2_000))
        for case in runtime.CASES
        if case not in load("actors").CASES
    ]
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


def test_each_floor_is_kept_or_missed_or_not_checked(load, runtime: ModuleType) -> None:
    row = load("rows").row
    skipped = load("rows").Skipped
    measured = [
        skipped("runtime", "all cases", "xoscar", "it could not be installed"),
        row("runtime", "tell, 1 actor", "relay", [7e5], "messages/s"),
        row("runtime", "tell, 1 actor", "relay / pykka", [7.0], "times"),
        row("runtime", "tell, 1 actor", "relay / trio channel", [1.0, 7.0, 99.0], "times"),
        row("runtime", "idle actor, of 10 000", "relay", [1_501.0], "bytes"),
        row("runtime", "ping, p99", "relay", [4.0], "ms"),
    ]
    names = {"tell, 1 actor", "idle actor, of 10 000", "ping, p99"}
    told = list(runtime.floors(measured, [case for case in runtime.CASES if case.name in names]))
    assert [(floor.text, floor.failed) for floor in told] == [
        ("floor kept: tell, 1 actor, relay / pykka: 7.00, at least 6.0", False),
        ("floor missed: tell, 1 actor, relay / trio channel: 7.00, at least 8.0", True),
        ("floor missed: idle actor, of 10 000, relay: 1,501.00, at most 1,500.0", True),
        ("floor kept: ping, p99, relay: 4.00, at most 5.0", False),
    ]


def test_each_floor_is_of_a_case_that_there_is(load, runtime: ModuleType) -> None:
    floors = load("runtime._floors").FLOORS
    rates = {case.name for case in runtime.CASES if case.is_rate}
    assert {floor.case for floor in floors} <= {case.name for case in runtime.CASES}
    assert {floor.case for floor in floors if floor.least is not None} <= rates


def bench(monkeypatch: pytest.MonkeyPatch, main: ModuleType, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    return main.main()


TWO_FLOORS = (
    "floor not checked: tell, 1 actor, relay / pykka: ",
    "floor not checked: tell, 1 actor, relay / trio channel: ",
)


def test_a_run_without_relay_has_checked_no_floor_and_fails(
    load, runtime: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = runtime.System("relay", "on_nothing.py", library="relay")
    load("runtime", SYSTEMS=[broken, *runtime.LOCAL[1:2]])
    assert bench(monkeypatch, load("__main__"), "runtime", "--case", "tell, 1 actor", "--case", "ring") == 1
    told = capsys.readouterr().out
    for floor in TWO_FLOORS:
        assert f"\n{floor}relay: it failed: " in told
    assert "ring of 1 000" in told


def test_any_case_that_relay_has_no_value_for_fails_the_run(
    load, runtime: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("runtime", SYSTEMS=[runtime.System("relay", "on_nothing.py", library="relay")])
    assert bench(monkeypatch, load("__main__"), "runtime", "--case", "ring of 1 000") == 1


def test_without_pykka_its_floors_are_named_as_not_checked(
    load, runtime: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV", "/nowhere/uv")
    systems = [system for system in runtime.SYSTEMS if system.name in {"relay", "pykka"}]
    load("runtime", SYSTEMS=systems)
    assert bench(monkeypatch, load("__main__"), "runtime", "--case", "tell, 1 actor", "--rounds", "1") == 0
    told = capsys.readouterr().out
    assert f"\n{TWO_FLOORS[0]}pykka: it could not be installed: " in told
    assert f"\n{TWO_FLOORS[1]}it was not measured" in told


def test_a_report_begins_with_where_it_was_measured_and_ends_with_all_medians_in_a_grid(
    load, runtime: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load("runtime", SYSTEMS=runtime.LOCAL[:2], ROUNDS=99)
    asked = ["--case", "ring", "--case", "tell, async handler", "--rounds", "1"]
    assert bench(monkeypatch, load("__main__"), "runtime", *asked) == 0
    head, _, grid, *_ = capsys.readouterr().out.split("\n\n")
    python, cpus, load_average, versions = head.splitlines()
    assert python.startswith("Python 3.")
    assert " CPUs: " in cpus
    assert load_average.startswith("load average ")
    assert "trio channel: trio 0." in versions
    names, first, second, reason = grid.splitlines()
    assert names.split() == ["medians", "relay", "trio", "channel"]
    assert first.startswith("tell, async handler ")
    assert first.endswith(" -  messages/s")
    assert second.startswith("ring of 1 000 ")
    assert " - " not in second
    assert reason == "- all but relay: tell, async handler: a case of relay only"


@pytest.mark.parametrize(
    "wrong",
    [
        ["runtime", "--case", "tall"],
        ["runtime", "--rounds", "0"],
        ["store", "--case", "tell"],
        ["store", "--rounds", "1"],
    ],
)
def test_a_case_that_there_is_not_is_wrong_usage(
    load, monkeypatch: pytest.MonkeyPatch, wrong: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench(monkeypatch, load("__main__"), *wrong)
    assert ended.value.code == 2


def test_a_whole_name_means_that_case_and_a_beginning_all_that_begin_so(load, runtime: ModuleType) -> None:
    selected = load("__main__").selected
    parser = argparse.ArgumentParser()
    assert [case.name for case in selected(runtime.CASES, ["ping, p99"], parser)] == ["ping, p99"]
    assert [case.name for case in selected(runtime.CASES, ["ping", "res"], parser)] == [
        "restart",
        "ping, p99",
        "ping, p99 from due",
    ]
    assert selected(runtime.CASES, [], parser) == list(runtime.CASES)


def test_the_flags_of_erlang_stand_where_escript_reads_them() -> None:
    program = BENCHMARKS / "runtime" / "programs" / "on_erlang.escript"
    assert program.read_text().splitlines()[1].startswith("%%! ")


def assert_measured(rows: Iterable) -> None:
    assert all(0 < row.min <= row.median <= row.max for row in rows)
