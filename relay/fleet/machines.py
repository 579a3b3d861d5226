"""All state machines of the fleet, as those who read them want them: `page()` is `docs/machines.md`.

The tables stand where they are used; this only lists them. `python -m relay.fleet.machines > docs/machines.md` writes the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import attrs

from relay import wire

from . import (
    _agent_actions,
    _agent_rules,
    _automation_rules,
    _claims,
    _command_rules,
    _delivery_rules,
    _machine,
    _pair_rules,
    _policy_rules,
    _pool_rules,
    _queue,
    _recipe_rules,
    _task_rules,
    _token_rules,
    _upgrades,
    _workspace_rows,
    merges,
)
from ._machine import Moves

__all__ = ["MACHINES", "Machine", "page"]


@attrs.frozen
class Machine:
    """`spec` are the sections that say it: of messaging-control (22), of agents-workspaces (18)."""

    name: str
    spec: str
    where: str
    moves: Moves
    about: str


def _by_state(moves: Mapping[str, Mapping[wire.Rung, wire.Rung]]) -> Moves:
    """A table that was written by event, by state."""
    states = dict.fromkeys(
        state for of_event in moves.values() for pair in of_event.items() for state in pair
    )
    return {
        state: {event: of_event[state] for event, of_event in moves.items() if state in of_event}
        for state in states
    }


def _markers() -> Moves:
    """What an action that was accepted writes down on the agent, whatever it was."""
    marked = {verb.value: action.marker for verb, action in _agent_actions.ACTIONS.items() if action.marker}
    return {"any": {**marked, "reported by its runner": _machine.AS_GIVEN}}


MACHINES = (
    Machine(
        "Message",
        "22.1",
        "fleet/_queue.py",
        _queue.MOVES,
        "Mail for a policy waits in its queue until the policy's agent is there.",
    ),
    Machine(
        "Claim on a message",
        "22.2",
        "fleet/_claims.py",
        _claims.MOVES,
        "As whoever asks sees it. A claim that is over counts no more, and is released by the next maintenance run.",
    ),
    Machine(
        "Delivery",
        "beside the contract",
        "fleet/_delivery_rules.py",
        _by_state(_delivery_rules.MOVES),
        "How far a message got with one recipient: [deliveries](deliveries.md).",
    ),
    Machine(
        "Task",
        "22.3",
        "fleet/_task_rules.py",
        _task_rules.MOVES,
        "Work that other programs report. `claimed` is by its holder, or by anybody once nobody holds it.",
    ),
    Machine(
        "Command",
        "22.4, 18.3",
        "fleet/_command_rules.py",
        _command_rules.MOVES,
        "[Commands](commands.md). A `note` is a report without a status, or with the present one.",
    ),
    Machine(
        "Agent of a policy",
        "22.5",
        "fleet/_policy_rules.py",
        _policy_rules.MOVES,
        "[Policies](policies.md). One whose agent was never started counts as stopped.",
    ),
    Machine(
        "Slot of a pool",
        "22.6",
        "fleet/_pool_rules.py",
        _pool_rules.MOVES,
        "Looked at whenever an agent changes, and by each maintenance run.",
    ),
    Machine(
        "Run of an automation",
        "22.7",
        "fleet/_automation_rules.py",
        _automation_rules.MOVES,
        "What schedules and events begin.",
    ),
    Machine(
        "Run of a recipe",
        "22.8",
        "fleet/_recipe_rules.py",
        _recipe_rules.MOVES,
        "[Recipes](recipes.md). `begin`: not all agents run yet; `run`: they do; `hold`, `fail`: that is so of a step.",
    ),
    Machine(
        "Pair",
        "22.9",
        "fleet/_pair_rules.py",
        _pair_rules.MOVES,
        "[Pairs](pairs.md).",
    ),
    Machine(
        "Agent",
        "22.10",
        "fleet/_agent_rules.py",
        _agent_rules.LIVENESS,
        "`quiet` is 90 s without contact, `lost` 180 s, found by a maintenance run.",
    ),
    Machine(
        "Life of an agent's session",
        "18.5",
        "fleet/_agent_actions.py",
        _markers(),
        "`lifecycleAction` on the card: what its session was asked for last, by an action that was accepted.",
    ),
    Machine(
        "Upgrade of a host",
        "22.11, 18.4",
        "fleet/_upgrades.py",
        _upgrades.MOVES,
        "Settled by what the host says it is. `missed` is another version after five minutes, `failed` what its command says.",
    ),
    Machine(
        "Token",
        "22.12",
        "fleet/_token_rules.py",
        _token_rules.MOVES,
        "Renewed or minted anew, it is replaced; revoked, all of its family is.",
    ),
    Machine(
        "Workspace",
        "18.1",
        "fleet/_workspace_rows.py",
        _workspace_rows.MOVES,
        "`as given` is what the host says that it has become.",
    ),
    Machine(
        "Merge lease",
        "18.2",
        "fleet/merges.py",
        merges.MOVES,
        "One for each repository; bound to its command from the start.",
    ),
)

INTRODUCTION = """# State machines

What is not in a table does not happen: it is refused, or has no effect. These tables are those that the code looks at, written
down by it; `—` stands for what is not there, yet or any more. The numbers are sections of the contract.
"""


def page() -> str:
    """The machines in Markdown."""
    return "\n".join([INTRODUCTION, *map(_section, MACHINES)])


def _section(machine: Machine) -> str:
    head = f"## {machine.name}\n\n{machine.about} ({machine.spec}; `relay/{machine.where}`)\n"
    rows = [f"| {', '.join(states)} | {event} | {after} |" for states, event, after in _rows(machine.moves)]
    return "\n".join([head, "| in | when | becomes |", "|---|---|---|", *rows, ""])


def _rows(moves: Moves) -> Iterator[tuple[list[str], str, str]]:
    """States that go the same way at the same event are one row."""
    everywhere = [_word(state) for state in moves if state not in (None, _machine.NONE)]
    stays = {
        event
        for event in _events(moves)
        if all(moves[state][event] == state for state in _machine.states_with(event, moves))
    }
    grouped: dict[tuple[str, str], list[str]] = {}
    for state, events in moves.items():
        for event, after in events.items():
            told = "the same" if event in stays else _word(after)
            grouped.setdefault((_word(event), told), []).append(_word(state))
    for (event, after), states in grouped.items():
        yield ["any"] if states == everywhere and len(states) > 2 else states, event, after


def _events(moves: Moves) -> set[str]:
    return {event for events in moves.values() for event in events}


def _word(name: object) -> str:
    return "—" if name in (None, _machine.NONE) else str(name).replace("_", " ")


if __name__ == "__main__":
    sys.stdout.write(page())
