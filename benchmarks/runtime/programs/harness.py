"""What the Python programs of this folder share: the command line, the clock and the messages. It needs Python only.

A program is run as `python on_x.py CASE SECONDS NUMBER` and prints one line of JSON: `{"value": 1234.5}`, or
`{"missing": "why it has no such case"}`. NUMBER is how many actors the case is about. Then the process ends on the
spot, for stopping a hundred thousand actors is not what is measured.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

BURST = 1_000
FLOODED = 100
FULL = 100
PAUSE = 0.001


class Count:
    """Told: count one more."""

    __slots__ = ()


class Last:
    """Told: count one more, and say that it has come."""

    __slots__ = ("latch",)

    def __init__(self, latch: "Latch") -> None:
        self.latch = latch


class Total:
    """Asked: how many were counted."""

    __slots__ = ()


class Hop:
    """Told: pass it on, with one hop less."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Flood:
    """Told: work for a moment."""

    __slots__ = ("mailbox",)

    def __init__(self, mailbox: "Mailbox") -> None:
        self.mailbox = mailbox

    def handle(self) -> None:
        work()
        self.mailbox.handled += 1


class Fail:
    """Told: raise an exception."""

    __slots__ = ()


class Latch:
    """Calls `opened` when as many have arrived as were awaited. Safe among threads."""

    def __init__(self, awaited: int, opened: Callable[[], object] = lambda: None) -> None:
        self._awaited = awaited
        self.opened = opened
        self._arrived: list[None] = []

    def arrive(self) -> None:
        self._arrived.append(None)
        if (
            len(self._arrived) >= self._awaited
        ):  # two threads may both see the last; opening twice does no harm
            self.opened()


class Repeat:
    """`for count in repeat:` the body does something `count` times, more each time, until it took SECONDS. `rate` is
    that of the last time; what came before has warmed up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.rate = 0.0
        self.sum = 0

    def __iter__(self) -> Iterator[int]:
        count = BURST
        while True:
            start = perf_counter()
            yield count
            elapsed = perf_counter() - start
            self.sum += count
            self.rate = count / elapsed
            if elapsed >= self._seconds:
                return
            growth = min(10.0, max(1.5, 1.2 * self._seconds / elapsed))
            count = int(count * growth) // BURST * BURST + BURST


def bursts(actors: list[Any]) -> Iterator[list[Any]]:
    """So many as may be in flight when memory is measured: what a process has once needed for more it does not give back."""
    for start in range(0, len(actors), BURST):
        yield actors[start : start + BURST]


class Latencies:
    """Seconds in, milliseconds out."""

    def __init__(self) -> None:
        self._samples: list[float] = []

    def add(self, seconds: float) -> None:
        self._samples.append(seconds * 1e3)

    def quantile(self, share: float) -> float:
        return sorted(self._samples)[int(share * (len(self._samples) - 1))]


class Pings:
    """How long an idle actor takes to answer, every millisecond; and that from when the ping was due, which counts in
    how late its sender got its turn."""

    def __init__(self, seconds: float) -> None:
        self._end = perf_counter() + 2 * seconds
        self.asked = Latencies()
        self.due = Latencies()

    def __iter__(self) -> Iterator["Ping"]:
        """The body sleeps for PAUSE, calls `asks()`, and asks."""
        while perf_counter() < self._end:
            ping = Ping()
            yield ping
            answered = perf_counter()
            self.asked.add(answered - ping.asked)
            self.due.add(answered - ping.due)


class Ping:
    def __init__(self) -> None:
        self.due = perf_counter() + PAUSE
        self.asked = self.due

    def asks(self) -> None:
        self.asked = perf_counter()


class Mailbox:
    """How full the mailbox of a flooded actor is. Teller and actor have a number each, for they may be two threads."""

    def __init__(self) -> None:
        self.told = 0
        self.handled = 0


class Tide:
    """Keeps the mailboxes of actors full of messages, `rise` at a time. `tells` put one into each."""

    def __init__(self, tells: list[Callable[..., object]], flood: Callable[[Mailbox], Flood] = Flood) -> None:
        self._tells = [(Mailbox(), tell) for tell in tells]
        self._flood = flood

    def rise(self) -> None:
        for mailbox, tell in self._tells:
            for _ in range(FULL - mailbox.told + mailbox.handled):
                mailbox.told += 1
                tell(self._flood(mailbox))


class Growth:
    """Bytes of resident memory per thing made since; by the process's peak where there is no /proc."""

    def __init__(self) -> None:
        gc.collect()
        self._before = resident()

    def per(self, number: int) -> float:
        gc.collect()
        return (resident() - self._before) / number


def resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def work() -> None:
    """About five microseconds."""
    for _ in range(600):
        pass


class Missing(Exception):
    """Why a system has no such case."""


def main(cases: dict[str, Callable[[float, int], float]], missing: dict[str, str]) -> None:
    """Run the case that the command line asks for; `missing` says of others why there is none."""
    case, seconds, number = sys.argv[1:]
    try:
        if case not in cases:
            raise Missing(missing.get(case, "it has no such thing"))
        found = {"value": cases[case](float(seconds), int(number))}
    except Missing as why:
        found = {"missing": str(why)}
    print(json.dumps(found), flush=True)
    os._exit(0)
