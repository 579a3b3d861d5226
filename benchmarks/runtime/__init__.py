"""The runtime beside other actor systems: `python3 dev.py bench runtime`, about fifteen minutes on an idle machine.

Each sample is a process of its own that runs one case for about a second: a program per system, in `programs`. The
systems take turns within each round, and the case's rounds follow each other, so that a slow minute of the machine is
everybody's. A row is the median of the rounds with the least and the most; `relay / x` is relay's rate over that of x
in the same round. On a noisy machine believe those. `actors` is the quick form.

The systems: relay; what one writes by hand on trio (a task behind a memory channel) and on asyncio (a task behind a
queue); pykka (a thread per actor); thespian (its fastest base, which runs the actors inside the caller's call);
triotp; xoscar (actors in one process); Erlang on one scheduler, where it is installed. All of them count in a plain
handler, match the message by its class, and hold whatever is in flight (triotp holds nothing: its sender waits).

The cases:

- tell: messages from one sender, in bursts of 1 000 with a pause for the actors where there is one thread, until all
  are handled; to one actor, or to 1 000 in turn.
- ask: requests that are answered; one after the other to one actor, or by 1 000 askers, each of an actor of its own.
- ring: one message that goes around 1 000 actors.
- spawn and stop: lives of actors that are started, and stopped again, 1 000 at a time.
- idle actor: bytes of resident memory, with the ref its owner keeps, from before they were spawned until they wait for
  their first message, after a garbage collection, in a fresh process. Erlang counts its own memory.
- idle family member: the same of relay's actors that are registered under a key, were called up by a request, and wait
  for the next; the key counts in.
- passive family member: what members leave that were called up and put to sleep again, when as many have gone before;
  by tracemalloc, for a process does not give all memory back.
- restart: from telling an actor that makes it fail to an answer of its next incarnation, without a delay between.
- ping, p99: how long an idle actor takes to answer while 100 others never have an empty mailbox; each of their messages
  is about 5 microseconds of work. One ping a millisecond. "From due" counts in how late the sender of the ping got
  its turn, which is what a client sees.

The floors at the end are promises of relay: the last lines say which of them this run has missed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rows import Row, Skipped, row

from ._systems import LOCAL, SYSTEMS, System, Unavailable

__all__ = ["CASES", "LOCAL", "SYSTEMS", "Case", "compared", "missed", "rows"]

ROUNDS = 5
SECONDS = 0.5  # of the part of a sample that counts; what leads up to it takes as long
PATIENCE = 120.0  # seconds for a sample
RELAY = "relay"


@dataclass(frozen=True)
class Case:
    """`program` and `number` are what the programs are called with. A rate is compared as a ratio."""

    name: str
    program: str
    number: int
    unit: str
    own: bool = False  # of relay only

    @property
    def is_rate(self) -> bool:
        return self.unit.endswith("/s")


CASES = (
    Case("tell, 1 actor", "tell", 1, "messages/s"),
    Case("tell, 1 000 actors", "tell", 1_000, "messages/s"),
    Case("ask, one after the other", "ask", 1, "requests/s"),
    Case("ask, 1 000 at once", "ask_at_once", 1_000, "requests/s"),
    Case("ring of 1 000", "ring", 1_000, "hops/s"),
    Case("spawn and stop", "spawn_stop", 1_000, "actors/s"),
    Case("idle actor, of 10 000", "memory", 10_000, "bytes"),
    Case("idle actor, of 100 000", "memory", 100_000, "bytes"),
    Case("idle family member, 10 000", "family", 10_000, "bytes", own=True),
    Case("idle family member, 100 000", "family", 100_000, "bytes", own=True),
    Case("passive family member", "passive", 10_000, "bytes", own=True),
    Case("restart", "restart", 1, "microseconds"),
    Case("ping, p99", "ping", 1, "ms"),
    Case("ping, p99 from due", "ping_due", 1, "ms"),
)
AT_LEAST = {
    ("tell, 1 actor", "relay / pykka"): 6.0,
    ("tell, 1 000 actors", "relay / pykka"): 6.0,
    ("ask, one after the other", "relay / pykka"): 12.0,
    ("ask, 1 000 at once", "relay / pykka"): 12.0,
    ("tell, 1 actor", "relay / trio channel"): 8.0,
    ("tell, 1 000 actors", "relay / trio channel"): 8.0,
}
AT_MOST = {
    ("idle actor, of 10 000", RELAY): 1_500.0,
    ("idle actor, of 100 000", RELAY): 1_500.0,
    ("idle family member, 10 000", RELAY): 2_000.0,
    ("idle family member, 100 000", RELAY): 2_000.0,
    ("passive family member", RELAY): 0.5,
    ("ping, p99", RELAY): 5.0,
    ("ping, p99 from due", RELAY): 5.0,
}

Commands = Mapping[str, Sequence[str]]


class Missing(Exception):
    """Why a system has no value for a case."""


def rows() -> Iterator[Row | Skipped]:
    yield from compared("runtime", SYSTEMS, CASES)


def compared(bench: str, systems: Sequence[System], cases: Sequence[Case]) -> Iterator[Row | Skipped]:
    """The cases on the systems, of which relay is the first."""
    commands: dict[str, Sequence[str]] = {}
    for system in systems:
        try:
            commands[system.name] = system.command()
        except Unavailable as why:
            yield Skipped(bench, "all cases", system.name, str(why))
    for case in cases:
        chosen = {RELAY: commands[RELAY]} if case.own else commands
        yield from _case(bench, case, chosen)


def _case(bench: str, case: Case, commands: Commands) -> Iterator[Row | Skipped]:
    samples: dict[str, list[float]] = {system: [] for system in commands}
    for _ in range(ROUNDS):
        for system in list(samples):
            try:
                samples[system].append(_sample(commands[system], case))
            except Missing as why:
                del samples[system]
                yield Skipped(bench, case.name, system, str(why))
    for system, measured in samples.items():
        yield row(bench, case.name, system, measured, case.unit)
    if case.is_rate and RELAY in samples:
        for system, measured in samples.items():
            if system != RELAY:
                ratios = [ours / theirs for ours, theirs in zip(samples[RELAY], measured, strict=True)]
                yield row(bench, case.name, f"{RELAY} / {system}", ratios, "times")


def _sample(command: Sequence[str], case: Case) -> float:
    called = [*command, case.program, str(SECONDS), str(case.number)]
    try:
        done = subprocess.run(called, check=False, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"not done after {PATIENCE:.0f} s") from error
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode} and said nothing"]
        raise Missing(f"it failed: {said[-1].strip()}") from error
    if "missing" in found:
        raise Missing(found["missing"])
    return float(found["value"])


def missed(found: Sequence[Row]) -> Iterator[str]:
    """The floors that `found` misses. Of what was not measured nothing is said."""
    for measured in found:
        what = measured.case, measured.system
        if what in AT_LEAST and measured.median < AT_LEAST[what]:
            yield f"{measured.case}, {measured.system}: {measured.median:,.2f}, and should be at least {AT_LEAST[what]:,}"
        if what in AT_MOST and measured.median > AT_MOST[what]:
            yield f"{measured.case}, {measured.system}: {measured.median:,.2f}, and should be at most {AT_MOST[what]:,}"
