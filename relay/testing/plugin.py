"""The pytest plugin. Its fixtures need pytest-trio; `simulate` does not.

Fixtures: `system`, an actor system under virtual time (sleeping costs nothing), and `probe`, which makes probes in it.
A test that uses `system` fails when an actor failed, was restarted or not, or did not end within its budget, and when a
message was not delivered. What a test expects, it takes out of `system.failures` and `system.dead_letters`; marked with
`@pytest.mark.keeps_failures` or `@pytest.mark.keeps_dead_letters` it may leave it there.

Options: `--relay-runs`, `--relay-seed` and `--relay-replay` for tests made by `simulate`; with `-v` the summary tells how
much was simulated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from relay.actors import Failed, StopOverran, System, open_system, virtual_wall

from ._probe import MakeProbe, Probe, open_probe
from ._simulate import options, summary

__all__ = ["probe", "system"]

P = TypeVar("P")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("relay", "simulation of actor systems")
    group.addoption("--relay-runs", type=int, help="how many runs each simulated test gets")
    group.addoption("--relay-seed", type=int, help="where the schedules of simulated tests start")
    group.addoption("--relay-replay", help="the one schedule to run, as a failure has printed it")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "keeps_failures: actors may have failed at the end of this test")
    config.addinivalue_line(
        "markers", "keeps_dead_letters: messages may be undelivered at the end of this test"
    )
    options.runs = config.getoption("--relay-runs")
    options.seed = config.getoption("--relay-seed")
    options.replay = config.getoption("--relay-replay")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """pytest-trio looks for a clock among the arguments of the test alone; this puts ours under it."""
    for item in items:
        info = getattr(item, "_fixtureinfo", None)
        used = info.name2fixturedefs.get("system", ()) if info is not None else ()
        if used and used[-1].func is _system:  # the one that overrides the others
            item.add_marker(pytest.mark.trio(run=_run_in_virtual_time))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if summary and terminalreporter.config.get_verbosity() > 0:
        terminalreporter.section("simulations")
        for name, found in summary:
            rate = found.steps / found.seconds if found.seconds else 0
            terminalreporter.line(f"{name}: {found.runs} runs, {found.steps} steps, {rate:,.0f} steps/s")


def _run_in_virtual_time(*arguments: Any, clock: trio.abc.Clock | None = None, **more: Any) -> Any:
    return trio.run(*arguments, clock=clock or MockClock(autojump_threshold=0), **more)


async def _system(request: pytest.FixtureRequest) -> AsyncIterator[System]:
    """An actor system under virtual time, whose ids and jitter are the same in each run."""
    async with open_system(wall=virtual_wall(), seed=0) as system:
        yield system
        await system.idle()
    problems = []
    cause = None
    if system.failures and request.node.get_closest_marker("keeps_failures") is None:
        problems += [_failure(failed) for failed in system.failures]
        cause = system.failures[0].error
    if request.node.get_closest_marker("keeps_dead_letters") is None:
        problems += [
            f"{letter.message!r} for {letter.address} was not delivered: {letter.reason}"
            for letter in system.dead_letters
        ]
    if problems:
        raise AssertionError("\n".join(problems)) from cause


def _failure(failed: Failed) -> str:
    if isinstance(failed.error, StopOverran):
        return str(failed.error)
    return f"{failed.address} failed: {failed.error!r}"


async def _probe(system: System) -> MakeProbe:
    """`await probe(Protocol)` makes a probe for actors of that protocol."""

    async def make(protocol: type[P], name: str | None = None) -> Probe[P]:
        return await open_probe(system, protocol, name)

    return make


def _trio_fixture(function: Any, name: str) -> Any:
    """Also in suites that are not in pytest-trio's trio mode."""
    function._force_trio_fixture = True  # noqa: SLF001 - what pytest_trio.trio_fixture does, which takes no name
    return pytest.fixture(name=name)(function)


system = _trio_fixture(_system, "system")
probe = _trio_fixture(_probe, "probe")
