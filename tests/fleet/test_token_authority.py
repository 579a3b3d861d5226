"""The authority over tokens: who may still ask it, what it gives away, what it forgets, and what it shows to whom."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay import wire
from relay.actors import open_system, virtual_wall
from relay.fleet import Caller, Fleet, Forbidden, open_fleet, tokens
from relay.fleet.tokens import KEPT, Held
from relay.http.keys import Keyring
from relay.http.verifying import Verifier
from relay.store import open_store

ROOT = Caller("root", "root")
ALL = Held(frozenset({"*"}))


async def made(fleet: Fleet, held: Held = ALL, by: Caller = ROOT, **asked: Any) -> wire.Token:
    return await fleet.tokens.ask(tokens.Create(wire.NewToken(role="tester", **asked), held, by))


def of(token: wire.Token) -> tuple[Held, Caller]:
    """What whoever has the token comes with."""
    held = Held(frozenset(token.scope), token.constraints or wire.Constraints(), token.expires_at, token.jti)
    return held, Caller(token.sub, token.role, token.jti)


@pytest.mark.spec("M-I34", "TOK-6")
async def test_nothing_is_made_for_a_token_that_ended_while_its_request_waited(fleet: Fleet) -> None:
    """All were let in with a token that stood; the revocation is the first that the authority comes to."""
    maker = await made(fleet, scope=["*"])
    other = await made(fleet, scope=["*"])
    held, by = of(maker)
    asked: list[Any] = [
        tokens.Create(wire.NewToken(role="r"), held, by),
        tokens.MintForHost("h1", "orchestrator-h1", held, by),
        tokens.MintForRunner("a1", "h1", None, held, by),
        tokens.Renew(maker.jti, by),
        tokens.Remint(other.jti, "h1", by),
        tokens.Revoke(other.jti, held, by),
        tokens.NoteRotation("kid", by),
    ]
    refused: list[Any] = []

    async def ask(message: Any) -> None:
        with pytest.raises(Forbidden, match="not valid any more"):
            await fleet.tokens.ask(message)
        refused.append(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.tokens.ask, tokens.Revoke(maker.jti, ALL, ROOT))
        await wait_all_tasks_blocked()
        for message in asked:
            nursery.start_soon(ask, message)
    assert len(refused) == len(asked)
    assert {each.jti for each in tokens.list_tokens(fleet.store)} == {maker.jti, other.jti}
    assert tokens.get_token(fleet.store, other.jti).revoked_at is None


async def test_nothing_is_made_for_a_token_that_has_expired_meanwhile(fleet: Fleet) -> None:
    held, by = of(await made(fleet, scope=["*"], ttl_seconds=60))
    await made(fleet, attrs.evolve(held, expires_at=None), by)
    await trio.sleep(70)
    with pytest.raises(Forbidden, match="not valid any more"):
        await made(fleet, attrs.evolve(held, expires_at=None), by)


@pytest.mark.spec("W-I36")
async def test_a_runner_is_limited_to_what_its_host_is_limited_to(fleet: Fleet) -> None:
    limits = wire.Constraints(
        agents=["orchestrator-h1"], orchestrators=["h1"], channels=["ops"], paths=["/srv"], targets=["a2"]
    )
    token = await fleet.tokens.ask(
        tokens.MintForRunner("a1", "h1", "p1", attrs.evolve(ALL, constraints=limits), ROOT, "cmd_1")
    )
    assert token.constraints == wire.Constraints(
        agents=["a1"],
        orchestrators=["h1"],
        policies=["p1"],
        channels=["ops"],
        paths=["/srv"],
        targets=["a2"],
    )


async def test_who_is_limited_is_shown_as_many_as_it_asks_for(fleet: Fleet) -> None:
    """However many there are that it may not see."""
    mine = [await made(fleet, constraints=wire.Constraints(agents=["a1"])) for _ in range(3)]
    for _ in range(5):
        await made(fleet)
    held = attrs.evolve(ALL, constraints=wire.Constraints(agents=["a1", "a2"]))
    seen = tokens.list_tokens(fleet.store, seen_by=held, limit=2)
    assert len(seen) == 2
    assert {each.jti for each in seen} < {each.jti for each in mine}
    assert len(tokens.list_tokens(fleet.store, limit=4)) == 4


async def test_a_clock_that_was_wrong_for_a_while_does_not_date_what_is_made_later() -> None:
    ahead = 0.0
    wall = virtual_wall()
    async with (
        open_system(wall=lambda: wall() + ahead, seed=1) as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
    ):
        edge = Verifier(Keyring.passing(), fleet)
        ahead = 1e8
        future = edge.issue(await made(fleet)).token
        assert edge.principal(future).subject == "tester"
        ahead = 0.0
        assert edge.principal(edge.issue(await made(fleet, sub="now")).token).subject == "now"


async def test_what_has_been_of_no_use_for_long_is_forgotten(autojump_clock: MockClock) -> None:
    ahead = 0.0
    wall = virtual_wall()
    async with (
        open_system(wall=lambda: wall() + ahead, seed=1) as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
    ):
        endless, short = await made(fleet), await made(fleet, ttl_seconds=60)
        revoked = await made(fleet)
        await fleet.tokens.ask(tokens.Revoke(revoked.jti, ALL, ROOT))
        ahead = 2.0 * KEPT
        assert await fleet.tokens.ask(tokens.Purge()) == 0, "the clock was set, and no time has passed"
        ahead = 0.0
        autojump_clock.jump(KEPT - 100)
        assert await fleet.tokens.ask(tokens.Purge()) == 0
        autojump_clock.jump(300)
        assert await fleet.tokens.ask(tokens.Purge()) == 2
        assert [each.jti for each in tokens.list_tokens(store)] == [endless.jti]
        assert tokens.find_token(store, short.jti) is None
