"""A network for callbacks, and tasks that there is news of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import orjson
import trio

from relay import wire
from relay.actors import Reply
from relay.fleet import Fleet
from relay.fleet._moment import Moment
from relay.fleet.callbacks import Callout, Look, Undelivered, callbacks_for
from relay.store import Owner, Store, Write

SECRET = "secret-of-sixteen-characters"


@attrs.frozen
class Tried:
    """One call: when it came, to whom, about which task."""

    at: float
    place: str
    task: int
    callout: Callout


class Network:
    """Whoever is called at `http://NAME.example` answers by `places[NAME]`; by default everybody takes everything."""

    def __init__(self) -> None:
        self.tried: list[Tried] = []
        self.taken: dict[str, list[int]] = defaultdict(list)
        self.places: dict[str, Callable[[Callout], Awaitable[None]]] = {}
        self.busy: dict[str, int] = defaultdict(int)
        self.most_busy = 0

    async def deliver(self, callout: Callout) -> None:
        place = callout.url.removeprefix("http://").partition(".")[0]
        task = orjson.loads(callout.body)["task"]["id"]
        self.tried.append(Tried(trio.current_time(), place, task, callout))
        self.busy[place] += 1
        self.most_busy = max(self.most_busy, self.busy[place])
        try:
            if place in self.places:
                await self.places[place](callout)
            self.taken[place].append(task)
        finally:
            self.busy[place] -= 1

    def times(self, place: str) -> list[float]:
        """When the place was called, in seconds after the first time."""
        times = [each.at for each in self.tried if each.place == place]
        return [round(at - times[0], 3) for at in times]


def refusing(times: int = 1_000_000) -> Callable[[Callout], Awaitable[None]]:
    """A place that refuses the first so many calls."""
    left = iter(range(times))

    async def answer(callout: Callout) -> None:
        if next(left, None) is not None:
            raise Undelivered("it answered 500")

    return answer


def integration(name: str, **members: Any) -> wire.IntegrationSettings:
    given = {"callback_url": f"http://{name}.example/hook", **members}
    return wire.IntegrationSettings(name=name, secret=SECRET, **given)


def task(number: int, source: str = "ci", target: str = "a1", **members: Any) -> wire.Task:
    return wire.Task(id=number, source=source, target=target, title=f"task {number}", **members)


async def tell(fleet: Fleet, *about: wire.Task, event: str = "task.created") -> int:
    """As whoever changes tasks does: the rows are durable before anybody looks. How many there are."""
    moment = Moment.now(fleet.system, fleet.store)
    writes = [write for each in about for write in callbacks_for(fleet, each, event, moment)]
    await _store(fleet.store, writes)
    fleet.callbacks.tell(Look())
    return len(writes)


async def write(store: Store, sql: str, *params: Any) -> None:
    await _store(store, [Write(sql, params)])


async def _store(store: Store, writes: Sequence[Write]) -> None:
    stored: Reply[None] = Reply()
    store.stage(writes, (), Owner(), lambda error: stored.set(None) if error is None else stored.fail(error))
    await stored.wait()


def rows(store: Store) -> list[tuple[int, str, int, str | None]]:
    """What became of each: `(task, state, tries, error)`, in the order they were written."""
    return store.rows("select task_id, state, attempt, error from callbacks order by id")


def is_settled(store: Store) -> bool:
    return store.row("select 1 from callbacks where state = 'due'") is None


async def settled(store: Store, within: float = 1_000.0) -> None:
    with trio.fail_after(within):
        while not is_settled(store):
            await trio.sleep(0.5)
