"""Callbacks: what integrations are told about their tasks (messaging-control 9.4).

Whoever changes a task writes the rows that `callbacks_for` makes in the same decision, and tells the actor to `Look`.
From then on the rows are the actor's.

    | state  | event                          | new    |
    |--------|--------------------------------|--------|
    | -      | a task event                   | due    |
    | due    | taken by the receiver          | sent   |
    | due    | not taken, tries are left      | due    |
    | due    | not taken at the last try      | failed |
    | due    | integration no longer there    | failed |
    | due    | 1 000 newer ones wait as well  | failed |

1. A callback is tried at once, then 1, 5 and 25 s after a failure; every try has 5 s (O-36).
2. Those of one integration go one at a time and in the order of the task's events; those of others do not wait for them.
3. It arrives at least once: a server that ends between the call and its row tries again, with the same delivery id.
4. Nothing that becomes of it reaches the task (M-I38).
5. What has ended is kept for seven days.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs
import orjson
import trio

from relay import wire
from relay.actors import Context, Step, Tell
from relay.store import Decision, Write

from ._actor import FleetActor

if TYPE_CHECKING:
    from ._fleet import Fleet
    from ._moment import Moment

__all__ = [
    "CallbackProtocol",
    "Callbacks",
    "Callout",
    "Look",
    "Outgoing",
    "Sweep",
    "Undelivered",
    "Unreachable",
    "callbacks_for",
]

PAUSES = (1.0, 5.0, 25.0)  # seconds between the tries
TRY_WITHIN = 5.0  # seconds
MOST_AT_ONCE = 32  # calls, of as many integrations
MOST_WAITING = 1_000  # of one integration: with a place that is away they are tried for half a day
KEPT = 7 * 24 * 3_600.0  # seconds after its end
SWEEP_EVERY = 3_600.0
LONGEST_ERROR = 500  # characters
TOO_MANY = "too many wait"
NOT_THERE = "the integration is not configured any more"


@attrs.frozen
class Callout:
    """One call: `body` is to be sent as it is, signed with `secret`. `allow`: see `wire.IntegrationSettings`."""

    url: str
    secret: str = attrs.field(repr=False)
    delivery: str
    event: str
    body: bytes
    allow: Sequence[str] = ()


class Undelivered(Exception):
    """The receiver did not take it; the text says why."""


class Outgoing(Protocol):
    """The network. Whoever calls sets the limit in time."""

    async def deliver(self, callout: Callout) -> None:
        """Returns when the receiver took it, else raises `Undelivered`."""


class Unreachable:
    """A network where nobody is."""

    async def deliver(self, callout: Callout) -> None:
        raise Undelivered("this server calls nobody")


class CallbackProtocol:
    """What the actor of the callbacks understands."""


@attrs.frozen
class Look(Tell[CallbackProtocol]):
    """There may be something to do."""


@attrs.frozen
class Sweep(Tell[CallbackProtocol]):
    """Forget what ended long ago, and end what can never be sent. Told whenever other integrations are configured."""


@attrs.frozen
class Tried(Tell[CallbackProtocol]):
    """The outcome of one try: `error` says why the receiver did not take it."""

    due: Due
    error: str | None


@attrs.frozen
class Due:
    """A row that is to be tried; `attempt` counts the tries so far, `due_at` is epoch milliseconds."""

    id: int
    delivery: str
    integration: str
    event: str
    body: str = attrs.field(repr=False)
    attempt: int
    due_at: int


def callbacks_for(fleet: Fleet, task: wire.Task, event: str, moment: Moment) -> tuple[Write, ...]:
    """The rows for whoever is to hear of this event of the task (INT-20), to be written with the task."""
    called = [each for each in fleet.integrations.all() if is_called(each, task)]
    if not called:
        return ()
    body = orjson.dumps({"event": event, "task": wire.to_json(task)}).decode()
    return tuple(_row(each.name, task.id, event, body, moment) for each in called)


def is_called(integration: wire.IntegrationSettings, task: wire.Task) -> bool:
    """Whether the task is this integration's, and it wants to hear of its target and channel."""
    if integration.callback_url is None or integration.name != task.source:
        return False
    requested = (task.metadata or {}).get("relayRequestedTarget")
    by_target = (
        not integration.targets or task.target in integration.targets or requested in integration.targets
    )
    return by_target and (
        not integration.channels or task.channel is None or task.channel in integration.channels
    )


def _row(integration: str, task_id: int, event: str, body: str, moment: Moment) -> Write:
    row = (
        moment.next_id("callbacks"), moment.new_id("cb"), integration, task_id, event, body, moment.ms, moment.ms,
    )  # fmt: skip
    return Write(
        "insert into callbacks (id, delivery, integration, task_id, event, body, attempt, due_at, state, created_at)"
        " values (?, ?, ?, ?, ?, ?, 0, ?, 'due', ?)",
        row,
    )


