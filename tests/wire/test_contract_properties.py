"""What holds for every class of the contract, whatever its objects hold and whatever is sent for them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from contracts import CLASSES, json_values, objects, resembling
from hypothesis import given, settings, strategies as st

from relay import wire

every_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
few = settings(max_examples=10, deadline=None)


def test_the_contract_is_what_is_tested() -> None:
    assert {wire.Agent, wire.SendMessage, wire.Roster, wire.MergeLease, wire.Health} <= set(CLASSES)
    assert len(CLASSES) >= 34


@every_class
@few
@given(data=st.data())
@pytest.mark.spec("VAL-2")
def test_what_is_written_is_read_again_and_unknown_members_are_ignored(
    kind: type[Any], data: st.DataObject
) -> None:
    value = data.draw(objects(kind))
    text, members = wire.encode(value), wire.to_json(value)
    assert orjson.loads(text) == members
    assert wire.encode(members) == text
    assert wire.encode({"of": [value]}) == b'{"of":[' + text + b"]}"
    strangers = {f"x-{name}": data.draw(json_values) for name in range(3)}
    assert wire.decode(kind, text) == value
    assert wire.decode(kind, strangers | members) == value


@every_class
@few
@given(data=st.data())
def test_whatever_is_sent_is_read_or_refused_with_its_problems(kind: type[Any], data: st.DataObject) -> None:
    body = orjson.dumps(data.draw(resembling(kind) | json_values))
    try:
        value = wire.decode(kind, body)
    except wire.Invalid as refusal:
        assert refusal.problems
        assert str(refusal) == "; ".join(refusal.problems)
        return
    again = wire.decode(kind, wire.encode(value))
    assert wire.encode(again) == wire.encode(value)


@settings(max_examples=100, deadline=None)
@given(text=st.binary(max_size=200) | st.text(max_size=200), kind=st.sampled_from(CLASSES))
def test_bytes_of_any_kind_are_read_or_refused(kind: type[Any], text: bytes | str) -> None:
    try:
        wire.decode(kind, text)
    except wire.Invalid as refusal:
        assert refusal.problems


@settings(max_examples=100, deadline=None)
@given(data=st.data(), kind=st.sampled_from([wire.SendMessage, wire.Roster, wire.PatchCommand]))
def test_damaged_bodies_are_read_or_refused(kind: type[Any], data: st.DataObject) -> None:
    body = bytearray(wire.encode(data.draw(objects(kind))))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.encode(wire.decode(kind, bytes(body)))
    except wire.Invalid as refusal:
        assert refusal.problems
