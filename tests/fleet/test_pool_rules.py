"""Slots of pools, as functions: who may hold one, who is chosen, and that evaluating again changes nothing."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from relay import wire
from relay.fleet._pool_rules import concerns, eligible, evaluate

S = wire.AgentStatus
POOL = wire.TargetType.POOL


def agent(name: str, status: S = S.IDLE, **card: Any) -> wire.Agent:
    return wire.Agent(id=name, status=status, **{"tags": ["p"], **card})


def slot(number: int, holder: str | None = None, pool: str = "p") -> wire.Binding:
    return wire.Binding(
        id=f"b{number}",
        channel_id=f"c{number}",
        target=wire.BindingTarget(type=POOL, id=pool),
        pool_agent_id=holder,
    )


def run(slots: list[wire.Binding], agents: list[wire.Agent]) -> list[wire.SlotChange]:
    cards = {card.id: card for card in agents}
    return evaluate(slots, cards.get, lambda pool: [(card.id, card.status) for card in agents])


def chosen(slots: list[wire.Binding], agents: list[wire.Agent]) -> list[str | None]:
    return [change.new_agent_id for change in run(slots, agents)]


def after(slots: list[wire.Binding], changes: list[wire.SlotChange]) -> list[wire.Binding]:
    new = {change.binding_id: change.new_agent_id for change in changes}
    return [attrs.evolve(each, pool_agent_id=new.get(each.id, each.pool_agent_id)) for each in slots]


@pytest.mark.spec("CHN-24", "O-33")
def test_who_may_hold_a_slot() -> None:
    assert all(eligible(agent("a", status), "p") for status in (S.IDLE, S.ONLINE, S.BUSY))
    assert not any(eligible(agent("a", status), "p") for status in (S.STALE, S.OFFLINE))
    assert eligible(agent("a", tags=[], capabilities=["p"]), "p")
    assert not eligible(agent("a"), "q")
    assert not any(eligible(agent("a", kind=kind), "p") for kind in wire.AgentKind if kind != "provider")
    assert not eligible(None, "p")


@pytest.mark.spec("CHN-24", "O-33")
def test_idle_comes_before_online_before_busy_and_then_the_lowest_id() -> None:
    crowd = [agent("a", S.BUSY), agent("b", S.ONLINE), agent("d"), agent("c"), agent("0", S.STALE)]
    assert chosen([slot(1), slot(2), slot(3), slot(4), slot(5)], crowd) == ["c", "d", "b", "a"]


@pytest.mark.spec("CHN-21", "22.6", "M-I24")
@pytest.mark.parametrize(
    ("holder", "agents", "change"),
    [
        (None, [], None),
        (None, [agent("a")], (None, "a")),
        ("a", [agent("a", S.BUSY), agent("b")], None),
        ("a", [agent("a", S.STALE), agent("b")], ("a", "b")),
        ("a", [agent("b", tags=["q"])], ("a", None)),
    ],
)
def test_the_table_of_a_slot(holder: str | None, agents: list[wire.Agent], change: Any) -> None:
    found = [(each.previous_agent_id, each.new_agent_id) for each in run([slot(1, holder)], agents)]
    assert found == ([change] if change else [])


@pytest.mark.spec("M-I23", "O-33")
def test_an_agent_holds_one_slot_of_a_pool_and_one_of_another() -> None:
    both = agent("a", tags=["p", "q"])
    slots = [slot(1), slot(2), slot(3, pool="q")]
    assert [(change.binding_id, change.new_agent_id) for change in run(slots, [both])] == [
        ("b1", "a"),
        ("b3", "a"),
    ]


cards = st.builds(
    agent,
    st.sampled_from("abcde"),
    st.sampled_from(list(S)),
    tags=st.sets(st.sampled_from("pq")).map(list),
    kind=st.sampled_from([wire.AgentKind.PROVIDER, wire.AgentKind.CHANNEL]),
)
crowds = st.lists(cards, unique_by=lambda card: card.id, max_size=5)
rows = st.lists(st.sampled_from("pq"), max_size=5).map(
    lambda pools: [slot(number, None, pool) for number, pool in enumerate(pools)]
)


@pytest.mark.spec("M-I23", "M-I24", "CHN-25")
@given(slots=rows, before=crowds, now=crowds)
def test_whoever_comes_and_goes(
    slots: list[wire.Binding], before: list[wire.Agent], now: list[wire.Agent]
) -> None:
    held = after(slots, run(slots, before))
    changes = run(held, now)
    settled = after(held, changes)
    by_name = {card.id: card for card in now}
    taken = [(each.target.id, each.pool_agent_id) for each in settled if each.pool_agent_id]
    assert len(taken) == len(set(taken)), "an agent holds one slot of a pool"
    assert all(eligible(by_name.get(str(name)), str(pool)) for pool, name in taken)
    for each, later in zip(held, settled, strict=True):
        pool, holder = str(each.target.id), each.pool_agent_id
        if holder is not None and eligible(by_name.get(holder), pool):
            assert later.pool_agent_id == holder, "a holder keeps its slot while it may"
        if later.pool_agent_id is None:
            free = {card.id for card in now if eligible(card, pool)} - {n for p, n in taken if p == pool}
            assert not free, "no slot stays empty while somebody may hold it"
    assert run(settled, now) == [], "evaluated twice it changes once"


@given(slots=rows, crowd=crowds, change=cards)
def test_an_agent_that_concerns_no_slot_changes_none(
    slots: list[wire.Binding], crowd: list[wire.Agent], change: wire.Agent
) -> None:
    held = after(slots, run(slots, crowd))
    now = [card for card in crowd if card.id != change.id] + [change]
    if not concerns(held, change.id, change):
        assert run(held, now) == []
