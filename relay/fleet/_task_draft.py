"""One decision about tasks while it is made: rows, history, events, callbacks, and the claims on messages that follow.

All claims that stand for a task follow the task: they have its holder and its end, or there are none (M-I6). What is
told of messages comes before what is told of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from relay import wire
from relay.store import Decision, Event, Write

from . import callbacks
from ._claims import Held, claim_announced, claim_released
from ._moment import Moment
from ._recipe_protocol import tells_of_task
from ._task_rows import inserted, noted, told, updated
from ._task_rules import HELD

if TYPE_CHECKING:
    from .messages import PostOffice

__all__ = ["Draft"]

R = TypeVar("R")


class Draft:
    """Gathers what a decision of `moment` causes. What is put in counts at once, so the decision must be settled."""

    def __init__(self, office: PostOffice, moment: Moment) -> None:
        self._office = office
        self.moment = moment
        self._writes: list[Write] = []
        self._of_messages: list[Event] = []
        self._of_tasks: list[Event] = []
        self._tells: list[Any] = []
        self.freed: list[int] = []

    def letter(self, decision: Decision[Any]) -> None:
        """What sending the task's message causes."""
        self._writes += decision.writes
        self._of_messages += decision.events
        self._tells += decision.tells

    def create(self, task: wire.Task) -> None:
        self._keep(task, inserted(task))
        self._writes.append(noted(task, wire.TaskChange.CREATED, self.moment, metadata=task.metadata))
        self._announce(task, new=True, called=True)

    def change(
        self,
        task: wire.Task,
        change: wire.TaskChange,
        *,
        called: bool = False,
        claimed: Iterable[int] = (),
        **said: Any,
    ) -> None:
        """The task is so from now on, and everybody hears of it. `called`: also the integrations. `claimed`: these messages
        are claimed with it."""
        self.extend(task, claimed)
        self._writes.append(noted(task, change, self.moment, **said))
        self._announce(task, new=False, called=called)

    def extend(self, task: wire.Task, claimed: Iterable[int] = ()) -> None:
        """The task is so from now on, and that is nobody else's business."""
        self.keep(task)
        if task.claimed_by is None:
            self._free(task)
        elif task.status in HELD:
            self._hold(task, claimed)

    def keep(self, task: wire.Task) -> None:
        """As `extend`; the claims on its messages are seen to elsewhere."""
        self._keep(task, updated(task))

    def write(self, writes: Iterable[Write]) -> None:
        self._writes += writes

    def release(self, numbers: Iterable[int]) -> None:
        """The claims on these messages are over."""
        for number in numbers:
            self._writes += self._office.claims.free([number])
            self._of_messages.append(claim_released(number))
            self.freed.append(number)

    def decision(self, reply: R) -> Decision[R]:
        return Decision(
            reply=reply,
            writes=tuple(self._writes),
            events=(*self._of_messages, *self._of_tasks),
            tells=tuple(self._tells),
        )

    def _keep(self, task: wire.Task, write: Write) -> None:
        self._office.tasks.book.keep(task)
        self._writes.append(write)

    def _announce(self, task: wire.Task, *, new: bool, called: bool) -> None:
        event = told(task, new=new)
        self._of_tasks.append(event)
        self._tells += tells_of_task(self._office.fleet, task)
        if called:
            rows = callbacks.callbacks_for(self._office.fleet, task, event.type, self.moment)
            self._writes += rows
            self._tells += [(self._office.fleet.callbacks, callbacks.Look())] if rows else []

    def _free(self, task: wire.Task) -> None:
        """After an end nobody is told: the messages cannot be claimed again."""
        claims = self._office.claims.on_task(task.id)
        if task.status.final:
            self._writes += self._office.claims.free(claims)
        else:
            self.release(claims)

    def _hold(self, task: wire.Task, claimed: Iterable[int]) -> None:
        """The holder of the task holds its message, too, and all that stand for it."""
        assert task.claimed_by is not None
        assert task.claim_expires_at is not None
        before = self._office.claims.on_task(task.id)
        mine = {number for number, held in before.items() if held.agent_id == task.claimed_by}
        numbers = mine | set(claimed) | self._own_message(task)
        self.release(sorted(before.keys() - numbers))
        held = Held(task.claimed_by, task.claim_expires_at, task.id)
        for number in sorted(numbers):
            known = before.get(number)
            self._writes.append(self._office.claims.hold(number, held))
            if known is None or known.agent_id != held.agent_id or known.until <= self.moment.at:
                self._of_messages.append(claim_announced(number, held))

    def _own_message(self, task: wire.Task) -> set[int]:
        """The message that hands the task over, unless it was deleted."""
        if task.message_id is None:
            return set()
        return set() if self._office.find(task.message_id) is None else {task.message_id}
