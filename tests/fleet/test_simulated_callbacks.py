"""Callbacks and rate windows under every schedule: places that refuse and stall, crashes, commits that fail, servers that
end and come back.

What was written down with the tasks is held against what the places heard.
"""

from __future__ import annotations

import pytest
import trio
from callouts import Network, integration, is_settled, rows, task, tell

from relay.actors import ActorError, System, Unavailable, open_system
from relay.fleet import Fleet, open_fleet
from relay.fleet.callbacks import PAUSES, Callout, Undelivered
from relay.fleet.integrations import WINDOW, Integrations
from relay.store import Store, StoreError, open_store
from relay.testing import Faults, Sim, simulate

NAMES = ("ci", "cd", "ops")
TASKS = 4
TRIES = len(PAUSES) + 1


class Places:
    """Those who are called: they take it, refuse it, or take it and say nothing until it is too late."""

    def __init__(self, sim: Sim, network: Network) -> None:
        self.sim = sim
        self.network = network
        self.late = 0
        self.refused = 0
        for name in NAMES:
            network.places[name] = self.answer

    async def answer(self, callout: Callout) -> None:
        what = self.sim.choose(6)
        await self.sim.pause(2)
        if what == 0:
            self.late += 1
            await trio.sleep_forever()
        if what in (1, 2):
            self.refused += 1
            raise Undelivered("not now")


class Server:
    """A server that may end, and come back with what is durable."""

    def __init__(self, system: System, store: Store, network: Network) -> None:
        self._open = lambda: open_fleet(
            system, store, integrations=Integrations(map(integration, NAMES)), outgoing=network
        )
        self.fleet: Fleet | None = None
        self.ended = 0
        self.given_up = 0

    async def live(self, sim: Sim, until: trio.Event) -> None:
        for _ in range(sim.choose(3)):
            async with self._open() as self.fleet:
                await sim.pause(40)
            self.fleet = None
            self.ended += 1
        async with self._open() as self.fleet:
            await until.wait()

    async def tell(self, name: str, number: int) -> None:
        """As whoever changes tasks: until it is durable it is tried again, and then it is not."""
        while True:
            try:
                if self.fleet is not None:
                    await tell(self.fleet, task(number, source=name))
                    return
            except (ActorError, Unavailable, StoreError):
                if self.fleet is not None and self.fleet.store.row(
                    "select 1 from callbacks where integration = ? and task_id = ?", name, number
                ):
                    return
            await trio.sleep(1)


def check(store: Store, network: Network) -> None:
    assert network.most_busy == 1, "one at a time"
    kept = store.rows("select integration, task_id, delivery, attempt, state from callbacks order by id")
    for name in NAMES:
        mine = [row[1:] for row in kept if row[0] == name]
        assert [number for number, *_ in mine] == list(range(1, TASKS + 1))
        heard = [tried for tried in network.tried if tried.place == name]
        order = [tried.task for tried in heard]
        assert order == sorted(order), "in the order of what happened"
        for number, delivery, attempts, state in mine:
            calls = [tried.callout for tried in heard if tried.task == number]
            assert {call.delivery for call in calls} == {delivery}, "every call has the id of its callback"
            assert attempts <= len(calls)
            assert (
                state == ("sent" if number in network.taken[name] else "failed")
                or number in network.taken[name]
            )
            assert state == "sent" or attempts == TRIES, "nothing is given up early"
        assert len({delivery for _, delivery, *_ in mine}) == TASKS


@pytest.mark.spec("M-I38", "O-36")
@simulate(
    runs=40,
    faults=Faults(crash=0.02, delay=0.02, named={"store.commit": 0.03}, most=4, only=("callbacks",)),
)
async def test_every_callback_arrives_in_order_or_is_given_up_after_its_tries(sim: Sim) -> None:
    network = Network()
    places = Places(sim, network)
    sim.sometimes(lambda: places.late > 0, "a place never answered")
    sim.sometimes(lambda: places.refused > 0, "a place refused")
    async with open_system() as system, open_store(None, system) as store:
        server = Server(system, store, network)
        sim.sometimes(lambda: server.ended > 0, "a server ended in between")
        sim.sometimes(lambda: server.given_up > 0, "a callback was given up")
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.live, sim, done)
            async with trio.open_nursery() as telling:
                for name in NAMES:
                    telling.start_soon(_tell_all, sim, server, name)
            while not is_settled(store):
                sim.jump_wall([0.0, 3_600.0, -3_600.0][sim.choose(3)])
                await trio.sleep(60)
            done.set()
        server.given_up = sum(state == "failed" for _, state, *_ in rows(store))
        check(store, network)


async def _tell_all(sim: Sim, server: Server, name: str) -> None:
    for number in range(1, TASKS + 1):
        await server.tell(name, number)
        await sim.pause(3)


@pytest.mark.spec("M-I35", "O-34")
@simulate(runs=60)
async def test_in_a_window_no_more_than_so_many_pass_whoever_else_calls(sim: Sim) -> None:
    limit = 3
    passed: dict[str, list[float]] = {name: [] for name in NAMES}
    refused: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    sim.sometimes(lambda: any(refused.values()), "somebody was refused")
    sim.sometimes(lambda: len(passed["ci"]) > limit, "somebody came back in a later window")
    async with open_system() as system:
        known = Integrations(map(integration, NAMES), per_minute=limit)

        async def call(name: str) -> None:
            for _ in range(8):
                await sim.pause(WINDOW / 3)
                now = system.now()
                wait = known.admit(name, now)
                if wait:
                    refused[name].append((now, wait))
                else:
                    passed[name].append(now)
                if sim.choose(8) == 0:
                    known.replace(map(integration, NAMES))  # somebody had the file read again
                if wait and sim.choose(2):
                    await trio.sleep(wait)

        async with trio.open_nursery() as nursery:
            for name in NAMES:
                nursery.start_soon(call, name)
                nursery.start_soon(call, name)
    for name in NAMES:
        _check_windows(passed[name], refused[name], limit)


def _check_windows(passed: list[float], refused: list[tuple[float, float]], limit: int) -> None:
    """By the definition: a window begins with the first that passes after the one before has ended (O-34)."""
    windows: list[list[float]] = []
    for at in passed:
        if not windows or at >= windows[-1][0] + WINDOW:
            windows.append([])
        windows[-1].append(at)
    assert all(len(window) <= limit for window in windows)
    for at, wait in refused:
        [window] = [each for each in windows if each[0] <= at < each[0] + WINDOW]
        assert len([each for each in window if each <= at]) == limit, "nobody is refused who may pass"
        assert at + wait == pytest.approx(window[0] + WINDOW)
