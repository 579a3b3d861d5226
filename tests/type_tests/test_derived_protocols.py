"""What types cannot refuse is refused at the spawn: a protocol that derives from another can be had by narrowing."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from relay.actors import Actor, Context, Ref, System, Tell, open_system


class Read:
    """A protocol with a message."""


class Admin(Read):
    """Another, which takes a ref of the first one for its own."""


class Silent:
    """One without messages."""


class Loud(Silent):
    """One that derives from it."""


class Base:
    """A class like any other: nobody speaks it."""


class Derived(Base):
    """A protocol."""


@attrs.frozen
class Get(Tell[Read]):
    pass


@attrs.frozen
class Put(Tell[Admin]):
    pass


@attrs.frozen
class Shout(Tell[Loud]):
    pass


@attrs.frozen
class Do(Tell[Derived]):
    pass


class Reading(Actor[Read]):
    def handle(self, message: Get, context: Context[Read]) -> None: ...


class Administering(Actor[Admin]):
    def handle(self, message: Put, context: Context[Admin]) -> None: ...


class Both(Actor[Read | Admin]):
    def handle(self, message: Get | Put, context: Context[Read | Admin]) -> None: ...


class Quiet(Actor[Silent]):
    def handle(self, message: Any, context: Context[Silent]) -> None: ...


class Shouting(Actor[Loud]):
    def handle(self, message: Shout, context: Context[Loud]) -> None: ...


class Doing(Actor[Derived]):
    def handle(self, message: Do, context: Context[Derived]) -> None: ...


def escalate(reader: Ref[Read]) -> None:
    """What a type checker does not mind."""
    reader.tell(Put())


@pytest.mark.parametrize("kind", [Reading, Administering, Both])
async def test_a_protocol_that_derives_from_another_is_refused(
    system: System, kind: type[Actor[Any]]
) -> None:
    with pytest.raises(TypeError, match=r"Admin derives from the protocol Read; .* Actor\[Read \| Admin\]"):
        await system.spawn(kind)


async def test_so_is_one_that_derives_from_what_another_actor_speaks(system: System) -> None:
    for kind in (Quiet, Shouting):
        with pytest.raises(TypeError, match="Loud derives from the protocol Silent"):
            await system.spawn(kind)


def test_a_protocol_may_derive_from_what_is_none() -> None:
    async def main() -> None:
        async with open_system() as system:
            await system.spawn(Doing)

    trio.run(main)
