"""Cron lines in the time zones of the world, over the changes of their clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from relay.fleet._calendar import BadLine, BadZone, Line, zone_of

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
ZONES = (
    BERLIN,
    NEW_YORK,
    LORD_HOWE,
    "UTC",
    "Asia/Kolkata",
    "America/Havana",
    "Africa/Casablanca",
    "Pacific/Apia",
)


def instant(zone: str, text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def times(line: str, zone: str, start: str, count: int) -> list[str]:
    """As the zone's clocks show them; `*` stands for the second of two that look the same."""
    at, found = instant(zone, start), []
    for _ in range(count):
        following = Line(line, zone).after(at)
        assert following is not None
        at = following
        local = datetime.fromtimestamp(at, ZoneInfo(zone))
        found.append(local.strftime("%m-%d %H:%M") + "*" * local.fold)
    return found


@pytest.mark.spec("O-37")
@pytest.mark.parametrize(
    ("line", "zone", "start", "found"),
    [
        ("30 2 * * *", BERLIN, "2024-03-30T00:00", ["03-30 02:30", "03-31 03:00", "04-01 02:30"]),
        ("0,30 2 * * *", BERLIN, "2024-03-31T00:00", ["03-31 03:00", "04-01 02:00", "04-01 02:30"]),
        ("0 2,3 * * *", BERLIN, "2024-03-31T00:00", ["03-31 03:00", "04-01 02:00", "04-01 03:00"]),
        ("30 2 * * *", BERLIN, "2024-10-27T00:00", ["10-27 02:30", "10-28 02:30"]),
        ("*/20 2 * * *", BERLIN, "2024-10-27T00:00", ["10-27 02:00", "10-27 02:20", "10-27 02:40", "10-28 02:00"]),
        ("0 */2 * * *", BERLIN, "2024-10-27T00:00", ["10-27 02:00", "10-27 04:00", "10-27 06:00"]),
        ("30 * * * *", BERLIN, "2024-10-27T01:00", ["10-27 01:30", "10-27 02:30", "10-27 02:30*", "10-27 03:30"]),
        ("30 * * * *", BERLIN, "2024-03-31T01:00", ["03-31 01:30", "03-31 03:30"]),
        ("15 2 * * *", NEW_YORK, "2024-03-09T12:00", ["03-10 03:00", "03-11 02:15"]),
        ("15 1 * * *", NEW_YORK, "2024-11-03T00:00", ["11-03 01:15", "11-04 01:15"]),
        ("59 23 * * *", NEW_YORK, "2024-11-02T23:00", ["11-02 23:59", "11-03 23:59"]),
        ("15 2 * * *", LORD_HOWE, "2024-10-05T12:00", ["10-06 02:30", "10-07 02:15"]),
        ("45 1 * * *", LORD_HOWE, "2024-04-07T00:00", ["04-07 01:45", "04-08 01:45"]),
        ("40 * * * *", LORD_HOWE, "2024-04-07T01:00", ["04-07 01:40", "04-07 01:40*", "04-07 02:40"]),
        ("10 * * * *", LORD_HOWE, "2024-10-06T01:00", ["10-06 01:10", "10-06 03:10"]),
        ("30 0 * * *", "America/Havana", "2024-11-02T12:00", ["11-03 00:30", "11-04 00:30"]),
        ("30 0 * * *", "America/Havana", "2024-03-09T12:00", ["03-10 01:00", "03-11 00:30"]),
        ("0 9 29 2 *", BERLIN, "2024-03-01T00:00", ["02-29 09:00"]),
        ("0 9 L * *", BERLIN, "2024-01-31T10:00", ["02-29 09:00", "03-31 09:00"]),
        ("0 9 LW 3 *", BERLIN, "2024-01-31T10:00", ["03-29 09:00"]),
        ("0 9 * * MON#1", BERLIN, "2024-01-31T10:00", ["02-05 09:00", "03-04 09:00"]),
        ("0 9 * * 5L", BERLIN, "2024-01-31T10:00", ["02-23 09:00", "03-29 09:00"]),
        ("0 9 13 * FRI", BERLIN, "2024-09-07T10:00", ["09-13 09:00", "09-20 09:00"]),
        ("0 9 */2 * FRI", BERLIN, "2024-09-07T10:00", ["09-13 09:00", "09-27 09:00"]),
        ("0 0 * * 7", BERLIN, "2024-09-07T10:00", ["09-08 00:00"]),
        ("0 9 1 jan *", BERLIN, "2024-09-07T10:00", ["01-01 09:00"]),
    ],
)  # fmt: skip
def test_when_a_line_comes_round(line: str, zone: str, start: str, found: list[str]) -> None:
    assert times(line, zone, start, len(found)) == found


def test_what_comes_next_in_an_hour_that_is_shown_again_lies_ahead() -> None:
    """Whoever asks in the second of the two hours is not told a time of the first."""
    again = instant(BERLIN, "2024-10-27T02:15", fold=1)
    assert Line("30 2 * * *", BERLIN).after(again) == instant(BERLIN, "2024-10-28T02:30")
    assert Line("30 * * * *", BERLIN).after(again) == instant(BERLIN, "2024-10-27T02:30", fold=1)


