"""Runs of recipes as rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from relay import wire
from relay.store import Decision, Store, Write

from ._errors import NotFound
from ._recipe_rules import OPEN
from ._recipe_start import announced
from ._records import text_of

__all__ = ["find_instance", "get_instance", "kept", "list_instances", "unfinished"]

T = TypeVar("T")

ALL = -1


def find_instance(store: Store, key: str) -> wire.RecipeInstance | None:
    row = store.row("select record from recipe_instances where id = ?", key)
    return wire.decode(wire.RecipeInstance, row[0]) if row else None


def get_instance(store: Store, key: str) -> wire.RecipeInstance:
    """The run; raises `NotFound`."""
    run = find_instance(store, key)
    if run is None:
        raise NotFound("no such run of a recipe")
    return run


def list_instances(
    store: Store,
    *,
    status: str | None = None,
    may_see: Callable[[wire.RecipeInstance], bool] | None = None,
    limit: int = 100,
) -> list[wire.RecipeInstance]:
    """Runs that whoever asks `may_see`, the newest first. A status that there is not is that of none (REC-9)."""
    sql = "select record from recipe_instances where (?1 is null or status = ?1) order by seq desc limit ?2"
    most = limit if may_see is None else ALL
    found = (wire.decode(wire.RecipeInstance, record) for (record,) in store.rows(sql, status, most))
    return list(islice(filter(may_see, found) if may_see is not None else found, limit))


def unfinished(store: Store) -> list[str]:
    """The runs that something is expected of: whoever starts the fleet wakes them."""
    marks = ", ".join("?" * len(OPEN))
    sql = f"select id from recipe_instances where status in ({marks}) order by seq"
    return [key for (key,) in store.rows(sql, *OPEN)]


def kept(before: wire.RecipeInstance, after: wire.RecipeInstance, reply: T) -> Decision[T]:
    """The run is so from now on, and everybody hears of it."""
    known = wire.to_json(after)
    write = Write(
        "update recipe_instances set status = ?, record = ?, updated_at = ? where id = ? and status = ?",
        (after.status, text_of(known), round((after.updated_at or 0.0) * 1000), after.id, before.status),
        1,
    )
    return Decision(reply=reply, writes=(write,), events=(announced(after),))
