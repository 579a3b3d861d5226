"""How far components of the bus have confirmed to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay import wire
from relay.actors import System, open_system
from relay.fleet import Conflict, Fleet, agents, open_fleet
from relay.fleet.bus_sessions import KEPT, STORED_WITHIN, Acknowledged, Begin, Save
from relay.store import open_store


async def begin(fleet: Fleet, component: str = "c", after: int | None = None, now: int = 10) -> int | None:
    return await fleet.bus_sessions.ask(Begin(component, after, now))


@pytest.mark.spec("BUS-6", "O-61")
async def test_a_component_goes_on_after_what_it_has_confirmed(fleet: Fleet) -> None:
    assert await begin(fleet) is None
    assert await begin(fleet) == 10
    for event in (15, 12):
        fleet.bus_sessions.tell(Acknowledged("c", event))
    assert await begin(fleet) == 15
    assert await begin(fleet, after=3) == 3
    assert await begin(fleet) == 3
    assert await begin(fleet, component="d", now=20) is None


async def test_confirmations_are_stored_together_and_soon(fleet: Fleet, system: System) -> None:
    for component in "cd":
        await begin(fleet, component)
        for event in range(20, 30):
            fleet.bus_sessions.tell(Acknowledged(component, event))
    await trio.sleep(STORED_WITHIN + 0.1)
    await system.idle()
    rows = fleet.store.rows("select component_id, acked_event from bus_sessions order by 1")
    assert rows == [("c", 29), ("d", 29)]


@pytest.mark.spec("BUS-6")
async def test_a_place_is_kept_for_a_day_after_the_last_sign_of_life(fleet: Fleet, system: System) -> None:
    for component in "cd":
        await begin(fleet, component)
    await trio.sleep(KEPT / 2)
    fleet.bus_sessions.tell(Acknowledged("d", 12))
    await trio.sleep(KEPT / 2 + 60)
    assert await begin(fleet, "c") is None
    assert await begin(fleet, "d") == 12
    await trio.sleep(KEPT + 60)
    await begin(fleet, "e")
    assert fleet.store.rows("select component_id from bus_sessions") == [("e",)]


@pytest.mark.spec("BUS-6")
async def test_a_place_that_the_log_does_not_reach_is_not_kept(fleet: Fleet) -> None:
    assert await begin(fleet, after=1_000, now=10) == 1_000
    assert await begin(fleet) == 10
    fleet.bus_sessions.tell(Acknowledged("c", 12))
    assert await begin(fleet) == 12


@pytest.mark.spec("BUS-6")
async def test_who_confirms_after_a_day_of_silence_has_a_place_again(fleet: Fleet, system: System) -> None:
    await begin(fleet, "c")
    await trio.sleep(KEPT + 60)
    await begin(fleet, "d")
    fleet.bus_sessions.tell(Acknowledged("c", 12))
    await trio.sleep(STORED_WITHIN + 0.1)
    await system.idle()
    assert await begin(fleet, "c") == 12


@pytest.mark.spec("BUS-6")
def test_who_comes_back_while_its_confirmation_is_being_stored_goes_on_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            open_system() as system,
            open_store(tmp_path / "relay.db", system) as store,
            open_fleet(system, store) as fleet,
        ):
            await begin(fleet)
            fleet.bus_sessions.tell(Acknowledged("c", 12))
            fleet.bus_sessions.tell(Save())
            assert await begin(fleet) == 12

    trio.run(main)  # on the machine's clock: the database has a thread of its own


@pytest.mark.spec("BUS-3", "AGT-20")
async def test_all_of_how_an_agent_is_changes_at_once(fleet: Fleet) -> None:
    card = wire.RegisterAgent(id="a", instance_id="i", status=wire.AgentStatus.BUSY, meta={"k": 1})
    await fleet.agents["a"].ask(agents.Register(card))
    before = fleet.events.last_id
    update = agents.Update(wire.AgentStatus.IDLE, ready=True, meta={"l": 2}, instance="i")
    agent = await fleet.agents["a"].ask(update)
    assert (agent.status, agent.ready, agent.meta) == (wire.AgentStatus.IDLE, True, {"k": 1, "l": 2})
    told = [event.type for event in fleet.events.since(before)]
    assert told.count("agent.status") == 1
    silent = fleet.events.last_id
    assert (await fleet.agents["a"].ask(agents.Update(instance="i"))).ready
    assert fleet.events.last_id == silent
    with pytest.raises(Conflict):
        await fleet.agents["a"].ask(agents.Update(ready=False, instance="j"))
