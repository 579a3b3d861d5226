"""Components of the bus under every schedule: they come and go, forget where they were or go back to an earlier place, while
the keeper of the places crashes, commits fail, servers start again and days go by.

What is judged: nobody misses an event that it has not worked off, and nobody is told again what is confirmed and stored.
"""

from __future__ import annotations

import attrs
import pytest
import trio

from relay.actors import ActorError, System, Unavailable, open_system
from relay.fleet import Fleet, open_fleet
from relay.fleet.bus_sessions import KEPT, STORED_WITHIN, Acknowledged, Begin
from relay.http.feed import Feed, everything
from relay.store import Event, Owner, Store, StoreError, open_store
from relay.testing import Faults, Sim, simulate

NAMES = ("r1", "r2")
EVENTS = 30
TROUBLE = (ActorError, Unavailable, StoreError, trio.TooSlowError)


@attrs.define
class Component:
    """A client, and what it has worked off. `known` is what it remembers of that, None for one that has begun anew."""

    name: str
    worked_off: set[int] = attrs.field(factory=set)
    first: int | None = None
    known: int | None = None
    seen: float = 0.0

    def stored(self, store: Store) -> int:
        row = store.row("select acked_event from bus_sessions where component_id = ?", self.name)
        return row[0] if row is not None else 0


class World:
    """The log, the components, and the servers that come after each other."""

    def __init__(self, sim: Sim, system: System, store: Store) -> None:
        self.sim = sim
        self.system = system
        self.store = store
        self.components = [Component(name) for name in NAMES]
        self.resumed = self.gone_back = self.forgotten = 0

    async def happen(self) -> None:
        for number in range(EVENTS):
            self.store.stage((), (Event("x", "s", str(number), {}),), Owner(), lambda error: None)
            await self.sim.pause(4)

    async def connect(self, fleet: Fleet, component: Component) -> None:
        """One connection, as the bus makes it."""
        now, wall = fleet.events.last_id, self.system.wall()
        stored = component.stored(self.store)
        with trio.fail_after(30):
            after = await fleet.bus_sessions.ask(Begin(component.name, component.known, now))
        self._check(component, now if after is None else after, after, stored)
        component.seen = wall
        feed = Feed(fleet.events, everything, now if after is None else after)
        assert not feed.lost
        component.known = feed.cursor
        component.worked_off -= set(range(feed.cursor + 1, now + 1))  # one that goes back does them again
        for _ in range(self.sim.choose(6)):
            for event in await feed.next(trio.current_time() + 2):
                component.worked_off.add(event.id)
                component.known = event.id
            if self.sim.choose(2):
                fleet.bus_sessions.tell(Acknowledged(component.name, component.known))
            await self.sim.pause(2)

    def _check(self, component: Component, place: int, after: int | None, stored: int) -> None:
        if component.first is None:
            component.first = place
        elif component.known is not None:
            assert after == component.known
        elif self.system.wall() - component.seen > KEPT:
            self.forgotten += after is None
            component.worked_off |= set(range(place + 1))  # a place is kept no longer
        else:
            assert after is not None, "it was there within a day"
            assert set(range(component.first + 1, place + 1)) <= component.worked_off, "nothing is missed"
            assert place >= stored, "what is stored is not told again"
            self.resumed += 1

    async def live(self, fleet: Fleet, component: Component) -> None:
        for _ in range(4):
            try:
                await self.connect(fleet, component)
            except TROUBLE:
                pass
            match self.sim.choose(4):
                case 0 | 1:
                    component.known = None  # it begins anew
                case 2 if component.first is not None and component.known is not None:
                    component.known = component.first + (component.known - component.first) // 2
                    self.gone_back += 1
            await self.sim.pause(3)

    async def confirm_all(self, fleet: Fleet) -> None:
        last = self.store.events.last_id
        with trio.fail_after(60):
            while any(component.stored(self.store) < last for component in self.components):
                for component in self.components:
                    fleet.bus_sessions.tell(Acknowledged(component.name, last))
                await trio.sleep(STORED_WITHIN * 2)

    async def pass_days(self) -> None:
        for _ in range(3):
            await self.sim.pause(30)
            self.sim.jump_wall([0.0, KEPT * 0.6, KEPT * 1.1][self.sim.choose(3)])


@pytest.mark.spec("BUS-6", "M-I31", "O-61")
@simulate(
    runs=60,
    faults=Faults(crash=0.03, delay=0.03, named={"store.commit": 0.03}, most=4, only=("bus-sessions",)),
)
async def test_a_component_that_comes_back_misses_nothing(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store:
        world = World(sim, system, store)
        sim.sometimes(lambda: world.resumed > 0, "a component went on where it had confirmed to be")
        sim.sometimes(lambda: world.gone_back > 0, "a component went back")
        sim.sometimes(lambda: world.forgotten > 0, "a place was kept no longer")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.happen)
            nursery.start_soon(world.pass_days)
            for _ in range(1 + sim.choose(3)):
                async with open_fleet(system, store) as fleet, trio.open_nursery() as connections:
                    for component in world.components:
                        connections.start_soon(world.live, fleet, component)
            async with open_fleet(system, store) as fleet:
                await world.confirm_all(fleet)
