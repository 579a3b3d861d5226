"""What relay promises of the cases, and what a run has to say about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rows import Floor, Row, Skipped

__all__ = ["FLOORS", "Promise", "checked"]


@dataclass(frozen=True)
class Promise:
    """Of the median of the row that `case` and `system` name; `most` where less is better."""

    case: str
    system: str
    least: float | None = None
    most: float | None = None


FLOORS = (
    Promise("tell, 1 actor", "relay / pykka", least=6.0),
    Promise("tell, 1 000 actors", "relay / pykka", least=6.0),
    Promise("ask, one after the other", "relay / pykka", least=12.0),
    Promise("ask, 1 000 at once", "relay / pykka", least=12.0),
    Promise("tell, 1 actor", "relay / trio channel", least=8.0),
    Promise("tell, 1 000 actors", "relay / trio channel", least=8.0),
    Promise("idle actor, of 10 000", "relay", most=1_500.0),
    Promise("idle actor, of 100 000", "relay", most=1_500.0),
    Promise("idle actor, after a message, 10 000", "relay", most=1_500.0),
    Promise("idle actor, after a message, 100 000", "relay", most=1_500.0),
    Promise("idle family member, 10 000", "relay", most=2_000.0),
    Promise("idle family member, 100 000", "relay", most=2_000.0),
    Promise("passive family member", "relay", most=0.5),
    Promise("ping, p99", "relay", most=5.0),
    Promise("ping, p99 from due", "relay", most=5.0),
)


def checked(measured: Sequence[Row | Skipped], cases: Sequence[str]) -> Iterator[Floor]:
    """The floors of these cases. One that cannot be checked is failed when that is for want of relay's own value."""
    for promise in FLOORS:
        if promise.case in cases:
            yield _checked(promise, measured)


def _checked(promise: Promise, measured: Sequence[Row | Skipped]) -> Floor:
    what = f"{promise.case}, {promise.system}"
    for row in measured:
        if isinstance(row, Row) and (row.case, row.system) == (promise.case, promise.system):
            kept = _keeps(promise, row.median)
            text = f"floor {'kept' if kept else 'missed'}: {what}: {row.median:,.2f}, {_bound(promise)}"
            return Floor(text, failed=not kept)
    return Floor(
        f"floor not checked: {what}: {_reason(promise, measured)}", failed=_lacks_ours(promise, measured)
    )


def _keeps(promise: Promise, value: float) -> bool:
    return (promise.least is None or value >= promise.least) and (
        promise.most is None or value <= promise.most
    )


def _bound(promise: Promise) -> str:
    return f"at least {promise.least:,}" if promise.least is not None else f"at most {promise.most:,}"


def _reason(promise: Promise, measured: Sequence[Row | Skipped]) -> str:
    for system in promise.system.split(" / "):
        for row in measured:
            if isinstance(row, Skipped) and row.system == system and row.case in {promise.case, "all cases"}:
                return f"{system}: {row.skipped}"
    return "it was not measured"


def _lacks_ours(promise: Promise, measured: Sequence[Row | Skipped]) -> bool:
    ours = promise.system.partition(" / ")[0]
    return not any(
        isinstance(row, Row) and (row.case, row.system) == (promise.case, ours) for row in measured
    )
