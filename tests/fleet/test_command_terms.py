"""Commands: how long an execution may take, what relay itself concludes, and what is told to those who are late."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log

from relay import wire
from relay.actors import System
from relay.fleet import (
    Conflict,
    Fleet,
    Invalid,
    NotFound,
    Settled,
    agents,
    commands,
    maintenance,
    open_fleet,
    orchestrators,
)
from relay.store import Store

S = wire.CommandStatus


async def create(fleet: Fleet, **fields: Any) -> wire.Command:
    return await commands.create_command(
        fleet, wire.NewCommand(**{"type": "t", "source": "s", "target": "a1", **fields})
    )


async def patch(fleet: Fleet, key: str, status: S | None = None, **fields: Any) -> wire.Command:
    return await fleet.commands[key].ask(commands.Patch(wire.PatchCommand(status=status, **fields)))


async def expired(fleet: Fleet) -> tuple[str, ...]:
    return (await fleet.maintenance.ask(maintenance.Reap())).expired_command_ids


@pytest.mark.spec("CMD-12", "22.4")
async def test_an_execution_has_a_term_of_its_own(fleet: Fleet, log: Log) -> None:
    key = (await create(fleet, execution_ms=10_000)).id
    await trio.sleep(3_600)
    assert await expired(fleet) == ()
    begun = await patch(fleet, key, S.ACCEPTED)
    assert begun.expires_at is not None and begun.updated_at is not None
    assert begun.expires_at == pytest.approx(begun.updated_at + 10)
    await trio.sleep(9)
    assert await expired(fleet) == ()
    await trio.sleep(2)
    assert await expired(fleet) == (key,)
    ended = commands.get_command(fleet.store, key)
    assert (ended.status, ended.outcome_unknown) == (S.TIMED_OUT, True)
    assert log.types() == ["command.requested", "command.accepted", "command.timed_out"]


async def test_the_term_begins_anew_with_the_work_and_with_each_claim_but_not_with_progress(
    fleet: Fleet,
) -> None:
    key = (await create(fleet, execution_ms=10_000)).id
    for claim in ("h1/a", "h1/a"):
        token = await fleet.commands[key].ask(commands.Claim(claim))
        await trio.sleep(8)
    await patch(fleet, key, S.RUNNING, token=token)
    await trio.sleep(8)
    assert await expired(fleet) == ()
    await patch(fleet, key, S.RUNNING, token=token, result={"half": True})
    await trio.sleep(3)
    assert await expired(fleet) == (key,)


async def test_once_it_has_begun_its_life_time_is_replaced_by_the_term(fleet: Fleet) -> None:
    key = (await create(fleet, ttl_ms=5_000, execution_ms=60_000)).id
    await trio.sleep(4)
    await patch(fleet, key, S.RUNNING)
    await trio.sleep(30)
    assert await expired(fleet) == ()
    await trio.sleep(30 + maintenance.EVERY)
    assert commands.get_command(fleet.store, key).status is S.TIMED_OUT


async def test_nobody_did_what_nobody_had_begun(fleet: Fleet) -> None:
    key = (await create(fleet, ttl_ms=1_000, execution_ms=60_000)).id
    await trio.sleep(2)
    assert await expired(fleet) == (key,)
    assert commands.get_command(fleet.store, key).outcome_unknown is None


@pytest.mark.parametrize("begun", [False, True])
async def test_who_calls_off_what_has_begun_does_not_know_what_was_done(fleet: Fleet, begun: bool) -> None:
    key = (await create(fleet)).id
    if begun:
        await patch(fleet, key, S.RUNNING)
    await fleet.commands[key].ask(commands.Cancel())
    assert commands.get_command(fleet.store, key).outcome_unknown is (True if begun else None)


async def test_a_term_goes_on_after_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        key = (await create(fleet, execution_ms=300_000)).id
        await patch(fleet, key, S.RUNNING)
    await trio.sleep(100)
    async with open_fleet(system, store) as fleet:
        await trio.sleep(190)
        assert commands.get_command(store, key).status is S.RUNNING
        await trio.sleep(10 + maintenance.EVERY)
        assert commands.get_command(store, key).status is S.TIMED_OUT


@pytest.mark.spec("CMD-13", "W-I19")
async def test_relays_own_commands_wait_for_ever_and_are_not_carried_out_for_ever(fleet: Fleet) -> None:
    card = wire.RegisterOrchestrator(
        id="h1", hostname="h", base_dir="/base", providers=(wire.Provider.COMMAND,)
    )
    await fleet.orchestrators["h1"].ask(orchestrators.Register(card))
    spawn = orchestrators.Spawn(wire.SpawnAgent(provider=wire.Provider.COMMAND))
    first, second = [(await fleet.orchestrators["h1"].ask(spawn)).command for _ in range(2)]
    assert (first.ttl_ms, first.expires_at) == (None, None)
    await fleet.agents["a1"].ask(agents.Register(wire.RegisterAgent(id="a1")))
    prompt = (await fleet.agents["a1"].ask(agents.Prompt("hi"))).command_id
    assert commands.get_command(fleet.store, prompt).expires_at is None
    for key in (first.id, prompt):
        await patch(fleet, key, S.ACCEPTED)
    await trio.sleep(3_600)
    for key in (first.id, prompt):
        assert commands.get_command(fleet.store, key).status is S.TIMED_OUT
    assert commands.get_command(fleet.store, second.id).status is S.PENDING


@pytest.mark.spec("M-I16", "M-I45")
async def test_what_relay_concludes_counts_once_whoever_has_claimed_the_command(
    fleet: Fleet, log: Log
) -> None:
    key = (await create(fleet)).id
    command = fleet.commands[key]
    await command.ask(commands.Claim("h1/a"))
    ended = await command.ask(commands.Conclude(S.SUCCEEDED, {"version": "2"}))
    assert (ended.status, ended.result, ended.outcome_unknown) == (S.SUCCEEDED, {"version": "2"}, None)
    assert await command.ask(commands.Conclude(S.FAILED, error="late")) == ended
    assert commands.get_command(fleet.store, key) == ended
    assert log.types() == ["command.requested", "command.accepted", "command.succeeded"]
    with pytest.raises(NotFound):
        await fleet.commands["cmd_x"].ask(commands.Conclude(S.FAILED))


@pytest.mark.spec("CMD-11", "CMD-14")
async def test_who_is_late_is_told_how_it_ended(fleet: Fleet) -> None:
    key = (await create(fleet, execution_ms=1_000)).id
    await fleet.commands[key].ask(commands.Claim("h1/a"))
    with pytest.raises(Conflict) as early:
        await patch(fleet, key, S.SUCCEEDED, token=7)
    assert not isinstance(early.value, Settled)
    await trio.sleep(2)
    await expired(fleet)
    for token in (1, 7):
        with pytest.raises(Settled) as late:
            await patch(fleet, key, S.SUCCEEDED, token=token)
        assert late.value.record == commands.get_command(fleet.store, key)


@pytest.mark.spec("CMD-4")
async def test_a_list_has_bounds_and_goes_on_after_its_last(fleet: Fleet) -> None:
    made = [(await create(fleet, params={"n": number})).id for number in range(5)]
    listed = [command.id for command in commands.list_commands(fleet.store, limit=2)]
    assert listed == made[:2]
    assert [c.id for c in commands.list_commands(fleet.store, after=listed[-1])] == made[2:]
    assert commands.list_commands(fleet.store, after=made[-1]) == []
    with pytest.raises(Invalid, match="cmd_x"):
        commands.list_commands(fleet.store, after="cmd_x")
    for _ in range(80):
        await create(fleet, target="big", params={"text": "x" * 65_000})
    found = commands.list_commands(fleet.store, target="big", limit=500)
    assert 60 < len(found) < 70
    rest = commands.list_commands(fleet.store, target="big", after=found[-1].id, limit=500)
    assert len(found) + len(rest) == 80
