"""A counter made of events: what it has acknowledged survives `kill -9`. It is started and killed three times.

python examples/counter.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import attrs
import trio

from relay.actors import Ask, Context, open_system
from relay.store import Decision, Durable, Event, Store, open_store


class Counting:
    """The protocol."""


@attrs.frozen
class Count(Ask[Counting, int]):
    """Answered with how many there are, once that is on disk."""


class Counter(Durable[Counting]):
    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.value = 0
        cursor = 0
        while events := store.events.since(cursor):  # what happened, a thousand events at a time
            self.value += len(events)
            cursor = events[-1].id

    def handle(self, message: Count, context: Context[Counting]) -> None:
        self.value += 1
        counted = Event("counted", "counter", None, {"value": self.value})
        self.settle(message, Decision(reply=self.value, events=(counted,)), context)


async def count(database: str) -> None:
    """One life: says what it found, then counts for as long as it lives and says each number it was answered."""
    async with open_system() as system, open_store(Path(database), system, keep_events=sys.maxsize) as store:
        counter = await system.spawn(Counter, store, name="counter")
        print(store.events.last_id, flush=True)
        while True:
            print(await counter.ask(Count()), flush=True)


def live(database: Path) -> tuple[int, int]:
    """Start a life and kill it while it counts. What it found, and the last number it was answered."""
    command = [sys.executable, __file__, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as life:
        assert life.stdout is not None
        said = [int(life.stdout.readline()) for _ in range(100)]
        life.kill()  # SIGKILL: no handler runs, nothing is tidied up
        said += [int(line) for line in life.stdout]
    return said[0], said[-1]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        acknowledged = 0
        for number in (1, 2, 3):
            found, last = live(Path(directory) / "counter.db")
            # One more is no lie: it was on disk, and the kill came before its answer.
            assert found in {acknowledged, acknowledged + 1}, f"{found} instead of {acknowledged}"
            print(f"Life {number} found {found}, was answered up to {last}, then was killed with SIGKILL.")
            acknowledged = last


if __name__ == "__main__":
    if len(sys.argv) > 1:
        trio.run(count, sys.argv[1])
    else:
        main()
