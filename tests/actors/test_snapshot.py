"""What the actors are doing, as data and on a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from protocols import Add, Counting, Crash, Slow, Total

from relay.actors import Actor, ActorInfo, Bounds, Context, Ref, Supervision, System, describe, open_system

if TYPE_CHECKING:
    from trio.testing import MockClock


class Busy(Actor[Counting]):
    def __init__(self, other: Ref[Counting] | None = None) -> None:
        self.other = other

    async def handle(self, message: object, context: Context[Counting]) -> None:  # type: ignore[override]
        match message:
            case Slow(seconds=seconds) if self.other is None:
                await trio.sleep(seconds)
                context.reply(message, 0)
            case Slow() if self.other is not None:
                context.reply(message, await self.other.ask(message))
            case Total():
                await context.spawn(Busy, name="child")
                context.reply(message, 0)
            case Crash():
                raise ValueError("as told")


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


async def test_a_snapshot_tells_who_is_at_what_and_waits_for_whom(
    autojump_clock: MockClock, system: System
) -> None:
    last = await system.spawn(Busy, name="last", bounds=Bounds(capacity=5))
    first = await system.spawn(Busy, last, name="first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.ask, Slow(10.0))
        await trio.sleep(4)
        last.tell(Add())
        assert [attrs.evolve(info, where=None) for info in system.snapshot()] == [
            ActorInfo(
                address="last", state="running", incarnation=1, queued=1, capacity=5,
                message="Slow(seconds=10.0)", seconds=4.0,
            ),
            ActorInfo(
                address="first", state="running", incarnation=1, queued=0, capacity=1000,
                message="Slow(seconds=10.0)", seconds=4.0, waits_for=("last",),
            ),
        ]  # fmt: skip
        text = describe(system.snapshot())
        assert "first, running, mailbox 0/1000, 4.0 s at Slow(seconds=10.0), in " in text
        assert "waits for last" in text


async def test_children_members_and_failures_are_in_it(autojump_clock: MockClock, system: System) -> None:
    parent = await system.spawn(Busy, name="parent")
    family = system.family(lambda _: Busy(), name="f", supervision=Supervision(backoff=1))
    await parent.ask(Total())
    family["a"].tell(Crash())
    await system.idle()
    parent_info, member = system.snapshot()
    assert [child.address for child in parent_info.children] == ["parent/child"]
    assert (member.address, member.state, member.failure) == ("f/a", "backoff", "ValueError('as told')")
    assert describe([parent_info]).splitlines()[1].startswith("  parent/child, running")


def test_a_signal_shows_the_handler_that_never_yields(tmp_path: Path) -> None:
    script = tmp_path / "stuck.py"
    script.write_text(
        textwrap.dedent("""
        import signal
        import sys
        import attrs, trio
        from relay.actors import Actor, Tell, open_system

        class P: ...

        @attrs.frozen
        class Go(Tell[P]):
            pass

        class Stuck(Actor[P]):
            def handle(self, message: Go, context):
                print("stuck", flush=True)
                while True:
                    pass

        async def main():
            async with open_system(dump_on=signal.SIGUSR1) as system:
                stuck = await system.spawn(Stuck, name="stuck")
                stuck.tell(Go())
                await trio.sleep(1)

        trio.run(main)
        """)
    )
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"stuck\n"
            os.kill(process.pid, signal.SIGUSR1)
            said = b""
            while b"in handle" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
        finally:
            process.kill()
    assert b"stuck, running, mailbox 0/1000" in said
