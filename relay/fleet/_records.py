"""Records as rows hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson

from relay import wire
from relay.store import Store

__all__ = ["find_activity", "fitting", "text_member", "text_of"]

T = TypeVar("T")


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


def fitting(
    store: Store, kind: type[T], table: str, filters: Mapping[str, Any], *, order: str, limit: int
) -> list[T]:
    """The records of a table that fit every filter: an SQL condition, and what its `?` stands for, or a tuple of what several
    do; None is no filter."""
    given = {sql: value for sql, value in filters.items() if value is not None}
    where = f"where {' and '.join(given)} " if given else ""
    sql = f"select record from {table} {where}order by {order} limit ?"
    values = [each for value in given.values() for each in (value if isinstance(value, tuple) else (value,))]
    return [wire.decode(kind, record) for (record,) in store.rows(sql, *values, limit)]
