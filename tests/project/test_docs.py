"""What the documents name is there."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import relay.actors
import relay.testing
import relay.testing.crashes
from relay.actors import Context, Family, Gate, Listener, Ref, Reply, System
from relay.testing import Probe, Received, Sim, Unreliable
from relay.testing.crashes import Crash, Disk

ROOT = Path(__file__).parent.parent.parent


def test_every_guarantee_names_a_test_that_there_is() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", text)
    promised = re.findall(r"^- \*\*G\d+", text, re.MULTILINE)
    assert len(named) >= len(promised) > 20
    for file, test in named:
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), f"{file}::{test}"


def test_guarantees_are_numbered_in_order() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    numbers = [int(number) for number in re.findall(r"^- \*\*G(\d+)", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / document).parent / target).exists(), target


def test_each_block_on_testing_is_a_test_file(tmp_path: Path) -> None:
    reminder, account, deposits = blocks("testing.md")
    (tmp_path / "test_reminder.py").write_text(reminder)
    (tmp_path / "test_account.py").write_text(account)
    (tmp_path / "test_deposits.py").write_text(deposits)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert re.findall(r"::(\w+) (PASSED|FAILED) ", done.stdout) == [
        ("test_nothing_that_is_paid_in_is_lost", "FAILED"),
        ("test_deposits_survive", "PASSED"),
        ("test_a_reminder_comes_after_an_hour", "PASSED"),
    ], done.stdout
    said = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
    shown = [line for line in (ROOT / "docs/testing.md").read_text().splitlines() if line.startswith("E  ")]
    assert said[0] == shown[0]
    assert [line.partition("--relay-seed")[0] for line in (said[-1], shown[-1])] == [
        "E           replay: pytest test_account.py::test_nothing_that_is_paid_in_is_lost "
    ] * 2


def test_the_tour_of_the_runtime_runs() -> None:
    program = "\n".join(blocks("runtime.md"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "1 of bolt are left\n"), done.stderr


INTERRUPTED = """
async def interrupted() -> None:
    async with trio.open_nursery() as nursery:
        before = signal.getsignal(signal.SIGINT)
        nursery.start_soon(until_told)
        while signal.getsignal(signal.SIGINT) is before:
            await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGINT)


trio.run(interrupted)
print("left")
"""


def test_the_tour_of_the_runtime_leaves_its_block_at_a_signal() -> None:
    program = "\n".join([*blocks("runtime.md"), INTERRUPTED])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1 of bolt are left\nleft\n"), done.stderr


def test_the_tour_of_the_runtime_names_what_there_is() -> None:
    text = (ROOT / "docs" / "runtime.md").read_text()
    names = re.findall(r"`(?:await )?(context|system|ref)\.(\w+)", text)
    assert len(names) > 10
    for owner, name in names:
        kind = OWNERS[owner]
        assert hasattr(kind, name) or name in attributes(kind), f"{owner}.{name}"


OWNERS: dict[str, type] = {
    "context": Context,
    "crash": Crash,
    "disk": Disk,
    "family": Family,
    "gate": Gate,
    "listener": Listener,
    "probe": Probe,
    "received": Received,
    "ref": Ref,
    "reply": Reply,
    "sim": Sim,
    "system": System,
    "unreliable": Unreliable,
}
INTERNAL = {
    Family: {"active", "cell", "cells", "end", "forget", "member", "quarantine"},
    Gate: {"forget", "hold"},
    Listener: {"put"},
    Probe: {"put"},
    Sim: {
        *(
            "crashes",
            "delays",
            "fail",
            "fault",
            "fault_error",
            "finish",
            "leaving",
            "opened",
            "pick",
            "scheduler",
        ),
        *("seed", "step", "tasks", "wall", "watch_over"),
    },
    System: {
        *(
            "bury",
            "fail",
            "forget",
            "forget_family",
            "note",
            "overflowed",
            "quarantined",
            "spawn_under",
            "start_task",
            "started",
        ),
    },
}
"""What is public among the parts of the runtime and of the test kit only."""


@pytest.mark.parametrize(
    "module", [relay.actors, relay.testing, relay.testing.crashes], ids=lambda module: module.__name__
)
def test_the_api_page_has_every_public_name(module: ModuleType) -> None:
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if name[0] != "_" and not inspect.ismodule(value)
    ]
    assert [name for name in names if not re.search(rf"`{name}\b", api())] == []


@pytest.mark.parametrize("owner", OWNERS)
def test_the_api_page_has_every_method(owner: str) -> None:
    kind = OWNERS[owner]
    methods = {name for name, value in vars(kind).items() if name[0] != "_" and not inspect.isclass(value)}
    methods = {
        name for name in methods if isinstance(vars(kind)[name], property) or callable(getattr(kind, name))
    }
    said = set(re.findall(rf"`{owner}\.(\w+)", api()))
    assert methods - INTERNAL.get(kind, set()) - said == set()
    assert said - set(dir(kind)) - attributes(kind) == set()


def test_the_api_page_names_every_parameter() -> None:
    checked = 0
    for called, parameters in re.findall(r"`(\w+(?:\.\w+)?)\((.*?)\)`", api()):
        owner, _, method = called.rpartition(".")
        if called in {"then", "failed", "listener", "len", "range"} or method == "new_id":
            continue  # what a user gives, and what is set on the object
        function: Any = getattr(OWNERS[owner], method) if owner else imported(called)
        real = [
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if name != "self" and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
        ]
        assert parameters == ", ".join(real), called
        checked += 1
    assert checked > 60


def api() -> str:
    return (ROOT / "docs" / "api.md").read_text()


def imported(name: str) -> Any:
    for module in (relay.actors, relay.testing, relay.testing.crashes, relay.actors.Actor):
        if hasattr(module, name):
            return getattr(module, name)
    raise AssertionError(name)


def attributes(kind: type) -> set[str]:
    """What its constructor sets, and what it declares."""
    source = inspect.getsource(kind)
    return {*re.findall(r"self\.([a-z]\w*)", source), *re.findall(r"^    (\w+): ", source, re.MULTILINE)}


def blocks(document: str) -> list[str]:
    """The Python in a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / document).read_text(), re.DOTALL)
