"""The pytest plugin, as the tests of another project see it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.testing import Sim, simulate
from relay.testing._choices import encode

PREAMBLE = """
import attrs, trio, trio.testing, pytest
from relay.actors import Actor, Ask, Tell, open_system
from relay.testing import simulate, Faults

class Greeting: "A protocol."

@attrs.frozen
class Hello(Ask[Greeting, str]):
    name: str

@attrs.frozen
class Bye(Tell[Greeting]):
    pass

class Greeter(Actor[Greeting]):
    def __init__(self, other=None):
        self.other = other
    def handle(self, message: Hello | Bye, context):
        match message:
            case Hello(name):
                context.reply(message, f"hello {name}")
            case Bye():
                self.other.tell(Bye())

class Clinging(Greeter):
    async def stopped(self, context):
        await trio.sleep(1_000)
"""


def run(folder: Path, test: str, *arguments: str, within: str = ".", **more: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(PREAMBLE + textwrap.dedent(test))
    (folder / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder / within,
        env={**usual, "PYTHONDONTWRITEBYTECODE": "1", **more},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_system_runs_in_virtual_time(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        async def test_it(system, probe):
            await trio.sleep(1_000_000)
            other = await probe(Greeting)
            greeter = await system.spawn(Greeter, other.ref)
            greeter.tell(Bye())
            assert await other.expect(Bye) == Bye()
            other.expect_nothing()
            async with trio.open_nursery() as nursery:
                @nursery.start_soon
                async def ask():
                    assert await other.ref.ask(Hello("you")) == "hi"
                (await other.receive()).reply("hi")
        """,
    )
    assert code == 0, said


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("(await probe(Greeting)).expect_nothing(); await (await probe(Greeting, 'p')).receive(3)",
         "p was sent nothing within 3 s"),
        ("p = await probe(Greeting, 'p'); p.ref.tell(Bye()); await p.expect(Hello)", "p was sent Bye()"),
        ("p = await probe(Greeting, 'p'); p.ref.tell(Bye()); await system.idle(); p.expect_nothing()", "p was sent Bye()"),
        ("g = await system.spawn(Greeter, name='g'); g.tell(Bye()); g.tell(Bye()); await system.stop(g)",
         "Bye() for g was not delivered: the actor stopped"),
        ("g = await system.spawn(Greeter, name='g'); g.tell(Bye()); await trio.sleep(60)",
         "g failed: AttributeError(\"'NoneType' object has no attribute 'tell'\")"),
        ("g = await system.spawn(Greeter, name='g'); g.tell(Bye())", "in handle\n"),
        ("await system.spawn(Clinging, name='c')", "did not end within"),
    ],
)  # fmt: skip
def test_what_a_test_overlooks_fails_it(tmp_path: Path, test: str, said: str) -> None:
    code, output = run(tmp_path, f"async def test_it(system, probe):\n    {test}\n")
    assert code == 1
    assert said in output


def test_dead_letters_may_be_taken_or_kept(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        async def test_taken(system):
            greeter = await system.spawn(Greeter, name="g")
            greeter.tell(Bye())
            await system.stop(greeter)
            assert system.dead_letters.popleft().message == Bye()

        @pytest.mark.keeps_dead_letters
        async def test_kept(system):
            greeter = await system.spawn(Greeter, name="g")
            greeter.tell(Bye())
            await system.stop(greeter)
        """,
    )
    assert code == 0, said


def test_failures_may_be_taken_or_kept(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        async def test_taken(system):
            greeter = await system.spawn(Greeter, name="g")
            greeter.tell(Bye())
            await trio.sleep(60)
            assert isinstance(system.failures.popleft().error, AttributeError)

        @pytest.mark.keeps_failures
        async def test_kept(system):
            greeter = await system.spawn(Greeter, name="g")
            greeter.tell(Bye())
            await trio.sleep(60)
            assert await greeter.ask(Hello("you")) == "hello you"
        """,
        "--strict-markers",
    )
    assert code == 0, said


