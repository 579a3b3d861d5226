"""Actors that depend on each other: who is started again with whom, and what happens when that does not help.

python examples/supervisor.py
"""

import attrs
import trio
import trio.testing

from relay.actors import (
    Actor,
    ActorFailed,
    Ask,
    Child,
    Context,
    RestartsExhausted,
    Strategy,
    Supervision,
    Supervisor,
    open_system,
)


class Part:
    """The protocol of all three."""


@attrs.frozen
class Use(Ask[Part, str]):
    carefully: bool


class Machine(Actor[Part]):
    """Made from others, and of no use with any but those."""

    def __init__(self, name: str, *made_from: Child[Part]) -> None:
        self.name = name
        self.made_from = [child.ref for child in made_from]  # started before this one

    def started(self, context: Context[Part]) -> None:
        print(f"  {self.name} starts" + "".join(f", with {ref.address}" for ref in self.made_from))

    def stopped(self, context: Context[Part]) -> None:
        print(f"  {self.name} ends")

    def handle(self, message: Use, context: Context[Part]) -> None:
        if not message.carefully:
            raise RuntimeError(f"{self.name} breaks")
        context.reply(message, f"{self.name} works")


async def use(child: Child[Part], *, carefully: bool) -> None:
    try:
        print(await child.ref.ask(Use(carefully)))
    except ActorFailed as failed:
        print(failed.__cause__)
    await trio.sleep(1)  # the group comes back after a tenth of a second


async def main() -> None:
    disk = Child(Machine, "disk", name="disk")
    cache = Child(Machine, "cache", disk, name="cache")
    index = Child(Machine, "index", disk, cache, name="index")
    budget = Supervision(restarts=2, within=60)  # for all children together
    itself = Supervision(restarts=0)  # a group that is given up is not tried again
    async with open_system() as system:
        three = [disk, cache, index]
        await system.spawn(Supervisor, three, Strategy.REST_FOR_ONE, budget, supervision=itself)
        for child in (cache, index, disk, index, cache):
            await use(child, carefully=child is index)


if __name__ == "__main__":
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    except* RestartsExhausted as group:
        for error in group.exceptions:
            print(f"That was once too often, and the block ends with {type(error).__name__}.")
