"""Five philosophers, five forks: a deadlock is an error that names its circle. Then an order that has none.

python examples/philosophers.py
"""

import attrs
import trio
import trio.testing

from relay.actors import Actor, ActorFailed, Ask, Context, Ref, open_system

PHILOSOPHERS = ("Plato", "Hypatia", "Averroes", "Spinoza", "Arendt")


class Fork:
    """The protocol."""


@attrs.frozen
class Hold(Ask[Fork, None]):
    """Hold this fork, and the `other` one if it is given, for as long as a meal takes."""

    other: Ref[Fork] | None = None


class Holding(Actor[Fork]):
    async def handle(self, message: Hold, context: Context[Fork]) -> None:
        """A fork handles one message at a time, so it is held until this returns."""
        await trio.sleep(1)  # time enough for everybody to get hold of a first fork
        if message.other is not None:
            await message.other.ask(Hold())
        context.reply(message, None)


async def dine(name: str, first: Ref[Fork], second: Ref[Fork]) -> None:
    try:
        await first.ask(Hold(other=second))
        print(f"  {name} has eaten")
    except ActorFailed as failed:
        # The fork whose wait would have closed the circle fails and is started again, so that the others go on.
        print(f"  {name} goes hungry: {failed.__cause__!r}")


async def dinner(*, in_order: bool) -> None:
    async with open_system() as system, trio.open_nursery() as table:
        forks = [await system.spawn(Holding, name=f"fork {number}") for number in range(5)]
        for number, name in enumerate(PHILOSOPHERS):
            pair = [number, (number + 1) % 5]
            if in_order:
                pair.sort()
            first, second = pair
            table.start_soon(dine, name, forks[first], forks[second])
            await trio.sleep(0.1)  # they sit down one after another


async def main() -> None:
    print("Everybody takes the left fork first:")
    await dinner(in_order=False)
    print("Everybody takes the fork with the lower number first:")
    await dinner(in_order=True)


if __name__ == "__main__":
    # All waiting goes through trio, so its mock clock makes the seconds pass at once.
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