def test_a_system_of_ones_own_runs_in_its_own_time(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        @pytest.fixture
        async def system():
            async with open_system() as system:
                yield system

        async def test_it(system):
            assert not isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
        """,
    )
    assert code == 0, said


RACE = """
@simulate(runs=50)
async def test_race(sim):
    value = 0
    async with open_system() as system:
        greeter = await system.spawn(Greeter, name="greeter")
        async def add():
            nonlocal value
            before = value
            await greeter.ask(Hello("you"))
            value = before + 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(add)
            nursery.start_soon(add)
    assert value == 2
"""


def test_a_failing_run_prints_the_command_that_repeats_it(tmp_path: Path) -> None:
    code, said = run(tmp_path, RACE)
    assert code == 1
    found = re.search(r"replay: pytest (\S+) (--relay-seed=\d+) (--relay-replay=\S+)", said)
    assert found is not None, said
    assert found[1] == "test_it.py::test_race"
    assert "greeter Hello" in said
    code, again = run(tmp_path, RACE, found[1], found[2], found[3])
    assert code == 1
    assert "assert 1 == 2" in again


def test_a_replay_that_does_not_fail_says_so(tmp_path: Path) -> None:
    code, said = run(tmp_path, RACE, f"--relay-replay={encode([])}")
    assert code == 1
    assert "the replayed run does not fail; the recorded choices fit" in said
    code, said = run(tmp_path, RACE, f"--relay-replay={encode([7] * 100)}")
    assert code == 1
    assert "the code makes other choices now than those that were recorded" in said


def test_the_summary_tells_how_much_was_simulated(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        @simulate()
        async def test_it(sim):
            async with open_system() as system:
                greeter = await system.spawn(Greeter)
                assert await greeter.ask(Hello("you")) == "hello you"
        """,
        "-v",
        "--relay-runs=7",
        "--relay-seed=3",
    )
    assert code == 0, said
    assert re.search(r"test_it: 7 runs, \d+ steps, [\d,]+ steps/s", said)


def test_a_test_may_be_a_method(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        class TestGreeting:
            name = "you"

            @simulate(runs=3)
            async def test_it(self, sim):
                assert self.name == "you"
                assert sim.choose(1) == 0

            @pytest.mark.parametrize("number", [1, 2])
            @simulate(runs=3)
            async def test_with_a_fixture(self, sim, number, tmp_path):
                assert number in (1, 2)
                assert tmp_path
        """,
    )
    assert code == 0, said
    assert "3 passed" in said


def test_the_replay_command_is_one_for_the_shell(tmp_path: Path) -> None:
    (tmp_path / "sub dir").mkdir()
    test = """
        class TestRace:
            @pytest.mark.parametrize("what", ["it's a [test] (once)"])
            @simulate(runs=50)
            async def test_it(self, sim, what):
                assert sim.choose(20) != 7
    """
    code, said = run(tmp_path, test, "..", "--rootdir", str(tmp_path), within="sub dir")
    assert code == 1
    found = re.search(r"replay: (pytest .*)", said)
    assert found is not None, said
    command = shlex.split(found[1])
    assert command[1] == "../test_it.py::TestRace::test_it[it's a [test] (once)]"
    code, again = run(tmp_path, test, *command[1:], "--rootdir", str(tmp_path), within="sub dir")
    assert code == 1
    assert "1 failed" in again
    assert "assert 7 != 7" in again
    assert "does not fail" not in again


BY_SETS = """
@simulate(runs=50)
async def test_it(sim):
    order = list({"a", "b", "c", "d", "e", "f", "g", "h"})
    assert sim.choose(8) != 3 or order == sorted(order)
"""


def test_how_strings_are_hashed_is_a_part_of_the_replay(tmp_path: Path) -> None:
    code, said = run(tmp_path, BY_SETS, PYTHONHASHSEED="7")
    assert code == 1
    assert "replay: PYTHONHASHSEED=7 pytest test_it.py::test_it --relay-seed" in said
    code, said = run(tmp_path, "@simulate()\nasync def test_it(sim): pass", f"--relay-replay={encode([])}")
    assert code == 1
    assert "with PYTHONHASHSEED=0" in said


def test_a_failure_says_how_far_it_is_from_the_tame_run(tmp_path: Path) -> None:
    code, said = run(tmp_path, RACE)
    assert code == 1
    assert re.search(
        r"run \d+ of this test failed; 1 of \d+ choices are not tame, from \d+ of \d+\. Last", said
    )


@pytest.mark.parametrize(
    ("arguments", "fixture"),
    [
        ("sim, system", "system"),
        ("sim, probe", "probe"),
        ("sim, opened", "opened"),
        ("sim, through", "opened"),
    ],
)
def test_what_lives_in_a_run_cannot_come_from_a_fixture(tmp_path: Path, arguments: str, fixture: str) -> None:
    code, said = run(
        tmp_path,
        f"""
        @pytest.fixture
        async def opened():
            async with open_system() as system:
                yield system

        @pytest.fixture
        def through(opened):
            return opened

        @simulate(runs=3)
        async def test_it({arguments}):
            pass
        """,
    )
    assert code == 1
    assert "is async, and a simulated test has many runs: open the system inside" in said
    assert f"the fixture '{fixture}'" in said


def test_given_stands_above_simulate(tmp_path: Path) -> None:
    test = """
    from hypothesis import given, settings, strategies as st

    @settings(deadline=None, max_examples=10, database=None)
    @given(st.integers(0, 5_000))
    @simulate(runs=5)
    async def test_by_position(sim, number):
        assert 0 <= number <= 5_000

    class TestThem:
        @settings(deadline=None, max_examples=10, database=None)
        @given(number=st.integers(0, 5))
        @simulate(runs=5)
        async def test_by_name(self, sim, number):
            assert 0 <= number <= 5

    @settings(deadline=None, max_examples=100, database=None)
    @given(number=st.integers(0, 5))
    @simulate(runs=20)
    async def test_that_fails(sim, number):
        assert number < 3 or not sim.choose(2)
    """
    code, said = run(tmp_path, test, "-v")
    assert code == 1
    assert "1 failed, 2 passed" in said, said
    assert "number=3" in said, said
    assert "replay: pytest test_it.py::test_that_fails --relay-seed" in said
    assert re.search(r"test_by_position: 50 runs", said)


def test_a_failing_actor_fails_the_test_unless_it_is_marked(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        async def bye(sim):
            async with open_system() as system:
                greeter = await system.spawn(Greeter, name="g")
                greeter.tell(Bye())
                await trio.sleep(60)

        @simulate(runs=3)
        async def test_fails(sim):
            await bye(sim)

        @simulate(runs=3, keeps_failures=True)
        async def test_keeps(sim):
            await bye(sim)

        @pytest.mark.keeps_failures
        @simulate(runs=3)
        async def test_marked(sim):
            await bye(sim)
        """,
    )
    assert code == 1
    assert "1 failed, 2 passed" in said
    assert "g failed: AttributeError" in said


