"""A process that is killed while it writes loses nothing that it said was written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from relay.actors import System
from relay.store import open_store

ROUNDS = 6
WRITER = """
import os, sys, trio
from pathlib import Path
from relay.actors import open_system
from relay.store import Event, Owner, Write, open_store

PUT = "insert into meta (key, value) values (?, ?)"

async def main(path, round_):
    async with open_system() as system, open_store(path, system) as store:
        async def client(name):
            for number in range(1_000_000):
                key, told = f"{round_}-{name}-{number}", trio.Event()
                def done(error):
                    assert error is None, error
                    os.write(1, (key + "\\\\n").encode())
                    told.set()
                store.stage(
                    (Write(PUT, (key, "x" * 200)), Write(PUT, (key + "-twin", ""))),
                    (Event("put", "test", key, {}),),
                    Owner(),
                    done,
                )
                await told.wait()
        async with trio.open_nursery() as nursery:
            for name in range(20):
                nursery.start_soon(client, name)

trio.run(main, Path(sys.argv[1]), sys.argv[2])
""".replace("\\\\", "\\")


def write_and_be_killed(path: Path, round_: int, after: int) -> set[str]:
    """The keys that a writer acknowledged until it was killed, soon after `after` of them."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(round_)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        said = b""
        while said.count(b"\n") < after:
            chunk = os.read(writer.stdout.fileno(), 65_536)
            assert chunk, "the writer ended by itself"
            said += chunk
        writer.kill()
        said += writer.stdout.read()
    return set(said.decode().split("\n")[:-1])


async def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    acknowledged: set[str] = set()
    for round_ in range(ROUNDS):
        acknowledged |= write_and_be_killed(path, round_, after=1 + 97 * round_)
        async with open_store(path, system) as store:
            there = {key for (key,) in store.rows("select key from meta")}
            assert acknowledged <= there
            singles = {key for key in there if not key.endswith("-twin")}
            assert there - singles == {f"{key}-twin" for key in singles}, "half a part"
            events = store.rows("select id, subject from events order by id")
            assert [number for number, _ in events] == list(range(1, len(singles) + 1))
            assert {subject for _, subject in events} == singles
            assert store.check() == []
