"""When a cron line comes round, on the clocks of a time zone and over their changes.

1. A line that names hours keeps to the clock on the wall: each of its times comes once a day. A time that the clock skips
   comes at the end of the gap, and one that it shows twice comes the first time.
2. A line for every hour goes by elapsed time: it comes in both of two hours of the same name, and in none that is skipped.
3. Day of month and day of week: if one of them begins with `*` both must fit, else either will do.

Instants are epoch seconds. This is arithmetic: nothing here looks at a clock.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from datetime import (  # noqa: TID251 - dates that are given, never the present one
    UTC,
    datetime,
    timedelta,
)
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

__all__ = ["BadLine", "BadZone", "Line", "shown", "zone_of"]

DAY = 86_400
EVERY_HOUR = frozenset(range(24))
LONGEST = 120  # characters of a line
MOST_CHANGES = (
    400  # of a zone's clocks that are looked beyond: more than twice a year for as long as a line is followed
)
FIELDS = (
    (Field.MINUTE, "minute", "0-59"),
    (Field.HOUR, "hour", "0-23"),
    (Field.DAY, "day of month", "1-31, L or LW"),
    (Field.MONTH, "month", "1-12 or JAN-DEC"),
    (Field.DOW, "day of week", "0-7 or SUN-SAT, also 5L or MON#2"),
)
WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class BadLine(ValueError):
    """It is no cron line; the text says which field, and what would be one."""


class BadZone(ValueError):
    """There is no such time zone; the text names one that is similar."""


@cache
def _names() -> frozenset[str]:
    """The zones there are, on every machine the same."""
    return frozenset(files("tzdata").joinpath("zones").read_text("utf-8").split())


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name; raises `BadZone`."""
    if name in _names():
        return ZoneInfo(name)
    alike = difflib.get_close_matches(name, _names(), 1, 0.7) or [
        each for each in _names() if each.lower() == name.lower()
    ]
    hint = f"did you mean {alike[0]}?" if alike else "expected a name such as UTC or Europe/Berlin"
    raise BadZone(f"there is no time zone {name!r}; {hint}")


def shown(at: float) -> str:
    """An instant as a person reads it."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return f"{at:g} s after 1970"


class Line:
    """A cron line of five fields in a time zone. Raises `BadLine` and `BadZone`."""

    def __init__(self, expression: str, zone: str) -> None:
        self._zone = zone_of(zone)
        fields = _fields(expression)
        hours = Field.HOUR.parse(fields[1])
        if hours == EVERY_HOUR:
            self._by_wall = False
            self._text = " ".join(fields)
        else:  # spelled out, so that no field begins with `*`: CronSim takes such lines for ones that name hours
            self._by_wall = True
            minutes = Field.MINUTE.parse(fields[0])
            self._text = " ".join((_listed(minutes), _listed(hours), *fields[2:]))
        try:
            CronSim(self._text, _naive(0, 0))
        except CronSimError:
            raise BadLine(f"day of month: no month of {fields[3]} has a day {fields[2]}") from None

    def after(self, at: float) -> float | None:
        """The first time after `at`; None if there is none for the next fifty years."""
        return self._wall_after(at) if self._by_wall else self._elapsed_after(at)

    def _wall_after(self, at: float) -> float | None:
        for found in CronSim(self._text, datetime.fromtimestamp(math.floor(at), self._zone)):
            instant = found.timestamp()
            if instant > at:  # in an hour that is repeated, the first times of it lie behind
                return instant
        return None

    def _elapsed_after(self, at: float) -> float | None:
        """Between two changes of the zone's clocks the line is one of a constant offset."""
        start = math.floor(at)
        offset = self._offset(start)
        for _ in range(MOST_CHANGES):
            found = next(CronSim(self._text, _naive(start, offset)), None)
            if found is None:
                return None
            instant = round(found.replace(tzinfo=UTC).timestamp()) - offset
            change = self._change(start, instant, offset)
            if change is None:
                return float(instant)
            start, offset = change - 1, self._offset(change)
        return None

    def _change(self, start: int, end: int, offset: int) -> int | None:
        """The first second after `start`, up to `end`, with another offset."""
        low = start
        while low < end:
            high = min(low + DAY, end)
            if self._offset(high) != offset:
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
                return high
            low = high
        return None

    def _offset(self, at: int) -> int:
        """Seconds that the zone's clocks are ahead of UTC then."""
        offset = datetime.fromtimestamp(at, self._zone).utcoffset()
        assert offset is not None
        return round(offset.total_seconds())


def _naive(at: int, offset: int) -> datetime:
    """What a clock with this offset shows."""
    return datetime(1970, 1, 1) + timedelta(seconds=at + offset)  # noqa: DTZ001 - the offset is kept apart


def _listed(values: set[int | tuple[int, int]]) -> str:
    return ",".join(str(value) for value in sorted(value for value in values if isinstance(value, int)))


def _fields(expression: str) -> list[str]:
    """The five fields, each of them right for itself; raises `BadLine` with all that is wrong."""
    text = expression.strip()
    if text.startswith("@"):
        known = WORDS.get(text.lower())
        raise BadLine(
            f"{text[:20]} stands for no times" + (f"; write {known}" if known else f"; {_expected(text)}")
        )
    if len(text) > LONGEST:
        raise BadLine(f"longer than {LONGEST} characters")
    fields = text.upper().split()
    if len(fields) != len(FIELDS):
        seconds = "; seconds cannot be given" if len(fields) == len(FIELDS) + 1 else ""
        raise BadLine(f"{_expected(text)}, got {len(fields)}{seconds}")
    problems = list(_problems(fields))
    if problems:
        raise BadLine("; ".join(problems))
    return fields


def _expected(text: str) -> str:
    return "expected five fields: minute, hour, day of month, month, day of week" + (
        "" if text else "; it is empty"
    )


def _problems(fields: list[str]) -> Iterator[str]:
    for text, (field, name, bounds) in zip(fields, FIELDS, strict=True):
        for term in text.split(","):
            problem = _problem(term, field, bounds)
            if problem:
                yield f"{name}: {problem}"
                break


def _problem(term: str, field: Field, bounds: str) -> str | None:
    how = f"expected {bounds}, a range as 1-5, a step as */2, or a list of such"
    if not term.isascii() or not term:
        return f"{term!r} is nothing; {how}"
    try:
        found = field.parse(term)
    except (CronSimError, ValueError, AssertionError):
        return f"cannot read {term}; {how}"
    _, slash, step = term.partition("/")
    if slash and len(found) == 1 and int(step) > 1:
        return f"{term} has a step that is longer than what it goes through; {how}"
    return None
