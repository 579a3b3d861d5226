"""A token bucket per user: a family starts a bucket at its first use, a timer fills it, a full one falls asleep.

python examples/rate_limiter.py
"""

import attrs
import trio
import trio.testing

from relay.actors import Actor, Ask, Context, Family, Tell, open_system

CAPACITY = 3
SECONDS_PER_TOKEN = 1.0


class Limiting:
    """The protocol."""


@attrs.frozen
class Take(Ask[Limiting, bool]):
    """Whether there was a token left."""


@attrs.frozen
class Fill(Tell[Limiting]):
    """The bucket tells itself, by a timer."""


class Bucket(Actor[Limiting]):
    def __init__(self, user: str) -> None:
        self.user = user
        self.tokens = CAPACITY

    def started(self, context: Context[Limiting]) -> None:
        print(f"{context.system.now():4.1f} s  {self.user} gets a bucket of {self.tokens} tokens")

    def handle(self, message: Take | Fill, context: Context[Limiting]) -> None:
        full = self.tokens == CAPACITY
        match message:
            case Take():
                context.reply(message, self.tokens > 0)
                self.tokens = max(0, self.tokens - 1)
                if full:
                    context.set_timer("fill", SECONDS_PER_TOKEN, Fill())
            case Fill():
                self.tokens += 1
                # A member with an armed timer stays awake. A full bucket arms none: it is like a new one and may go.
                if self.tokens < CAPACITY:
                    context.set_timer("fill", SECONDS_PER_TOKEN, Fill())


async def request(buckets: Family[str, Limiting], user: str, times: int) -> None:
    answers = ["yes" if await buckets[user].ask(Take()) else "no" for _ in range(times)]
    print(f"{trio.current_time():4.1f} s  {user} may: {', '.join(answers)}")


async def main() -> None:
    async with open_system() as system:
        buckets = system.family(Bucket, name="buckets", idle=10.0)
        await request(buckets, "ann", 5)
        await request(buckets, "bob", 1)
        await trio.sleep(2.5)
        await request(buckets, "ann", 3)
        print(f"{trio.current_time():4.1f} s  {len(buckets)} buckets are awake: {', '.join(buckets)}")
        await trio.sleep(60)
        print(f"{trio.current_time():4.1f} s  {len(buckets)} buckets are awake")
        await request(buckets, "ann", 1)


if __name__ == "__main__":
    # All waiting goes through trio, so its mock clock makes a minute pass at once.
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
