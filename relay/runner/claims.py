"""Claims on messages: won before the delivery, kept up while the agent works, let go when it is done (1.13, 1.14).

    free      won -> held               refused, or no answer -> free
    held      acknowledged -> free, or, when the message is a task, -> taken        not taken by the agent -> free
    taken     a turn that began since it was won has ended -> owed        the agent says itself how it ended -> free
    owed      relay knows that the task is done, or knows better -> free

Relay is told that a task has begun when it is won, and that it is done when it is owed. A turn that runs when a task is
acknowledged counts as begun since; one that the agent died or failed in does not. Of a task that the agent speaks of itself
the runner says no more. Everything that is not free is renewed. A renewal that fails is no loss: the claim then ends by itself.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import attrs
import trio

from relay import wire
from relay.client import Client, RelayError

from .activity import TURN, Activity
from .options import Options
from .tasks import Tasks, task_of

__all__ = ["Claims"]

log = logging.getLogger(__name__)

AGAIN = 30.0  # seconds between two tries to tell relay what it is owed
MOST_SAID = 1_000  # reports of the agent that relay has not heard yet; the oldest are given up


@attrs.define
class _Claim:
    """`observed`: a turn has begun since it was won. `owed`: it has ended. `spoken`: the agent speaks of it itself."""

    message: wire.Message
    taken: bool = False
    observed: bool = False
    owed: bool = False
    spoken: bool = False


@attrs.frozen
class _Said:
    """What the agent says of a task."""

    task: int
    status: wire.TaskStatus
    body: str | None
    metadata: object


class Claims:
    """The claims of one agent."""

    def __init__(
        self, options: Options, relay: Client, activity: Activity, publish: Callable[[], None]
    ) -> None:
        self._options = options
        self._relay = relay
        self._activity = activity
        self._publish = publish
        self._tasks = Tasks(relay, options.agent_id)
        self._held: dict[int, _Claim] = {}
        self._said: deque[_Said] = deque(maxlen=MOST_SAID)
        self._to_tell = trio.Event()
        self._telling = trio.Lock()

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
        self._publish()
        if (task := task_of(message)) is not None:
            await self._tasks.begun(task, message.id)

    def acknowledged(self, number: int) -> None:
        """The agent has taken the message."""
        claim = self._held.get(number)
        if claim is None:
            return
        claim.taken = True
        if task_of(claim.message) is None:
            self.let_go(number)
            return
        in_turn = self._activity.has(TURN)
        if claim.observed and not in_turn:
            self._finish(claim)
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

    def turn_ended(self, *, failed: bool = False) -> None:
        """Every task that the agent had taken, and worked on, is done; unless the turn has `failed`."""
        for claim in self._held.values():
            if failed:
                claim.observed = False
            elif claim.taken and claim.observed:
                self._finish(claim)
        self._to_tell.set()

    def _finish(self, claim: _Claim) -> None:
        claim.owed = not claim.spoken
        self._to_tell.set()

    def said(
        self, task: int, status: wire.TaskStatus, body: str | None = None, metadata: object = None
    ) -> None:
        """The agent says itself how a task is (1.14-6)."""
        for claim in self._held.values():
            if task_of(claim.message) == task:
                claim.spoken, claim.owed = True, False
        self._said.append(_Said(task, status, body, metadata))
        self._to_tell.set()

    def agent_died(self) -> None:
        """A turn that was cut short proves nothing (1.14-5)."""
        for claim in self._held.values():
            claim.observed = False

    async def report(self) -> None:
        """Tell relay what becomes of tasks, for ever."""
        while True:
            self._to_tell = trio.Event()
            told = await self.finish()
            with trio.CancelScope(deadline=trio.current_time() + AGAIN if not told else float("inf")):
                await self._to_tell.wait()

    async def finish(self) -> bool:
        """Tell relay what it is owed; whether that was all."""
        async with self._telling:
            if not await self._pass_on():
                return False
            owed = [claim for claim in self._held.values() if claim.owed]
            return all([await self._done(claim) for claim in owed])

    async def _pass_on(self) -> bool:
        """Tell relay what the agent has said, in its order."""
        while self._said:
            said = self._said[0]
            if not await self._tasks.said(said.task, said.status, said.body, said.metadata):
                return False
            if self._said and self._said[0] is said:
                self._said.popleft()
            if said.status.final or said.status is wire.TaskStatus.OPEN:
                self._let_go_of_task(said.task)
        return True

    async def _done(self, claim: _Claim) -> bool:
        task = task_of(claim.message)
        assert task is not None
        if not await self._tasks.done(task, claim.message.id):
            return False
        if self._held.get(claim.message.id) is claim:
            self.let_go(claim.message.id)
        return True

    def _let_go_of_task(self, task: int) -> None:
        for number in [number for number, claim in self._held.items() if task_of(claim.message) == task]:
            self.let_go(number)

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
            if self._held:
                self._publish()

    def _note(self, message: wire.Message, claim: wire.Claim) -> None:
        self._activity.claim("message", str(message.id), claim.claim_expires_at)
        if (task := task_of(message)) is not None:
            self._activity.claim("task", str(task), claim.claim_expires_at)