def test_skipping_skips(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        @simulate(runs=3)
        async def test_skips(sim):
            pytest.skip("not here")

        @simulate(runs=3)
        async def test_expects(sim):
            pytest.xfail("known")

        @simulate(runs=3)
        async def test_fails(sim):
            with pytest.raises(ValueError):
                pass
        """,
    )
    assert code == 1
    assert "1 failed, 1 skipped, 1 xfailed" in said
    assert "DID NOT RAISE" in said
    assert "replay: pytest test_it.py::test_fails" in said


@pytest.mark.parametrize(
    "option", ["--relay-runs=0", "--relay-runs=-5", "--relay-runs=x", "--relay-replay=x"]
)
def test_an_option_that_makes_no_sense_is_refused(tmp_path: Path, option: str) -> None:
    code, said = run(tmp_path, RACE, option)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "passed" not in said


def test_the_summary_names_every_case(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
        @pytest.mark.parametrize("number", [1, 2])
        @simulate(runs=3)
        async def test_it(sim, number):
            pass
        """,
        "-v",
    )
    assert code == 0, said
    for number in (1, 2):
        assert re.search(rf"test_it\.py::test_it\[{number}\]: 3 runs, \d+ steps", said)


async def no_scenario(number: int) -> None: ...


def no_coroutine(sim: Sim) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: simulate()(no_scenario), "the first parameter of no_scenario must be sim"),  # type: ignore[arg-type]
        (lambda: simulate()(no_coroutine), "async def no_coroutine"),  # type: ignore[arg-type]
        (lambda: simulate(no_scenario), "write @simulate(), with parentheses"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_scenario_is_refused_where_it_is_decorated(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        wrong()


@pytest.mark.parametrize("runs", [0, -5])
def test_no_runs_are_no_test(runs: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        simulate(runs=runs)
