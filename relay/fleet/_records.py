"""Records as rows hold them."""

from __future__ import annotations

from typing import Any

import orjson

from relay import wire
from relay.store import Store

__all__ = ["find_activity", "text_of"]


def text_of(known: Any) -> str:
    """The JSON text of what `wire.to_json` made: for whoever needs both, that is half the work of `wire.encode`."""
    return orjson.dumps(known).decode()


def find_activity(store: Store, client_id: str) -> wire.Activity | None:
    row = store.row("select record from activity where client_id = ?", client_id)
    return wire.decode(wire.Activity, row[0]) if row else None
