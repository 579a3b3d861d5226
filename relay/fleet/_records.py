"""Records as rows hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from relay import wire
from relay.store import Store

__all__ = ["find_activity", "text_member", "text_of"]


def text_of(known: Any) -> str:
    """The JSON text of what `wire.to_json` made: for whoever needs both, that is half the work of `wire.encode`."""
    return orjson.dumps(known).decode()


def text_member(meta: Mapping[str, Any], name: str) -> str | None:
    """A text member of an agent's meta; anything else, and an empty text, counts as absent (3.1)."""
    value = meta.get(name)
    return value if isinstance(value, str) and value else None


def find_activity(store: Store, client_id: str) -> wire.Activity | None:
    row = store.row("select record from activity where client_id = ?", client_id)
    return wire.decode(wire.Activity, row[0]) if row else None
