"""Tokens under every schedule: rivals who replace the same one, revocations between, crashes, commits that fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import trio

from relay import wire
from relay.actors import ActorError, Unavailable, open_system
from relay.fleet import Caller, Conflict, Fleet, Forbidden, NotFound, open_fleet, tokens
from relay.http.auth import BadToken
from relay.http.keys import Keyring
from relay.http.verifying import Verifier
from relay.store import open_store
from relay.testing import Faults, Sim, simulate

ROOT = Caller("root", "root")
EVERYTHING = tokens.Held(frozenset({"*"}))
T = TypeVar("T")


class People:
    """Whoever has tokens of one family, whoever ends it, and the edge that both are at."""

    def __init__(self, sim: Sim, fleet: Fleet) -> None:
        self.sim = sim
        self.fleet = fleet
        self.edge = Verifier(Keyring.passing(), fleet)
        fleet.revocations.listeners.append(self.edge.forget)
        self.texts: list[str] = []
        self.revoked = False
        self.refused = 0
        self.passed = 0
        self.repeated = 0

    async def ask(self, message: Any) -> Any:
        """The answer, however often it has to be asked for; what was in vain may have happened."""
        while True:
            try:
                return await self.fleet.tokens.ask(message)
            except (ActorError, Unavailable):
                self.repeated += 1
                await trio.sleep(1)

    async def tried(self, call: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await call()
        except (Forbidden, Conflict, NotFound):
            self.refused += 1
            return None

    async def make(self) -> wire.Token:
        asked = wire.NewToken(
            role="provider",
            profile_id="provider-agent",
            sub="runner:a1",
            constraints=wire.Constraints(orchestrators=["h1"]),
        )
        made: wire.Token = await self.ask(tokens.Create(asked, EVERYTHING, ROOT))
        self.texts.append(self.edge.issue(made).token)
        return made

    async def replace(self, jti: str) -> None:
        """Whoever has a token wants another, again and again: by itself, or through its host."""
        for _ in range(3):
            await self.sim.pause(5)
            wish: Any = tokens.Renew(jti, ROOT) if self.sim.choose(2) else tokens.Remint(jti, "h1", ROOT)
            try:
                made = await self.fleet.tokens.ask(wish)
            except (Forbidden, Conflict):
                self.refused += 1
                return
            except (ActorError, Unavailable):
                self.repeated += 1
                continue
            self.texts.append(self.edge.issue(made).token)
            jti = made.jti

    async def revoke(self, first: str) -> None:
        """Ends the family, whichever token of it is the newest."""
        await self.sim.pause(12)
        jti = first
        while not self.revoked:
            try:
                await self.fleet.tokens.ask(tokens.Revoke(jti, EVERYTHING, ROOT))
                self.revoked = True
            except NotFound:
                known = tokens.get_token(self.fleet.store, jti)
                if known.replaced_by is None:
                    self.revoked = True  # an earlier try, whose answer was lost
                jti = known.replaced_by or jti
            except (ActorError, Unavailable):
                self.repeated += 1
                await trio.sleep(1)

    async def use(self) -> None:
        """Requests with every token there is, all the time: also between what others do at the same instant."""
        for _ in range(12):
            for _ in range(3):
                self.look()
                await trio.lowlevel.checkpoint()
            await self.sim.pause(3)

    def look(self) -> None:
        revoked = self.revoked
        for text in self.texts:
            try:
                self.edge.principal(text)
            except BadToken:
                continue
            assert not revoked, "a token of a revoked family passes"
            self.passed += 1


@pytest.mark.spec("M-I34", "W-I34", "W-I35", "W-I36", "W-I37")
@simulate(
    runs=60,
    faults=Faults(crash=0.05, delay=0.03, named={"store.commit": 0.05}, most=6, only=("tokens",)),
)
async def test_a_token_of_a_revoked_family_never_passes(sim: Sim) -> None:
    async with open_system() as system, open_store(None, system) as store, open_fleet(system, store) as fleet:
        people = People(sim, fleet)
        first = await people.make()
        sim.sometimes(lambda: people.refused > 0, "somebody was refused")
        sim.sometimes(lambda: people.repeated > 0, "something was asked again")
        sim.sometimes(lambda: len(people.texts) > 2, "the token was replaced more than once")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(people.use)
            for _ in range(3):
                nursery.start_soon(people.replace, first.jti)
            nursery.start_soon(people.revoke, first.jti)
        assert people.revoked
        assert people.passed > 0
        people.look()
        family = [each for each in tokens.list_tokens(store) if each.family == first.jti]
        assert all(each.revoked_at is not None for each in family)
        assert len([each for each in family if each.replaced_by is None]) == 1
        successors = [each.replaced_by for each in family if each.replaced_by is not None]
        assert len(set(successors)) == len(successors), "each is replaced by one, and each replaces one"
        assert len(successors) == len(family) - 1
        for each in family:
            assert (each.scope, each.constraints, each.sub) == (first.scope, first.constraints, first.sub)
