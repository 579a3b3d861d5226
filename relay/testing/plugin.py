"""The pytest plugin. Its fixtures need pytest-trio; `simulate` does not.

Fixtures: `system`, an actor system under virtual time (sleeping costs nothing), and `probe`, which makes probes in it.
A test that uses `system` fails when an actor failed, was restarted or not, or did not end within its budget, and when a
message was not delivered. What a test expects, it takes out of `system.failures` and `system.dead_letters`; marked with
`@pytest.mark.keeps_failures` or `@pytest.mark.keeps_dead_letters` it may leave it there.

Options: `--relay-runs`, `--relay-seed` and `--relay-replay` for tests made by `simulate`; with `-v` the summary tells how
much was simulated.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Generator
from importlib.util import find_spec
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from relay.actors import System, open_system, virtual_wall

from ._choices import decode
from ._failures import told
from ._probe import MakeProbe, Probe, open_probe
from ._session import NOTED, session

__all__ = ["probe", "system"]

P = TypeVar("P")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("relay", "simulation of actor systems")
    group.addoption("--relay-runs", type=_at_least_one, help="how many runs each simulated test gets")
    group.addoption("--relay-seed", type=int, help="where the schedules of simulated tests start")
    group.addoption(
        "--relay-replay", type=decode, help="the one schedule to run, as a failure has printed it"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "keeps_failures: actors may have failed at the end of this test")
    config.addinivalue_line(
        "markers", "keeps_dead_letters: messages may be undelivered at the end of this test"
    )
    session.runs = config.getoption("--relay-runs")
    session.seed = config.getoption("--relay-seed")
    session.replay = config.getoption("--relay-replay")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """pytest-trio looks for a clock among the arguments of the test alone; this puts ours under it."""
    for item in items:
        if _fixtures(item).get("system") is _system and not _simulated(item):
            item.add_marker(pytest.mark.trio(run=_run_in_virtual_time))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Who has pytest for other things need not have pytest-trio; who uses one of our fixtures must."""
    if find_spec("pytest_trio") is not None:
        return
    for item in session.items:
        for name, function in _fixtures(item).items():
            if function is _system or function is _probe:
                raise pytest.UsageError(
                    f"{item.nodeid}: the fixture `{name}` needs pytest-trio: install relay with its extra, relay[testing]"
                )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A simulated test is no trio test: each of its runs is, and what lives in a run must be opened there."""
    if not _simulated(item):
        return
    for name, function in _fixtures(item).items():
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            pytest.fail(
                f"the fixture {name!r} is async, and a simulated test has many runs: open the system inside, "
                "with `async with open_system() as system:`",
                pytrace=False,
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    before, session.item = session.item, item
    try:
        return (yield)
    finally:
        session.item = before


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if terminalreporter.config.get_verbosity() <= 0:
        return
    reports = [
        one for all_ in terminalreporter.stats.values() for one in all_ if isinstance(one, pytest.TestReport)
    ]
    noted = {
        one.nodeid: [amounts for name, amounts in one.user_properties if name == NOTED]
        for one in reports
        if one.when == "call"
    }
    if any(noted.values()):
        terminalreporter.section("simulations")
    for test, amounts in noted.items():
        if amounts:
            runs, steps, seconds = map(sum, zip(*amounts, strict=True))
            rate = steps / seconds if seconds else 0
            terminalreporter.line(f"{test}: {runs} runs, {steps} steps, {rate:,.0f} steps/s")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _simulated(item: pytest.Item) -> bool:
    function = getattr(item, "function", None)
    given = getattr(function, "hypothesis", None)
    return hasattr(getattr(given, "inner_test", function), "is_simulated")


def _fixtures(item: pytest.Item) -> dict[str, Any]:
    """The function of each fixture that the test uses, also by another: the one that overrides the others."""
    info = getattr(item, "_fixtureinfo", None)
    return {name: used[-1].func for name, used in info.name2fixturedefs.items() if used} if info else {}


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
        problems += [told(failed) for failed in system.failures]
        cause = system.failures[0].error
    if request.node.get_closest_marker("keeps_dead_letters") is None:
        problems += [
            f"{letter.message!r} for {letter.address} was not delivered: {letter.reason}"
            for letter in system.dead_letters
        ]
    if problems:
        raise AssertionError("\n".join(problems)) from cause


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
