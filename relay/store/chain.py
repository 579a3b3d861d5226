"""The chain of audit records: each link is a digest of the record and of the link before.

    content = sha256 of the JSON array [id, clientId, kind, view, agentId, messageId, record, createdAt] of the row
    digest  = sha256 of the JSON array [digest of the link before, seq, content]

1. The database links each record in the transaction that writes it: a trigger, and the function registered here.
2. The oldest records may go, all up to one of them. The link before the first that is kept is the anchor; the chain
   starts at it. What the program removes itself says so in a record, which names the anchor (`_anchored`).
3. A change of what is there is found by computing again. Whoever can write the file can also compute a new chain: that
   is found by comparing with a `Head` that was noted elsewhere. Every backup notes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, Protocol

import apsw
import attrs
import orjson

from ._types import Write

__all__ = ["ANCHOR", "TRIMMED", "Damage", "Head", "Verdict", "head_of", "register", "trim", "verify"]

ANCHOR = "audit.anchor"  # key in `meta`
TRIMMED = "server-audit-trim-"  # how the client id of a record begins that tells of an anchor
COLUMNS = "id, client_id, kind, view, agent_id, message_id, record, created_at"
MOST_DAMAGES = 100
PAGE = 2_000  # links that are read at a time


class Reads(Protocol):
    """How rows are read: of a store, or of a connection."""

    def __call__(self, sql: str, *params: Any) -> list[tuple[Any, ...]]: ...


def digest(*values: Any) -> str:
    return hashlib.sha256(orjson.dumps(values, default=repr)).hexdigest()


def register(connection: apsw.Connection) -> None:
    """The schema's trigger on the activity needs this on every connection that writes."""
    connection.create_scalar_function("relay_digest", digest, deterministic=True)


@attrs.frozen
class Head:
    """A link, by its number and digest."""

    seq: int
    digest: str

    @classmethod
    def read(cls, text: str) -> Head:
        """From `812:ab34…`; raises `ValueError`."""
        seq, _, digest = text.partition(":")
        if not (
            seq.isascii() and seq.isdecimal() and len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        ):
            raise ValueError(f"expected a number, a colon and 64 hexadecimal digits, not {text!r}")
        return cls(int(seq), digest)

    def __str__(self) -> str:
        return f"{self.seq}:{self.digest}"


START = Head(0, "")


@attrs.frozen
class Trim:
    """What removes the oldest records: `count` of them, up to the link that becomes the anchor."""

    anchor: Head
    count: int
    writes: tuple[Write, ...]


@attrs.frozen
class Damage:
    """What is wrong. `kind` is changed, removed, inserted, reordered, truncated or foreign; `record` the id of the record
    that is concerned, and `link` the number of its link, where they are known."""

    kind: str
    what: str
    link: int | None = None
    record: int | None = None


