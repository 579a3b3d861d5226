"""Money is paid in by many at once, while the account crashes: under every schedule nothing is lost that was confirmed.

pytest -v examples/test_account.py, or python examples/test_account.py
"""

import sys

import attrs
import pytest
import trio

from relay.actors import Actor, ActorFailed, Ask, Context, Ref, open_system
from relay.testing import Faults, Sim, simulate


class Account:
    """The protocol."""


@attrs.frozen
class Balance(Ask[Account, int]):
    pass


@attrs.frozen
class Deposit(Ask[Account, int]):
    amount: int


class Keeper(Actor[Account]):
    """Keeps the balance in `book`, which outlives its restarts."""

    def __init__(self, book: list[int]) -> None:
        self.book = book

    def handle(self, message: Balance | Deposit, context: Context[Account]) -> None:
        if isinstance(message, Deposit):
            self.book.append(message.amount)
        context.reply(message, sum(self.book))


async def pay_in(account: Ref[Account], amount: int, confirmed: list[int]) -> None:
    try:
        await account.ask(Deposit(amount))
    except ActorFailed:
        return  # nobody knows whether it was booked
    confirmed.append(amount)


@simulate(faults=Faults(crash=0.05, most=3))
async def test_what_was_confirmed_is_there(sim: Sim) -> None:
    book: list[int] = []
    confirmed: list[int] = []
    sim.always(lambda: sum(confirmed) <= sum(book))
    sim.sometimes(lambda: sum(confirmed) < sum(book), "a deposit is booked and not yet confirmed")
    async with open_system() as system:
        account = await system.spawn(Keeper, book, name="account")
        async with trio.open_nursery() as nursery:
            for amount in (10, 20, 30):
                nursery.start_soon(pay_in, account, amount, confirmed)


if __name__ == "__main__":
    sys.exit(pytest.main(["-v", __file__]))