class Callbacks(FleetActor[CallbackProtocol]):
    """Makes the calls that are due."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._calling: dict[str, Due] = {}  # by integration
        self._rests: dict[
            str, float
        ] = {}  # integration -> until when it is left alone, in seconds of the system

    def started(self, context: Context[CallbackProtocol]) -> None:
        for due in self._first_of(self._waiting()):
            if due.attempt:  # what is left of its pause, and never more than that, whatever the clock says
                left = due.due_at / 1000 - self.fleet.system.wall()
                self._rest(due.integration, min(max(0.0, left), PAUSES[due.attempt - 1]), context)
        context.set_timer("sweep", 0.0, Sweep(), every=SWEEP_EVERY)
        context.self_ref.tell(Look())

    def handle(self, message: Look | Sweep | Tried, context: Context[CallbackProtocol]) -> Step:
        match message:
            case Look():
                self._begin(context)
            case Sweep():
                return self._sweep(context)
            case Tried(due, error):
                return self._tried(due, error, context)
        return None

    def _begin(self, context: Context[CallbackProtocol]) -> None:
        """Begin every call that may begin now."""
        now = self.fleet.system.now()
        busy = {*self._calling, *(name for name, until in self._rests.items() if until > now)}
        free = [each.name for each in self.fleet.integrations.all() if each.name not in busy]
        for due in sorted(self._first_of(free), key=lambda due: due.id):
            if len(self._calling) >= MOST_AT_ONCE:
                return
            self._calling[due.integration] = due
            context.pipe(self._deliver, due, then=partial(Tried, due), failed=partial(_failed, due))

    async def _deliver(self, due: Due) -> str | None:
        """Why the receiver did not take it, or None if it did."""
        integration = self.fleet.integrations.find(due.integration)
        if integration is None or integration.callback_url is None:
            return "the integration is not called back any more"
        callout = Callout(
            integration.callback_url,
            integration.secret,
            due.delivery,
            due.event,
            due.body.encode(),
            integration.callback_allow,
        )
        try:
            with trio.fail_after(TRY_WITHIN):
                await self.fleet.outgoing.deliver(callout)
        except trio.TooSlowError:
            return f"no answer within {TRY_WITHIN:g} s"
        except Undelivered as error:
            return str(error)
        return None

    async def _tried(self, due: Due, error: str | None, context: Context[CallbackProtocol]) -> None:
        if self._calling.get(due.integration) is not due:
            return  # an incarnation before this one called; it is called again
        moment = self.moment()
        writes = (
            _outcome(due, error, moment),
            _give_up(due.integration, MOST_WAITING, TOO_MANY, due, moment),
        )
        await self.commit(Decision(reply=None, writes=writes), context)
        del self._calling[due.integration]
        self._rests.pop(due.integration, None)
        if error is not None and due.attempt < len(PAUSES):
            self._rest(due.integration, PAUSES[due.attempt], context)
        self._begin(context)

    def _rest(self, integration: str, pause: float, context: Context[CallbackProtocol]) -> None:
        self._rests[integration] = self.fleet.system.now() + pause
        context.set_timer(f"rest/{integration}", pause, Look())

    async def _sweep(self, context: Context[CallbackProtocol]) -> None:
        moment = self.moment()
        gone = [name for name in self._waiting() if self.fleet.integrations.find(name) is None]
        ended = (_give_up(name, 0, NOT_THERE, self._calling.get(name), moment) for name in gone)
        await self.commit(Decision(reply=None, writes=(_forget(moment), *ended)), context)

    def _waiting(self) -> list[str]:
        """The integrations for which something is due."""
        rows = self.store.rows("select distinct integration from callbacks where state = 'due'")
        return [name for (name,) in rows]

    def _first_of(self, integrations: Sequence[str]) -> list[Due]:
        """The oldest that is due of each."""
        found = []
        for name in integrations:
            row = self.store.row(
                "select id, delivery, integration, event, body, attempt, due_at from callbacks"
                " where state = 'due' and integration = ? order by id limit 1",
                name,
            )
            if row is not None:
                found.append(Due(*row))
        return found


def _failed(due: Due, error: Exception) -> Tried:
    """The network itself broke."""
    return Tried(due, repr(error))


def _outcome(due: Due, error: str | None, moment: Moment) -> Write:
    """The row after a try."""
    last = due.attempt >= len(PAUSES)
    state = "sent" if error is None else "failed" if last else "due"
    due_at = moment.ms + (0 if state != "due" else round(PAUSES[due.attempt] * 1000))
    ended_at = moment.ms if state != "due" else None
    said = error[:LONGEST_ERROR] if error is not None else None
    return Write(
        "update callbacks set attempt = attempt + 1, state = ?, due_at = ?, ended_at = ?, error = ?"
        " where id = ? and state = 'due' and attempt = ?",
        (state, due_at, ended_at, said, due.id, due.attempt),
        rows=1,
    )


def _forget(moment: Moment) -> Write:
    return Write("delete from callbacks where ended_at < ?", (moment.ms - round(KEPT * 1000),))


def _give_up(integration: str, kept: int, why: str, calling: Due | None, moment: Moment) -> Write:
    """End what is due of the integration but for the newest `kept`, and for the one that is being tried."""
    return Write(
        "update callbacks set state = 'failed', error = ?, ended_at = ? where id in (select id from callbacks"
        " where state = 'due' and integration = ? and id <> ? order by id desc limit -1 offset ?)",
        (why, moment.ms, integration, calling.id if calling is not None else 0, kept),
    )
