"""Claims on messages: won before the delivery, kept up while the agent works, let go when it is done (1.13, 1.14).

    free      won -> held               refused, or no answer -> free
    held      acknowledged -> free, or, when the message is a task, -> taken        not taken by the agent -> free
    taken     a turn that began since it was won has ended -> free

A turn that runs when a task is acknowledged counts as begun since; one that the agent died in does not. Everything that
is not free is renewed. A renewal that fails is no loss: the claim then ends by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs
import trio

from relay import wire
from relay.client import Client, RelayError

from .activity import TURN, Activity
from .options import Options

__all__ = ["Claims"]

log = logging.getLogger(__name__)


@attrs.define
class _Claim:
    """`observed`: a turn has begun since it was won."""

    message: wire.Message
    taken: bool = False
    observed: bool = False


class Claims:
    """The claims of one agent."""

    def __init__(
        self, options: Options, relay: Client, activity: Activity, publish: Callable[[], None]
    ) -> None:
        self._options = options
        self._relay = relay
        self._activity = activity
        self._publish = publish
        self._held: dict[int, _Claim] = {}

    async def win(self, message: wire.Message) -> bool:
        """Whether the message is this agent's to work on. One that is not comes back with the mailbox."""
        try:
            claim = await self._relay.claim(message.id, self._options.agent_id)
        except RelayError as error:
            log.debug("message %d is not claimed: %s", message.id, error)
            return False
        await self.hold(message, claim)
        return True

    async def hold(self, message: wire.Message, claim: wire.Claim) -> None:
        """The message is this agent's to work on: relay has said so."""
        self._held[message.id] = _Claim(message)
        self._note(message, claim)

    def acknowledged(self, number: int) -> None:
        """The agent has taken the message."""
        claim = self._held.get(number)
        if claim is None:
            return
        claim.taken = True
        in_turn = self._activity.has(TURN)
        if task_of(claim.message) is None or (claim.observed and not in_turn):
            self.let_go(number)
        claim.observed = in_turn

    def let_go(self, number: int) -> None:
        """The message is nobody's, as far as this agent goes."""
        claim = self._held.pop(number, None)
        if claim is None:
            return
        self._activity.release("message", str(number))
        if (task := task_of(claim.message)) is not None:
            self._activity.release("task", str(task))
        self._publish()

    def let_go_of_the_rest(self) -> None:
        """Of whatever was won and is not taken: its delivery has failed, or was broken off."""
        for number in [number for number, claim in self._held.items() if not claim.taken]:
            self.let_go(number)

    def turn_began(self) -> None:
        for claim in self._held.values():
            claim.observed = True

    def turn_ended(self) -> None:
        """Every task that the agent had taken, and worked on, is done."""
        for number in [number for number, claim in self._held.items() if claim.taken and claim.observed]:
            self.let_go(number)

    def agent_died(self) -> None:
        """A turn that was cut short proves nothing (1.14-5)."""
        for claim in self._held.values():
            claim.observed = False

    async def renew(self) -> None:
        """Keep up what is held, for ever."""
        while True:
            await trio.sleep(self._options.renewal)
            for message in [claim.message for claim in self._held.values()]:
                try:
                    claim = await self._relay.renew_claim(message.id, self._options.agent_id)
                except RelayError as error:
                    log.warning("the claim on message %d is not renewed: %s", message.id, error)
                    continue
                if message.id in self._held:
                    self._note(message, claim)

    def _note(self, message: wire.Message, claim: wire.Claim) -> None:
        self._activity.claim("message", str(message.id), claim.claim_expires_at)
        if (task := task_of(message)) is not None:
            self._activity.claim("task", str(task), claim.claim_expires_at)
        self._publish()


def task_of(message: wire.Message) -> int | None:
    """The task that the message hands over, if it does (1.13-11)."""
    task = (message.payload or {}).get("taskId")
    return task if isinstance(task, int) and not isinstance(task, bool) and abs(task) < 2**53 else None
