"""The runtime beside other actor systems: `python3 dev.py bench runtime`, about a quarter of an hour on an idle machine.
`--case tell` measures only the cases whose names begin so; `--rounds 1` takes one sample of each instead of five.

Each sample is a process of its own that runs one case for about a second: a program per system, in `programs`. The
systems take turns within each round, and the case's rounds follow each other, so that a slow minute of the machine is
everybody's. A row is the median of the rounds with the least and the most; `relay / x` is relay's rate over that of x
in the same round. On a noisy machine believe those. `actors` is the quick form.

The systems, and what a message is there. All count; what is in flight is held by the receiver, without a bound that is
ever reached, unless said otherwise.

- relay: a plain `handle` that matches the message by its class. Messages are bare classes with slots, the same for all
  Python systems but xoscar; relay's docs write `attrs.frozen`, which costs more to make: see the variants.
- trio channel, asyncio queue: what one writes by hand. A task loops over a memory channel or a queue and matches by
  class; an answer is an Event, or a future.
- pykka: a thread per actor, a plain `on_receive` that matches by class.
- thespian: its fastest base, which runs a plain `receiveMessage`, matching by class, inside the caller's call.
- triotp: generic servers with names; `async` `handle_call` and `handle_cast`, of which the latter matches by class. A
  call carries the message that counters answer; nothing is held, the sender waits until its message is received.
- xoscar: stateless actors in one process. There are no messages: a method of a name is called, plain but for the ring's.
- Erlang, where it is installed: processes on one scheduler, which match atoms and tuples.

The cases:

- tell: messages from one sender, in bursts of 1 000 with a pause for the actors where there is one thread, until all
  are handled; to one actor, or to 1 000 in turn.
- tell, variants, on relay only, to one actor: `attrs.frozen` messages with a field, as in the docs; an `async` handler
  that awaits nothing; an `async` handler that awaits a checkpoint of trio for each message.
- ask: requests that are answered; one after the other to one actor, or by 1 000 askers, each of an actor of its own.
  relay handles a request of an idle actor with a plain handler at once, in the task of its asker, so here no task is
  switched to; trio's and asyncio's switch twice.
- ring: one message that goes around 1 000 actors.
- spawn and stop: lives of actors that are started, and stopped again, 1 000 at a time.
- idle actor: bytes of resident memory, with the ref its owner keeps, from before they were spawned until they wait for
  their first message, after a garbage collection, in a fresh process. Erlang counts its own memory.
- idle actor, after a message: the same after each was told one message and handled it, 1 000 of them at a time: more in flight at
  once is memory that a process does not give back, but no actor's. "Traced" is what tracemalloc finds of it.
- idle family member: the same of relay's actors that are registered under a key, were called up by a request, and wait
  for the next; the key counts in.
- passive family member: what members leave that were called up and put to sleep again, when as many have gone before;
  by tracemalloc, for a process does not give all memory back.
- restart: from telling an actor that makes it fail to an answer of its next incarnation, without a delay between.
- ping, p99: how long an idle actor takes to answer while 100 others never have an empty mailbox; each of their messages
  is about 5 microseconds of work. One ping a millisecond. "From due" counts in how late the sender of the ping got
  its turn, which is what a client sees.

The floors at the end are promises of relay: which of them this run has kept, missed, or could not check.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rows import Floor, Row, Skipped, row

from ._floors import checked
from ._systems import LOCAL, SYSTEMS, System, Unavailable

__all__ = ["CASES", "LOCAL", "SYSTEMS", "Case", "compared", "floors", "rows", "versions"]

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
    Case("tell, attrs.frozen messages", "tell_attrs", 1, "messages/s", own=True),
    Case("tell, async handler", "tell_async", 1, "messages/s", own=True),
    Case("tell, handler that awaits", "tell_awaiting", 1, "messages/s", own=True),
    Case("ask, one after the other", "ask", 1, "requests/s"),
    Case("ask, 1 000 at once", "ask_at_once", 1_000, "requests/s"),
    Case("ring of 1 000", "ring", 1_000, "hops/s"),
    Case("spawn and stop", "spawn_stop", 1_000, "actors/s"),
    Case("idle actor, of 10 000", "memory", 10_000, "bytes"),
    Case("idle actor, of 100 000", "memory", 100_000, "bytes"),
    Case("idle actor, after a message, 10 000", "memory_used", 10_000, "bytes"),
    Case("idle actor, after a message, 100 000", "memory_used", 100_000, "bytes"),
    Case("idle actor, after a message, traced", "memory_traced", 10_000, "bytes", own=True),
    Case("idle family member, 10 000", "family", 10_000, "bytes", own=True),
    Case("idle family member, 100 000", "family", 100_000, "bytes", own=True),
    Case("passive family member", "passive", 10_000, "bytes", own=True),
    Case("restart", "restart", 1, "microseconds"),
    Case("ping, p99", "ping", 1, "ms"),
    Case("ping, p99 from due", "ping_due", 1, "ms"),
)

Commands = Mapping[str, Sequence[str]]


class Missing(Exception):
    """Why a system has no value for a case."""


def rows(cases: Sequence[Case] = CASES, rounds: int | None = None) -> Iterator[Row | Skipped]:
    yield from compared("runtime", SYSTEMS, cases, rounds)


def versions() -> Iterator[str]:
    for system in SYSTEMS:
        yield system.version()


def floors(measured: Sequence[Row | Skipped], cases: Sequence[Case] = CASES) -> Iterator[Floor]:
    yield from checked(measured, [case.name for case in cases])


def compared(
    bench: str, systems: Sequence[System], cases: Sequence[Case], rounds: int | None = None
) -> Iterator[Row | Skipped]:
    """The cases on the systems, of which relay is the first."""
    commands: dict[str, Sequence[str]] = {}
    for system in systems:
        if system.name != RELAY and all(case.own for case in cases):
            continue  # and need not be installed
        try:
            commands[system.name] = system.command()
        except Unavailable as why:
            yield Skipped(bench, "all cases", system.name, str(why))
    for case in cases:
        chosen = {RELAY: commands[RELAY]} if case.own else commands
        yield from _case(bench, case, chosen, rounds or ROUNDS)


def _case(bench: str, case: Case, commands: Commands, rounds: int) -> Iterator[Row | Skipped]:
    samples: dict[str, list[float]] = {system: [] for system in commands}
    for _ in range(rounds):
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