@pytest.mark.spec("O-37")
@given(
    minute=st.integers(0, 59), hour=st.integers(0, 23), zone=st.sampled_from(ZONES), day=st.integers(0, 3_000)
)
@settings(max_examples=60, deadline=None)
def test_a_time_of_the_day_comes_once_on_every_day(minute: int, hour: int, zone: str, day: int) -> None:
    """In every zone, whatever its clocks do; two days before and after each of those looked at."""
    line = Line(f"{minute} {hour} * * *", zone)
    start = datetime(2021, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
    at = start.timestamp()
    dates = []
    for _ in range(220):
        at = line.after(at) or 0.0
        dates.append(datetime.fromtimestamp(at, ZoneInfo(zone)).date())
    assert all(after - before == timedelta(days=1) for before, after in pairwise(dates))


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.none() | st.sets(st.integers(0, 23), min_size=1, max_size=3),
    zone=st.sampled_from(ZONES),
    start=st.integers(1_704_067_200, 1_735_689_600),
    ahead=st.integers(0, 40_000),
)
@settings(max_examples=150, deadline=None)
def test_it_does_not_matter_when_one_asks(
    minutes: set[int], hours: set[int] | None, zone: str, start: int, ahead: int
) -> None:
    """Between two times of a line, whoever asks is told the second."""
    fields = ",".join(map(str, minutes)), "*" if hours is None else ",".join(map(str, hours))
    line = Line(" ".join((*fields, "*", "*", "*")), zone)
    first = line.after(start)
    assert first is not None
    second = line.after(first)
    assert second is not None
    assert second > first > start
    assert line.after(min(first + ahead, second - 1)) == second
    local = datetime.fromtimestamp(second, ZoneInfo(zone))
    if hours is None:
        assert local.minute in minutes


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "expected five fields: minute, hour, day of month, month, day of week; it is empty"),
        ("* * * *", "got 4"),
        ("* * * * * *", "got 6; seconds cannot be given"),
        ("61 * * * *", "minute: cannot read 61; expected 0-59"),
        ("-1 * * * *", "minute: cannot read -1"),
        ("* 24 * * *", "hour: cannot read 24; expected 0-23"),
        ("0 0 0 * *", "day of month: cannot read 0; expected 1-31"),
        ("0 0 32 * *", "day of month: cannot read 32"),
        ("0 0 L-3 * *", "day of month: cannot read L-3"),
        ("0 0 1 13 *", "month: cannot read 13; expected 1-12 or JAN-DEC"),
        ("0 0 1 JANUARY *", "month: cannot read JANUARY"),
        ("0 0 * * 8", "day of week: cannot read 8; expected 0-7 or SUN-SAT"),
        ("0 0 * * MON#6", "day of week: cannot read MON#6"),
        ("0 0 * * FRI-MON", "day of week: cannot read FRI-MON"),
        ("5-1 * * * *", "minute: cannot read 5-1"),
        ("*/0 * * * *", "minute: cannot read */0"),
        ("*/90 * * * *", "minute: */90 has a step that is longer"),
        ("1,,2 * * * *", "minute: '' is nothing"),
        ("1/2/3 * * * *", "minute: cannot read 1/2/3"),
        ("0 0 30 2 *", "day of month: no month of 2 has a day 30"),
        ("0 0 31 4,6 *", "no month of 4,6 has a day 31"),
        ("\u0663 * * * *", "minute: '\u0663' is nothing"),
        ("@daily", "write 0 0 * * *"),
        ("@reboot", "@reboot stands for no times"),
        ("0" * 200, "longer than 120 characters"),
        ("a 25 * * *", "minute: cannot read A"),
        ("a 25 * * *", "; hour: cannot read 25"),
    ],
)
def test_what_is_no_line(line: str, why: str) -> None:
    with pytest.raises(BadLine) as caught:
        Line(line, "UTC")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("zone", "why"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Mars", "expected a name such as UTC or Europe/Berlin"),
        ("", "there is no time zone ''"),
        ("+02:00", "expected a name"),
        ("../../etc/passwd", "expected a name"),
        ("/etc/localtime", "expected a name"),
        ("localtime", "expected a name"),
        ("\x00", "expected a name"),
    ],
)
def test_what_is_no_zone(zone: str, why: str) -> None:
    with pytest.raises(BadZone) as caught:
        zone_of(zone)
    assert why in str(caught.value)


@given(st.text(alphabet="0123456789*/,-#LWMONFRIJAN @٣\x00", max_size=40))
@settings(max_examples=300, deadline=None)
def test_a_line_is_refused_or_comes_round(line: str) -> None:
    try:
        found = Line(line, BERLIN).after(1.7e9)
    except BadLine as error:
        assert str(error)
    else:
        assert found is None or found > 1.7e9
