"""The proof that every message was received exactly once: what the plan foresees, what the database has, and what each
agent wrote down at its receipt are the same.

Agents also write down what they are given again, although they know it and drop it. That is no second receipt in one
case only: the agent was killed after it had written the message down and before relay knew. Nobody can prevent it then.
"""

import json
from collections import defaultdict
from typing import Any

from .evidence import Evidence, Unproven
from .plan import key_in

__all__ = ["messages_arrived_once"]


def messages_arrived_once(evidence: Evidence) -> str:
    meant = _meant(evidence)
    again = 0
    for name, journal in evidence.journals.items():
        received, repeated = _deliveries(evidence, name, journal)
        if missing := sorted(meant[name] - received):
            raise Unproven(f"{name} never received {_these(missing)}")
        if strange := sorted(received - meant[name]):
            raise Unproven(f"{name} received {_these(strange)}, which nobody had sent to it")
        if unread := sorted(meant[name] - _read(evidence, name).keys()):
            raise Unproven(
                f"{name} received {_these(unread)}, and the database does not know that it read it"
            )
        again += repeated
    sent, receipts = len(set().union(*meant.values())), sum(map(len, meant.values()))
    killed = f"; {again} once more after the kill, as relay could not know" if again else ""
    return f"{sent} messages in the database, {receipts} receipts, none missing, none twice{killed}"


def _meant(evidence: Evidence) -> dict[str, set[int]]:
    """Who is to receive which of the messages in the database. Each that was to be sent is there once, and no other."""
    expected = evidence.plan.messages(evidence.acknowledged)
    stored: dict[str, list[int]] = defaultdict(list)
    for number, record in evidence.rows("select id, record from messages order by id"):
        stored[key_in(json.loads(record)["body"])].append(number)
    for key in expected.keys() | stored.keys():
        if key not in expected:
            raise Unproven(f"message {stored[key][0]} is in the database, and nobody was to send it")
        if len(stored[key]) != 1:
            raise Unproven(f"{key} is {len(stored[key])} times in the database")
    meant: dict[str, set[int]] = {name: set() for name in evidence.plan.team}
    for key, receivers in expected.items():
        for name in receivers:
            meant[name].update(stored[key])
    return meant


def _deliveries(evidence: Evidence, name: str, journal: list[dict[str, Any]]) -> tuple[set[int], int]:
    """What one agent received, and how many of that a second time, each of them excused."""
    read = _read(evidence, name)
    received: dict[int, int] = {}  # message -> the life of the agent that was the last to be given it
    life, born, again = 0, 0.0, 0
    for entry in journal:
        match entry:
            case {"event": "started", "at": born}:
                life += 1
            case {"event": "received", "id": number} if number not in received:
                received[number] = life
            case {"event": "redelivered", "id": number} if (
                received.get(number, life) < life and read.get(number, born) >= born
            ):
                received[number] = life
                again += 1
            case {"event": "received" | "redelivered", "id": number}:
                raise Unproven(f"{name} was given message {number} twice")
    return set(received), again


def _read(evidence: Evidence, name: str) -> dict[int, float]:
    """Message -> epoch seconds at which relay knew that this agent has it."""
    return {
        number: at / 1000
        for number, at in evidence.rows("select message_id, at from message_reads where agent_id = ?", name)
    }


def _these(numbers: list[int]) -> str:
    return f"message {', '.join(map(str, numbers[:5]))}" + (" and more" if len(numbers) > 5 else "")
