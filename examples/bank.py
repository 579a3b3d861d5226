"""A crash, what survives it and what does not: two accounts, a transfer, a refusal and a bug.

python examples/bank.py
"""

import attrs
import trio

from relay.actors import Actor, ActorFailed, Ask, Context, Refusal, Supervision, open_system


class Account:
    """The protocol."""


@attrs.frozen
class Book(Ask[Account, int]):
    """Adds to the balance, or takes from it. Answered with the new one."""

    amount: int


@attrs.frozen
class GiveAway(Ask[Account, int]):
    """Gives away one part of so many. That there may be none is a bug."""

    parts: int


class NotEnough(Refusal):
    """An answer that says no. Any other exception is a crash."""


class Keeper(Actor[Account]):
    def __init__(self, owner: str, balances: dict[str, int]) -> None:
        self.owner = owner
        self.balances = balances  # made outside: the next incarnation is given the same
        self.booked = 0  # made here: the next incarnation begins anew

    def handle(self, message: Book | GiveAway, context: Context[Account]) -> None:
        balance = self.balances[self.owner]
        amount = message.amount if isinstance(message, Book) else -balance // message.parts
        if balance + amount < 0:
            raise NotEnough(f"{self.owner} has {balance}, which is less than {-amount}")
        self.balances[self.owner] = balance + amount
        self.booked += 1
        print(f"  {self.owner} has {balance + amount}; bookings of this incarnation: {self.booked}")
        context.reply(message, balance + amount)


async def main() -> None:
    balances = {"ann": 100, "ben": 20}
    patient = Supervision(restarts=3, within=10)  # a fourth crash within ten seconds would end the block
    async with open_system() as system:
        ann = await system.spawn(Keeper, "ann", balances, name="ann", supervision=patient)
        ben = await system.spawn(Keeper, "ben", balances, name="ben", supervision=patient)

        print("Ann sends 30 to Ben:")
        await ann.ask(Book(-30))
        await ben.ask(Book(30))

        try:
            await ann.ask(Book(-500))
        except NotEnough as refusal:
            print(f"Refused, and the account goes on: {refusal}")

        try:
            await ann.ask(GiveAway(parts=0))
        except ActorFailed as failed:
            print(f"Crashed by a bug: {failed.__cause__}")

        print("Ann's account is started again. Ref, mailbox and balances are the same, its own state is not:")
        await ann.ask(Book(5))  # waits in the mailbox until the next incarnation is there
        print("Ben's account did not notice:")
        await ben.ask(Book(5))


if __name__ == "__main__":
    trio.run(main)
