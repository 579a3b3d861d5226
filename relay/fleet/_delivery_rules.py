"""How a message gets to one recipient: the moves, and who decides on them. No actor, no store, no clock.

    taken         routed -> handed                  a new token, one more attempt
    confirmed     all but replied -> confirmed      with the last token given; or marked as read
    busy          handed -> handed                  for another `VISIBLE` seconds; no attempt is ever lost by it
    returned      handed -> routed                  not the message's fault: the attempt is taken back
    failed        handed -> routed                  refused, or died of; after a pause that doubles
    spent         handed -> dead                    the same, for the last time
    replied       all but replied -> replied
    lapsed        routed -> expired                 only one was to work on it, and another has, or its task has ended
    redelivered   dead -> routed                    from the first attempt on, and what was handed before is stale

A refusal counts only against a message that was handed over alone: of several, nobody knows which one it was. They come
back at once, each alone from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire

from ._agent_rules import LIVE
from ._moment import Moment

__all__ = [
    "DONE",
    "MOST_ATTEMPTS",
    "MOST_DEATHS",
    "MOST_IN_HAND",
    "MOVES",
    "VISIBLE",
    "Row",
    "acked",
    "fresh",
    "judged",
    "moved",
    "overdue",
    "pause_after",
    "replaced",
    "step_of",
    "taken",
]

VISIBLE = 60.0  # seconds that a hand-over lasts without a word
MOST_ATTEMPTS = 8
MOST_DEATHS = 2  # of the agent's program: one fewer than its runner bears
MOST_IN_HAND = 1_000  # messages that one agent has taken and not settled
LONGEST_PAUSE = 30.0  # seconds between two attempts

ROUTED, HANDED, CONFIRMED = wire.Rung.ROUTED, wire.Rung.HANDED, wire.Rung.CONFIRMED
REPLIED, EXPIRED, DEAD = wire.Rung.REPLIED, wire.Rung.EXPIRED, wire.Rung.DEAD
DONE = frozenset({CONFIRMED, REPLIED})

MOVES: Mapping[str, Mapping[wire.Rung, wire.Rung]] = {
    "taken": {ROUTED: HANDED},
    "confirmed": {ROUTED: CONFIRMED, HANDED: CONFIRMED, DEAD: CONFIRMED, EXPIRED: CONFIRMED},
    "busy": {HANDED: HANDED},
    "returned": {HANDED: ROUTED},
    "failed": {HANDED: ROUTED},
    "spent": {HANDED: DEAD},
    "replied": {ROUTED: REPLIED, HANDED: REPLIED, CONFIRMED: REPLIED, DEAD: REPLIED, EXPIRED: REPLIED},
    "lapsed": {ROUTED: EXPIRED},
    "redelivered": {DEAD: ROUTED},
}


@attrs.frozen(kw_only=True)
class Row:
    """One message on its way to one agent. Instants are epoch milliseconds. `attempt` counts hand-overs that may count
    against the message, the present one among them."""

    agent_id: str
    message_id: int
    rung: wire.Rung = attrs.field(default=ROUTED, converter=wire.Rung)
    token: int = 0
    attempt: int = 0
    deaths: int = 0
    alone: bool = attrs.field(default=False, converter=bool)
    instance_id: str | None = None
    visible_at: int | None = None
    handed_at: int | None = None
    confirmed_at: int | None = None
    replied_at: int | None = None
    reply_id: int | None = None
    dead_at: int | None = None
    evidence: str | None = None
    error: str | None = None


def fresh(agent_id: str, number: int) -> Row:
    """Of a message that was never handed over."""
    return Row(agent_id=agent_id, message_id=number)


def moved(
    row: Row,
    step: str,
    moment: Moment,
    *,
    evidence: str | None = None,
    error: str | None = None,
    reply: int | None = None,
) -> Row:
    """The row after a step that its rung allows."""
    after: dict[str, Any] = {"rung": MOVES[step][row.rung], "visible_at": None, "error": error or row.error}
    match step:
        case "confirmed":
            after |= {"confirmed_at": moment.ms, "evidence": evidence, "dead_at": None, "error": None}
        case "replied":
            after |= {"replied_at": moment.ms, "reply_id": reply, "dead_at": None}
        case "busy":
            after = {"visible_at": moment.ms + round(VISIBLE * 1000)}
        case "returned":
            after["attempt"] = row.attempt - 1
        case "spent":
            after["dead_at"] = moment.ms
        case "redelivered":
            return Row(agent_id=row.agent_id, message_id=row.message_id, token=row.token + 1, alone=True)
    return attrs.evolve(row, **after)


def taken(row: Row, instance: str | None, moment: Moment, together: int) -> Row:
    """Handed over, one of `together` messages."""
    return attrs.evolve(
        row,
        rung=MOVES["taken"][row.rung],
        token=row.token + 1,
        attempt=row.attempt + 1,
        alone=together == 1,
        instance_id=instance,
        handed_at=moment.ms,
        visible_at=moment.ms + round(VISIBLE * 1000),
    )


def step_of(row: Row, outcome: wire.Outcome) -> str:
    """What the outcome of a hand-over means for this row."""
    if outcome not in (wire.Outcome.REFUSED, wire.Outcome.DIED):
        return outcome.value
    if not row.alone:
        return "returned"
    if outcome is wire.Outcome.DIED:
        return "spent" if row.deaths + 1 >= MOST_DEATHS else "failed"
    return "spent" if row.attempt >= MOST_ATTEMPTS else "failed"


def judged(row: Row | None, ack: wire.Ack) -> tuple[str | None, str | None]:
    """The step that an acknowledgement is, None when there is nothing to do; and what is wrong with it, if anything."""
    if row is None:
        return None, "unknown"
    step = step_of(row, ack.outcome)
    repeated = step == "confirmed" and row.rung in DONE
    if ack.token != row.token or not (repeated or row.rung in MOVES[step]):
        return None, "stale"
    return None if repeated else step, None


def acked(row: Row, ack: wire.Ack, step: str, moment: Moment) -> Row:
    """The row after that step."""
    after = moved(row, step, moment, evidence=ack.evidence or "acknowledged", error=ack.error)
    if ack.outcome is wire.Outcome.DIED:
        after = attrs.evolve(after, deaths=row.deaths + row.alone)
    failed = ack.outcome in (wire.Outcome.REFUSED, wire.Outcome.DIED)
    return attrs.evolve(after, alone=True) if failed else after


def replaced(row: Row, instance: str | None) -> bool:
    """Whether another session of the agent has taken the place of the one that was handed the message."""
    return None not in (row.instance_id, instance) and row.instance_id != instance


def overdue(row: Row, card: wire.Agent | None) -> str:
    """The step for a hand-over that has lasted too long, judged by the agent's contact."""
    if card is None or card.status not in LIVE or replaced(row, card.instance_id):
        return "returned"
    here = row.instance_id is not None and row.instance_id == card.instance_id
    if here or card.status is wire.AgentStatus.BUSY:
        return "busy"
    return "spent" if row.attempt >= MOST_ATTEMPTS else "failed"


def pause_after(row: Row) -> float:
    """Seconds until the next attempt, when nobody says how many."""
    return float(min(LONGEST_PAUSE, 2 ** (row.attempt - 1)))
