"""The pytest plugin, as the tests of another project see it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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


def run(folder: Path, test: str, *arguments: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(PREAMBLE + textwrap.dedent(test))
    (folder / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
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