@attrs.frozen
class Verdict:
    """`records` were looked at; `anchor` is what the first of them follows, and `head` is the last link."""

    records: int
    anchor: Head
    head: Head
    damages: tuple[Damage, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.damages


@attrs.define
class Link:
    seq: int
    record: int
    content: str
    digest: str
    before: str  # digest of the link that is kept before it
    found: str | None  # what the record's row gives; None without one


def head_of(rows: Reads) -> Head:
    """The last link."""
    found = rows("select seq, digest from audit_chain order by seq desc limit 1")
    return Head(*found[0]) if found else _anchor(rows)


def verify(rows: Reads, witnesses: Iterable[Head] = ()) -> Verdict:
    """Compute the whole chain again; what is read must not change meanwhile. `witnesses` are heads that it had once."""
    anchor = _anchor(rows)
    expected: dict[int, set[str]] = {}
    damages: list[Damage] = []
    for head in witnesses:
        if head.seq > anchor.seq:
            expected.setdefault(head.seq, set()).add(head.digest)
        elif head.seq == anchor.seq and head != anchor:
            damages += _foreign(anchor.seq)
    broken: list[Link] = []
    changed: list[Link] = []
    last, records = anchor, 0
    for link in _links(rows, anchor):
        damages += _gap(last.seq, link.seq, anchor)
        damages += _missing(link)
        if link.found is not None and link.found != link.content:
            changed.append(link)
        if link.digest != digest(link.before, link.seq, link.content):
            broken.append(link)
        if expected.pop(link.seq, {link.digest}) != {link.digest}:
            damages += _foreign(link.seq, link.record)
        last = Head(link.seq, link.digest)
        records += 1
    damages += _changed(rows, changed)
    damages += _reordered(broken)
    damages += _inserted(rows)
    damages += _truncated(rows, last, expected)
    damages += _anchored(rows, anchor)
    damages.sort(key=lambda damage: (damage.link or last.seq + 1, damage.record or 0))
    return Verdict(records, anchor, last, tuple(damages[:MOST_DAMAGES]))


def trim(rows: Reads, before: int, most: int) -> Trim | None:
    """What removes the records from before an instant (epoch ms), those that nothing newer precedes; at most so many, and
    never the last. None when there is none, or only such as tell of this. A record with the client id `TRIMMED`… must
    tell of it, in the same transaction, with the anchor's `seq` and `digest` in its metadata."""
    sql = (
        "select c.seq, c.digest, a.created_at, a.client_id from audit_chain c left join activity a on a.id = c.activity_id"
        " where c.seq < (select max(seq) from audit_chain) order by c.seq limit ?"
    )
    old = list(takewhile(lambda row: row[2] is not None and row[2] < before, rows(sql, most)))
    if all(row[3].startswith(TRIMMED) for row in old):
        return None
    anchor = Head(old[-1][0], old[-1][1])
    kept = orjson.dumps(attrs.asdict(anchor)).decode()
    writes = (
        Write("insert or replace into meta (key, value) values (?, ?)", (ANCHOR, kept)),
        Write(
            "delete from activity where id in (select activity_id from audit_chain where seq <= ?)",
            (anchor.seq,),
            len(old),
        ),
        Write("delete from audit_chain where seq <= ?", (anchor.seq,), len(old)),
    )
    return Trim(anchor, len(old), writes)


def _anchor(rows: Reads) -> Head:
    found = _noted_anchor(rows)
    return (_head(found[0][0]) if found else None) or START


def _noted_anchor(rows: Reads) -> list[tuple[Any, ...]]:
    return rows("select value from meta where key = ?", ANCHOR)


def _head(text: Any) -> Head | None:
    """The head that a JSON text tells of; None if it tells of none."""
    try:
        told = orjson.loads(text)
        head = Head(int(told["seq"]), str(told["digest"]))
    except (ValueError, TypeError, KeyError):
        return None
    return head if head.seq > 0 else None


def _links(rows: Reads, anchor: Head) -> Iterator[Link]:
    columns = ", ".join(f"a.{name}" for name in COLUMNS.split(", "))
    sql = (
        f"select c.seq, c.activity_id, c.content, c.digest, {columns} from audit_chain c"
        " left join activity a on a.id = c.activity_id where c.seq > ? order by c.seq limit ?"
    )
    last = anchor
    while page := rows(sql, last.seq, PAGE):
        for seq, record, content, own, *row in page:
            found = digest(*row) if row[0] is not None else None
            yield Link(seq, record, content, own, last.digest, found)
            last = Head(seq, own)


def _gap(last: int, seq: int, anchor: Head) -> Iterator[Damage]:
    if seq == last + 1:
        return
    missing = f"link {last + 1}" if seq == last + 2 else f"links {last + 1} to {seq - 1}"
    if last == anchor.seq:
        text = f"{missing} at the beginning of the chain, with the records"
        yield Damage("truncated", f"{text}, went without a note of it", last + 1)
    else:
        yield Damage(
            "removed", f"{missing} and what was recorded there, between links {last} and {seq}", last + 1
        )


def _foreign(seq: int, record: int | None = None) -> Iterator[Damage]:
    text = f"link {seq} is not the one that was noted elsewhere: the chain was computed anew"
    yield Damage("foreign", text, seq, record)


def _missing(link: Link) -> Iterator[Damage]:
    if link.found is None:
        yield Damage("removed", f"record {link.record} of link {link.seq}", link.seq, link.record)


def _changed(rows: Reads, links: Sequence[Link]) -> Iterator[Damage]:
    """Whose contents are those of another link have changed places."""
    for link in links[:MOST_DAMAGES]:
        others = _with_content(rows, link, links)
        if others is not None:
            text = f"record {link.record} of link {link.seq} holds what belongs to record {others}"
            yield Damage("reordered", text, link.seq, link.record)
        else:
            yield Damage("changed", f"record {link.record} of link {link.seq}", link.seq, link.record)


def _with_content(rows: Reads, link: Link, links: Sequence[Link]) -> int | None:
    """The record whose link fits what is in this one's row, but for the id, which is the place that it was put in."""
    ((_, *row),) = rows(f"select {COLUMNS} from activity where id = ?", link.record)
    for other in links[:MOST_DAMAGES]:
        if other is not link and digest(other.record, *row) == other.content:
            return other.record
    return None


def _reordered(broken: Sequence[Link]) -> Iterator[Damage]:
    """Links that do not follow the one before. Those that fit in another's place were moved; others were made up."""
    some = broken[:MOST_DAMAGES]
    before = {link.before for link in some} | {link.digest for link in some}
    for link in some:
        home = _home(link, some, before)
        if home is not None:
            text = f"record {link.record} was link {home} and is link {link.seq}"
            yield Damage("reordered", text, link.seq, link.record)
        else:
            text = f"link {link.seq} with record {link.record} does not follow link {link.seq - 1}"
            yield Damage("inserted", text, link.seq, link.record)


def _home(link: Link, broken: Sequence[Link], before: Iterable[str]) -> int | None:
    for previous in before:
        for place in broken:
            if place.seq != link.seq and digest(previous, place.seq, link.content) == link.digest:
                return place.seq
    return None


def _inserted(rows: Reads) -> Iterator[Damage]:
    sql = "select id from activity where id not in (select activity_id from audit_chain) order by id limit ?"
    for (record,) in rows(sql, MOST_DAMAGES):
        yield Damage("inserted", f"record {record} is in no link of the chain", record=record)


def _truncated(rows: Reads, last: Head, expected: Iterable[int]) -> Iterator[Damage]:
    found = rows("select seq from sqlite_sequence where name = 'audit_chain'")
    noted = max([found[0][0] if found else 0, *expected])
    if noted > last.seq:
        missing = f"link {noted}" if noted == last.seq + 1 else f"links {last.seq + 1} to {noted}"
        text = f"{missing} at the end of the chain, with the records: the last that is there is {last.seq}"
        yield Damage("truncated", text, last.seq + 1)


def _anchored(rows: Reads, anchor: Head) -> Iterator[Damage]:
    """The note of the anchor is one, and the newest record of a trimming names the same."""
    noted = _noted_anchor(rows)
    if noted and _head(noted[0][0]) is None:
        yield Damage("changed", f"{ANCHOR} in meta, which says where the chain starts, was overwritten")
    sql = "select record ->> '$.metadata' from activity where client_id glob ? order by id desc limit 1"
    try:
        found = rows(sql, f"{TRIMMED}*")
    except apsw.SQLError:  # it is no JSON any more
        found = [("",)]
    told = (_head(found[0][0]) if found else None) or START
    if told.seq == anchor.seq and told != anchor:
        yield Damage("changed", f"{ANCHOR} in meta: the digest of link {anchor.seq} is another", anchor.seq)
    elif told != anchor:
        text = f"the chain starts after link {anchor.seq}; by its own records it should after link {told.seq}"
        yield Damage("truncated", text, anchor.seq)
