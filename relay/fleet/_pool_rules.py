"""Slots of pools: who holds which (messaging-control 8.4, 22.6). Functions of what they are given, and nothing else.

A binding to a pool has one slot. Whoever is a provider, is there, and has the pool's name among its tags or capabilities
may hold one slot of that pool. A holder keeps its slot as long as it may; older bindings choose first (`MOVES`).

Only a slot that goes from one to another is a change, so what is evaluated twice changes once (M-I24).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from relay import wire

from ._machine import NONE, Moves

__all__ = ["EMPTY", "HELD", "MOVES", "PREFERRED", "concerns", "eligible", "evaluate"]

PREFERRED = (wire.AgentStatus.IDLE, wire.AgentStatus.ONLINE, wire.AgentStatus.BUSY)
"""The statuses in which an agent may hold a slot, the best first; among equals the lowest id is chosen (CHN-24)."""

EMPTY, HELD = "empty", "held"

MOVES: Moves = {
    NONE: {"bound": EMPTY},
    EMPTY: {"somebody may": HELD, "nobody may": EMPTY, "unbound": NONE},
    HELD: {"holder may": HELD, "somebody may": HELD, "nobody may": EMPTY, "unbound": NONE},
}
"""Spec 22.6. What `holder may` moves stays with the holder; `somebody may` is told of one who is not yet the holder."""

CardOf = Callable[[str], wire.Agent | None]
Candidates = Callable[[str], Iterable[tuple[str, wire.AgentStatus]]]


def eligible(card: wire.Agent | None, pool: str) -> bool:
    """Whether this agent may hold a slot of the pool, unless it holds another one of it already."""
    if card is None or card.kind is not wire.AgentKind.PROVIDER or card.status not in PREFERRED:
        return False
    return pool in card.tags or pool in card.capabilities


def evaluate(slots: Sequence[wire.Binding], card_of: CardOf, candidates: Candidates) -> list[wire.SlotChange]:
    """What has to change. `slots` are the bindings to pools, oldest first. `candidates` are ids and statuses of agents:
    all of a pool, and maybe others; so that of thousands only the cards of those that are chosen are looked at."""
    held: dict[str, set[str]] = {}
    vacant: list[wire.Binding] = []
    for slot in slots:
        pool = _pool(slot)
        holders = held.setdefault(pool, set())
        holder = slot.pool_agent_id
        if holder is not None and holder not in holders and eligible(card_of(holder), pool):
            holders.add(holder)
        else:
            vacant.append(slot)
    free = {pool: _free(pool, held[pool], card_of, candidates) for pool in held}
    filled = [_change(slot, next(free[_pool(slot)], None)) for slot in vacant]
    return [change for change in filled if change.new_agent_id != change.previous_agent_id]


def _free(pool: str, held: set[str], card_of: CardOf, candidates: Candidates) -> Iterator[str]:
    """Who may hold a slot of the pool and holds none, the best first."""
    known = ((name, status) for name, status in candidates(pool) if status in PREFERRED)
    for name, _ in sorted(known, key=lambda each: (PREFERRED.index(each[1]), each[0])):
        if name not in held and eligible(card_of(name), pool):
            yield name


def concerns(slots: Iterable[wire.Binding], agent_id: str, card: wire.Agent | None) -> bool:
    """Whether any slot may change because this agent did. Cheap, for agents change often and slots do not."""
    holds = {_pool(slot) for slot in slots if slot.pool_agent_id == agent_id}
    return any(not eligible(card, pool) for pool in holds) or any(
        slot.pool_agent_id is None and _pool(slot) not in holds and eligible(card, _pool(slot))
        for slot in slots
    )


def _change(slot: wire.Binding, chosen: str | None) -> wire.SlotChange:
    before = EMPTY if slot.pool_agent_id is None else HELD
    after = MOVES[before]["nobody may" if chosen is None else "somebody may"]
    return wire.SlotChange(
        binding_id=slot.id,
        channel_id=slot.channel_id,
        previous_agent_id=slot.pool_agent_id,
        new_agent_id=chosen if after is HELD else None,
    )


def _pool(slot: wire.Binding) -> str:
    return slot.target.id or ""
