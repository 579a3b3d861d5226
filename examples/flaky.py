"""A flaky test made deterministic: the schedule that fails it is found, replayed, and cured by a better protocol.

python examples/flaky.py
"""

import subprocess
import sys
from pathlib import Path

import attrs
import trio

from relay.actors import Actor, Ask, Context, Ref, Tell, open_system
from relay.testing import Sim, simulate


class Account:
    """The protocol. What is wrong with it: who sets the balance goes by one that may be old."""


class Balance(Ask[Account, int]):
    pass


@attrs.frozen
class SetBalance(Tell[Account]):
    balance: int


class Keeper(Actor[Account]):
    balance = 0

    def handle(self, message: Balance | SetBalance, context: Context[Account]) -> None:
        match message:
            case Balance():
                context.reply(message, self.balance)
            case SetBalance(balance):
                self.balance = balance


async def pay_in_ten(account: Ref[Account], moments: int) -> None:
    balance = await account.ask(Balance())
    for _ in range(moments):
        await trio.lowlevel.checkpoint()  # stands for whatever takes a moment: a file, a request
    account.tell(SetBalance(balance + 10))


async def after_two_payments() -> int:
    async with open_system() as system:
        account = await system.spawn(Keeper, name="account")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay_in_ten, account, 0)
            nursery.start_soon(pay_in_ten, account, 1)
        return await account.ask(Balance())


@simulate()
async def test_no_payment_is_lost(sim: Sim) -> None:
    assert await after_two_payments() == 20


def pytest(file: str, *options: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-v", str(Path(__file__).parent / file), *options]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()


if __name__ == "__main__":
    found = [trio.run(after_two_payments) for _ in range(200)]
    print(f"Plain trio, which runs what is ready in any order: {found.count(20)} of 200 runs pass.")
    failure = [line[8:] for line in pytest("flaky.py") if line.startswith("E  ")]
    print("@simulate finds a schedule that fails, and simplifies it:", *failure, sep="\n    ")
    again = [failure[0] in "\n".join(pytest("flaky.py", *failure[-1].split()[-2:])) for _ in range(3)]
    print(f"Replayed 3 times, it fails {sum(again)} times in the same way, under a debugger if you like.")
    print("test_account.py has the cure, nobody but the actor adds to the balance. Though it crashes:")
    print(*(f"    {line}" for line in pytest("test_account.py", "--relay-runs=500") if "steps/s" in line))
