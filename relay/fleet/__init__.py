"""The fleet: agents, hosts, workspaces, merges, messages, tasks and commands, each owned by durable actors.

`async with open_fleet(system, store) as fleet:` is the whole of it. Each concept has a module with its messages
(`fleet.agents["a1"].ask(agents.SetStatus(...))`) and its queries (`agents.list_agents(store)`).
"""

from ._errors import (
    Conflict as Conflict,
    Forbidden as Forbidden,
    Invalid as Invalid,
    NotFound as NotFound,
    Unprocessable as Unprocessable,
)
from ._fleet import Fleet as Fleet, open_fleet as open_fleet
from .matching import Matcher as Matcher
