"""What a type checker accepts of simulated tests and probes, and what it refuses: the lines marked `# refused`.

Checked by `test_types.py`; never run.
"""

from typing import assert_type

import attrs

from relay.actors import Ref, Tell
from relay.testing import MakeProbe, Probe, Sim, Unreliable, simulate


class Lamp:
    """A lamp."""


class Door:
    """A door."""


@attrs.frozen
class Switch(Tell[Lamp]):
    pass


@attrs.frozen
class Close(Tell[Door]):
    pass


@simulate(runs=3)
async def function(sim: Sim, number: int) -> None:
    print(sim.choose(number))


class Methods:
    @simulate()
    async def method(self, sim: Sim, name: str) -> None:
        print(self, sim, name)


@simulate()  # refused
async def without(number: int) -> None:
    print(number)


@simulate()  # refused
def plain(sim: Sim) -> None:
    print(sim)


@simulate  # refused
async def bare(sim: Sim) -> None:
    print(sim)


def call() -> None:
    function(3)
    function("three")  # refused
    function()  # refused
    Methods().method("me")
    Methods().method(3)  # refused


async def probes(probe: MakeProbe) -> None:
    lamp = await probe(Lamp)
    assert_type(lamp, Probe[Lamp])
    lamp.ref.tell(Switch())
    lamp.ref.tell(Close())  # refused


def networks(sim: Sim, lamp: Ref[Lamp]) -> None:
    far = sim.unreliable(lamp)
    assert_type(far, Unreliable[Lamp])
    far.tell(Switch())
    far.tell(Close())  # refused
