"""The test kit for programs built on `relay.actors`: probes, virtual time, and simulation with replayable schedules.

With pytest it is there as a plugin; start at the fixtures `system` and `probe`, and at `simulate`.
`relay.testing.crashes`, which needs apsw, loses the power under SQLite.
"""

from ._failures import ActorsFailed as ActorsFailed
from ._faults import Faults as Faults, InjectedFault as InjectedFault
from ._guard import SimulationLeak as SimulationLeak
from ._network import Unreliable as Unreliable
from ._probe import MakeProbe as MakeProbe, Probe as Probe, Received as Received, open_probe as open_probe
from ._properties import PropertyViolated as PropertyViolated
from ._report import ReplayDiffers as ReplayDiffers
from ._sim import Sim as Sim, SimulationStalled as SimulationStalled
from ._simulate import simulate as simulate
from ._twice import HiddenNondeterminism as HiddenNondeterminism
