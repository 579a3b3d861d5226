"""Tokens as rows: what is written of them, and looking at them. `record` holds all that is known, the columns what is looked
for. No row has a token's text."""

from __future__ import annotations

from itertools import islice

import attrs

from relay import wire
from relay.store import Store, Write

from ._errors import NotFound
from ._moment import Moment
from ._records import text_of
from ._token_rules import Held, within_reach

__all__ = [
    "ended",
    "find_token",
    "get_token",
    "inserted",
    "list_tokens",
    "live_in",
    "live_of",
    "newest",
    "purged",
]

ALL = -1
USELESS = "expires_at < ?1 or revoked_at < ?1 * 1000"


def inserted(token: wire.Token) -> Write:
    known = text_of(wire.to_json(token))
    created_at = round((token.created_at or 0.0) * 1000)
    return Write(
        "insert into tokens (jti, family, sub, role, expires_at, revoked_at, replaced_by, record, created_at)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (token.jti, token.family, token.sub, token.role, token.expires_at, None, None, known, created_at),
    )


def ended(token: wire.Token, replaced_by: str | None, moment: Moment) -> Write:
    """The token is none any more; fenced, as it can end only once."""
    after = attrs.evolve(token, revoked_at=wire.Instant(moment.at), replaced_by=replaced_by)
    return Write(
        "update tokens set revoked_at = ?, replaced_by = ?, record = ? where jti = ? and revoked_at is null",
        (moment.ms, replaced_by, text_of(wire.to_json(after)), token.jti),
        1,
    )


def purged(store: Store, before: int) -> tuple[int, tuple[Write, ...]]:
    """How many tokens ended before this instant (epoch seconds), and what removes them."""
    (count,) = store.row(f"select count(*) from tokens where {USELESS}", before) or (0,)
    return count, (Write(f"delete from tokens where {USELESS}", (before,)),) if count else ()


def find_token(store: Store, jti: str) -> wire.Token | None:
    row = store.row("select record from tokens where jti = ?", jti)
    return wire.decode(wire.Token, row[0]) if row else None


def get_token(store: Store, jti: str) -> wire.Token:
    """The record; raises `NotFound`."""
    token = find_token(store, jti)
    if token is None:
        raise NotFound("no such token")
    return token


def newest(store: Store, jti: str) -> str:
    """What has taken this token's place, after however many others; itself if nothing has."""
    while (found := find_token(store, jti)) is not None and found.replaced_by is not None:
        jti = found.replaced_by
    return jti


def list_tokens(
    store: Store,
    *,
    sub: str | None = None,
    role: str | None = None,
    live: float | None = None,
    seen_by: Held | None = None,
    limit: int = 100,
) -> list[wire.Token]:
    """The newest first; with `live`, an instant, only those that are neither revoked nor expired then; with `seen_by`, only
    those that reach no further than this."""
    sql = (
        "select record from tokens where (?1 is null or sub = ?1) and (?2 is null or role = ?2)"
        " and (?3 is null or (revoked_at is null and (expires_at is null or expires_at > ?3)))"
        " order by created_at desc, jti desc limit ?4"
    )
    most = limit if seen_by is None else ALL
    found = (wire.decode(wire.Token, record) for (record,) in store.rows(sql, sub, role, live, most))
    seen = (token for token in found if seen_by is None or within_reach(seen_by, token) is None)
    return list(islice(seen, limit))


def live_in(store: Store, family: str) -> list[wire.Token]:
    """What of the family has not been ended."""
    sql = "select record from tokens where family = ? and revoked_at is null"
    return [wire.decode(wire.Token, record) for (record,) in store.rows(sql, family)]


def live_of(store: Store, sub: str) -> list[wire.Token]:
    """What this subject has that has not been ended."""
    sql = "select record from tokens where sub = ? and revoked_at is null"
    return [wire.decode(wire.Token, record) for (record,) in store.rows(sql, sub)]
