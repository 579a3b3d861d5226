"""Takes samples in turn, so that a slow minute of the machine is every system's."""

from collections.abc import Awaitable, Callable, Iterator, Mapping

import trio
from rows import Row, row

SAMPLES = 5

Measure = Callable[[], Awaitable[float]]
"""One sample, in a run of trio of its own."""


def interleaved(bench: str, case: str, unit: str, systems: Mapping[str, Measure]) -> Iterator[Row]:
    """A row per system. The first round warms up and does not count."""
    samples: dict[str, list[float]] = {system: [] for system in systems}
    for _ in range(1 + SAMPLES):
        for system, measure in systems.items():
            samples[system].append(trio.run(measure))
    for system, measured in samples.items():
        yield row(bench, case, system, measured[1:], unit)
