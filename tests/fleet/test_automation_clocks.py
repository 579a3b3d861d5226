"""Automations over weeks, over changes of the clocks of the world and over those of the machine's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import trio

from relay import wire
from relay.actors import System, open_system
from relay.fleet import Fleet, automations, maintenance, open_fleet
from relay.store import open_store

MESSAGE = wire.MessageAction(to="user", body="hello")
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


class Wall:
    """A wall clock that somebody may set."""

    def __init__(self) -> None:
        self.ahead = datetime.fromisoformat("2024-03-20T12:00+00:00").timestamp()

    def __call__(self) -> float:
        return self.ahead + trio.current_time()

    def set(self, text: str) -> None:
        self.ahead = datetime.fromisoformat(text).timestamp() - trio.current_time()

    def move(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def system(wall: Wall) -> AsyncIterator[System]:
    async with open_system(wall=wall, seed=1) as system:
        yield system


async def make(fleet: Fleet, schedule: wire.AutomationSchedule, name: str = "one") -> str:
    asked = wire.NewAutomation(name=name, schedule=schedule, action=MESSAGE)
    return (await fleet.automations[fleet.system.new_id("auto")].ask(automations.Create(asked))).id


async def cron(fleet: Fleet, expression: str, zone: str = "UTC") -> str:
    return await make(fleet, wire.CronSchedule(expression=expression, timezone=zone))


async def quiet(fleet: Fleet) -> None:
    """No maintenance, which weeks have very many runs of; timers alone are enough while nothing is missed."""
    await fleet.system.stop(fleet.maintenance)
    await fleet.keepers.stop()


def begun(fleet: Fleet, key: str, zone: str = "UTC") -> list[datetime]:
    """When its runs were begun, by the clocks of the zone."""
    found = automations.list_runs(fleet.store, automation_id=key, limit=500)
    return [datetime.fromtimestamp(run.started_at or 0, ZoneInfo(zone)) for run in reversed(found)]


def known_next(fleet: Fleet, key: str) -> float:
    return automations.get_automation(fleet.store, key).next_run_at or 0.0


def shown(fleet: Fleet, key: str, zone: str = "UTC") -> list[str]:
    return [at.strftime("%m-%d %H:%M") for at in begun(fleet, key, zone)]


@pytest.mark.spec("O-37", "AUT-8")
@pytest.mark.parametrize(
    ("zone", "start", "skipped"),
    [
        ("Europe/Berlin", "2024-03-25T00:00+01:00", "03-31 03:00"),
        ("Europe/Berlin", "2024-10-21T00:00+02:00", None),
        ("America/New_York", "2024-03-04T00:00-05:00", "03-10 03:00"),
        ("America/New_York", "2024-10-28T00:00-04:00", None),
        ("Australia/Lord_Howe", "2024-09-30T00:00+10:30", "10-06 02:30"),
        ("Australia/Lord_Howe", "2024-04-01T00:00+11:00", None),
    ],
)
async def test_a_time_of_the_day_comes_once_on_every_day_around_a_change(
    fleet: Fleet, wall: Wall, zone: str, start: str, skipped: str | None
) -> None:
    wall.set(start)
    await quiet(fleet)
    daily = await cron(fleet, "15 2 * * *", zone)
    weekdays = await cron(fleet, "0 9 * * MON-FRI", zone)
    await trio.sleep(9 * DAY)
    days = begun(fleet, daily, zone)
    assert len(days) == 9
    assert all(after.date() - before.date() == timedelta(days=1) for before, after in pairwise(days))
    odd = [text for text in shown(fleet, daily, zone) if not text.endswith("02:15")]
    assert odd == ([skipped] if skipped else [])
    at_work = begun(fleet, weekdays, zone)
    assert len(at_work) == 7
    assert {(at.hour, at.minute, at.weekday() < 5) for at in at_work} == {(9, 0, True)}


async def test_every_hour_is_every_hour_whatever_the_clocks_show(fleet: Fleet, wall: Wall) -> None:
    wall.set("2024-10-26T12:00+02:00")
    await quiet(fleet)
    key = await cron(fleet, "0 * * * *", "Europe/Berlin")
    await trio.sleep(2 * DAY + 1)
    hours = begun(fleet, key)
    assert len(hours) == 48
    assert all(after - before == timedelta(hours=1) for before, after in pairwise(hours))


@pytest.mark.spec("AUT-12")
async def test_a_machine_that_slept_makes_up_for_what_it_missed_once(fleet: Fleet, wall: Wall) -> None:
    """The system's own clock stands still while it sleeps, so no timer rings; maintenance sees that time has passed."""
    hourly = await cron(fleet, "0 * * * *")
    every = await make(fleet, wire.IntervalSchedule(seconds=6 * 3600))
    once = await make(fleet, wire.OnceSchedule(at=fleet.system.wall() + 2 * HOUR))
    await trio.sleep(30 * MINUTE)
    wall.move(8 * HOUR)
    await trio.sleep(MINUTE)
    assert shown(fleet, hourly) == ["03-20 20:30"]
    assert shown(fleet, every) == ["03-20 20:30"]
    assert shown(fleet, once) == ["03-20 20:30"]
    await trio.sleep(HOUR)
    assert shown(fleet, hourly) == ["03-20 20:30", "03-20 21:00"]


