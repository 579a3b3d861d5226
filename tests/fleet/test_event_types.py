"""The catalogue of events is that of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import relay.fleet
from relay.fleet._event_types import EVENT_TYPES


def told() -> Iterator[str]:
    """The first argument of each `Event(…)`, as a pattern: what is put in when it is told may be anything."""
    for file in Path(relay.fleet.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Event":
                yield from patterns(call.args[0])


def patterns(kind: ast.expr) -> Iterator[str]:
    match kind:
        case ast.Constant(value=str(text)):
            yield re.escape(text)
        case ast.JoinedStr(values=parts):
            yield "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in parts
            )
        case ast.IfExp(body=body, orelse=other):
            yield from (*patterns(body), *patterns(other))


def test_every_event_that_is_told_is_known() -> None:
    found = list(told())
    assert len(found) > 20
    for pattern in found:
        assert any(re.fullmatch(pattern, kind) for kind in EVENT_TYPES), pattern


def test_every_event_that_is_known_is_told() -> None:
    """Those of pairs and of a restored database are named in other ways."""
    found = list(told())
    silent = {kind for kind in EVENT_TYPES if not any(re.fullmatch(pattern, kind) for pattern in found)}
    assert silent == {"pair.created", "pair.updated", "system.restored"}
