"""How far messages got, told from evidence: which rung of relay's ladder, with whom, and waiting for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .failure import Failure, Unreached
from .output import say, show_json

if TYPE_CHECKING:
    from relay import wire
    from relay.client import Client

__all__ = ["RUNGS", "Reached", "tell", "wait_for"]

RUNGS = ("stored", "handed", "confirmed", "replied")
"""What a sender may wait for. Whatever was handed over has been routed."""

LONGEST_WAIT = 25.0  # seconds that one request may wait
PAUSE = 0.5  # seconds before a server is asked again that did not answer


class Reached:
    """How far a message got when the waiting ended."""

    def __init__(self, sent: wire.Message, wanted: str, *, one: bool) -> None:
        from relay import wire

        self.sent = sent
        self.wanted = wire.Rung(wanted)
        self.one = one or sent.claimable is True
        self.progress: Sequence[wire.Progress] = ()

    @property
    def rung(self) -> wire.Rung:
        """Of all recipients the lowest rung, or of `one` the highest."""
        from relay import wire

        if not self.progress:
            expired = self.sent.delivery_status is wire.DeliveryStatus.EXPIRED
            return wire.Rung.EXPIRED if expired else wire.Rung.STORED
        choose = max if self.one else min
        return choose((each.rung for each in self.progress), key=lambda rung: rung.height)

    @property
    def enough(self) -> bool:
        return self.rung.height >= self.wanted.height

    @property
    def hopeless(self) -> bool:
        """Whoever has not come so far is given up, and nobody else is expected to."""
        from relay import wire

        if not self.progress:
            return self.sent.delivery_status is wire.DeliveryStatus.EXPIRED
        short = [each for each in self.progress if each.rung.height < self.wanted.height]
        return not self.enough and all(each.rung in (wire.Rung.DEAD, wire.Rung.EXPIRED) for each in short)


async def wait_for(client: Client, sent: wire.Message, wanted: str, *, within: float, one: bool) -> Reached:
    """Wait until the message has come so far, or nothing more is to be expected, or the time is over."""
    import trio

    from relay.client import Refused, RelayError

    reached = Reached(sent, wanted, one=one)
    until = trio.current_time() + within
    while not reached.enough and not reached.hopeless:
        left = until - trio.current_time()
        with trio.move_on_at(until + 1.0):  # what is known at the end is asked for once more
            try:
                wait = max(0.0, min(LONGEST_WAIT, left))
                reached.progress = await client.progress(sent.id, rung=wanted, any=reached.one, wait=wait)
                if not reached.progress:
                    reached.sent = await client.message(sent.id)
            except Refused:
                raise
            except RelayError:
                await trio.sleep(PAUSE)
        if left <= 0:
            break
    return reached


def tell(reached: Reached, *, within: float, as_json: bool) -> None:
    """Say how far it got. Raises `Unreached` when the time was over before, and `Failure` when it will not get further."""
    from relay import wire

    sent, rung = reached.sent, reached.rung
    if as_json:
        told: dict[str, Any] = {"rung": rung, "deliveries": [wire.to_json(each) for each in reached.progress]}
        show_json(wire.to_json(sent) | told)
    else:
        say(f"message {sent.id} to {sent.to} is {rung}")
        if len(reached.progress) > 1 or rung is wire.Rung.DEAD:
            for each in reached.progress:
                say(f"  {each.agent_id}  {each.rung}{f': {each.error}' if each.error else ''}")
    if reached.enough:
        return
    if reached.hopeless:
        then = f"relay dlq redeliver {sent.id}" if rung is wire.Rung.DEAD else "send it again"
        raise Failure(f"message {sent.id} is {rung}, and was to be {reached.wanted}", then=then)
    alone = reached.progress[0].agent_id if len(reached.progress) == 1 else None
    raise Unreached(
        f"message {sent.id} is {rung}, and not {reached.wanted} within {within:g} s",
        why="that may still come: nothing is lost" if reached.progress else "nobody is there to take it yet",
        then=f"relay inbox {alone}" if alone else "relay agents shows who is there",
    )