async def test_a_clock_that_is_set_back_a_little_repeats_nothing(fleet: Fleet, wall: Wall) -> None:
    key = await cron(fleet, "0 13 * * *")
    await trio.sleep(HOUR + MINUTE)
    wall.move(-2 * HOUR)
    await trio.sleep(4 * HOUR)
    assert shown(fleet, key) == ["03-20 13:00"]
    assert datetime.fromtimestamp(known_next(fleet, key), UTC).strftime("%m-%d %H:%M") == "03-21 13:00"


async def test_a_clock_that_was_wrong_by_far_does_not_keep_anything_waiting(fleet: Fleet, wall: Wall) -> None:
    wall.set("2031-01-01T00:00+00:00")
    daily = await cron(fleet, "0 13 * * *")
    every = await make(fleet, wire.IntervalSchedule(seconds=3600))
    await trio.sleep(2 * HOUR)
    wall.set("2024-03-20T12:00+00:00")
    await trio.sleep(2 * HOUR + MINUTE)
    (run,) = automations.list_runs(fleet.store, automation_id=daily)
    assert run.due_at == datetime.fromisoformat("2024-03-20T13:00+00:00").timestamp()
    assert len(shown(fleet, every)) == 4, "an interval is measured by the server's own clock"
    assert known_next(fleet, every) < wall() + HOUR + 1


async def test_an_interval_that_waits_while_the_server_is_down_waits_no_longer_than_it_lasts(
    system: System, wall: Wall
) -> None:
    async with open_store(None, system) as store:
        async with open_fleet(system, store) as fleet:
            key = await make(fleet, wire.IntervalSchedule(seconds=3600))
        wall.set("2020-01-01T00:00+00:00")
        async with open_fleet(system, store) as fleet:
            await trio.sleep(HOUR + 1)
            assert len(begun(fleet, key)) == 1


@pytest.mark.spec("M-I25")
async def test_maintenance_begins_nothing_twice(fleet: Fleet, wall: Wall) -> None:
    key = await cron(fleet, "0 * * * *")
    wall.move(HOUR)
    for _ in range(3):
        await fleet.maintenance.ask(maintenance.Reap())
    await trio.sleep(1)
    assert len(begun(fleet, key)) == 1


async def test_the_coming_times_are_those_at_which_it_runs(fleet: Fleet, wall: Wall) -> None:
    wall.set("2024-03-29T00:00+01:00")
    keys = [
        await cron(fleet, "30 2 * * *", "Europe/Berlin"),
        await make(fleet, wire.IntervalSchedule(seconds=86_400)),
    ]
    told = [automations.coming(automations.get_automation(fleet.store, key), 4) for key in keys]
    hours = [datetime.fromtimestamp(at, ZoneInfo("Europe/Berlin")).hour for at in told[0]]
    assert hours == [2, 2, 3, 2]
    await quiet(fleet)
    await trio.sleep(4.05 * DAY)
    for key, times in zip(keys, told, strict=True):
        assert [at.timestamp() for at in begun(fleet, key)] == pytest.approx(times, abs=0.005)
    manual = await make(fleet, wire.ManualSchedule())
    assert automations.coming(automations.get_automation(fleet.store, manual), 4) == []
