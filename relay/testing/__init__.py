"""The test kit for programs built on `relay.actors`: probes, virtual time, and simulation with replayable schedules.

With pytest it is there as a plugin; start at the fixtures `system` and `probe`, and at `simulate`.
`relay.testing.crashes`, which needs apsw, loses the power under SQLite.
"""

from ._explore import HiddenNondeterminism as HiddenNondeterminism
from ._guard import SimulationLeak as SimulationLeak
from ._probe import MakeProbe as MakeProbe, Probe as Probe, Received as Received, open_probe as open_probe
from ._sim import (
    Faults as Faults,
    InjectedFault as InjectedFault,
    PropertyViolated as PropertyViolated,
    Sim as Sim,
    SimulationStalled as SimulationStalled,
    Unreliable as Unreliable,
)
from ._simulate import simulate as simulate
