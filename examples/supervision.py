"""A failing actor is started again with a fresh state; whoever asked learns that it failed, and nobody else notices.

python examples/supervision.py
"""

import attrs
import trio

from relay.actors import Actor, ActorFailed, Ask, Context, Supervision, open_system


class Dividing:
    """The protocol."""


@attrs.frozen
class Divide(Ask[Dividing, float]):
    by: float


class Divider(Actor[Dividing]):
    def __init__(self, number: float) -> None:
        self.number = number

    def started(self, context: Context[Dividing]) -> None:
        print("started")

    def handle(self, message: Divide, context: Context[Dividing]) -> None:
        self.number /= message.by
        context.reply(message, self.number)


async def main() -> None:
    async with open_system() as system:
        patient = Supervision(restarts=3, within=10, backoff=0.01)
        divider = await system.spawn(Divider, 100.0, supervision=patient)
        quarter = await divider.ask(Divide(4))
        print("100 / 4 =", quarter)
        try:
            await divider.ask(Divide(0))
        except ActorFailed as error:
            print("failed:", error.__cause__)
        fifth = await divider.ask(Divide(5))
        print("100 / 5 =", fifth)  # the ref survived the restart, the state did not


if __name__ == "__main__":
    trio.run(main)
