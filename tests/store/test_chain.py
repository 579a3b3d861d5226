"""The chain of audit records: whatever is done to it behind relay's back is found, and named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw
import pytest

from relay.store import chain
from relay.store._migrations import SCRIPTS, migrate
from relay.store.chain import Head, Verdict, trim, verify

INSERT = (
    "insert or ignore into activity (id, client_id, kind, view, agent_id, message_id, record, created_at)"
    " values (?, ?, 'state', null, 'a1', null, ?, ?)"
)


class Audit:
    """A database with ten records, open as relay has it, and as somebody else may."""

    def __init__(self, path: str) -> None:
        self.connection = apsw.Connection(path)
        migrate(self.connection)
        self.write(10)

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, params).fetchall()

    def write(self, count: int) -> None:
        ((last,),) = self.rows("select coalesce(max(id), 0) from activity")
        for number in range(last + 1, last + 1 + count):
            self.rows(INSERT, number, f"c{number}", f'{{"title": "{number}"}}', number * 1_000)

    def tamper(self, *statements: str) -> None:
        """What is not let through is switched off first."""
        for trigger in ("activity_never_changes", "activity_is_linked"):
            self.rows(f"drop trigger if exists {trigger}")
        for statement in statements:
            self.rows(statement)

    def verify(self, *witnesses: Head) -> Verdict:
        return verify(self.rows, witnesses)

    def found(self, *witnesses: Head) -> list[tuple[str, int | None, int | None]]:
        return [(damage.kind, damage.link, damage.record) for damage in self.verify(*witnesses).damages]


@pytest.fixture
def audit() -> Iterator[Audit]:
    audit = Audit(":memory:")
    yield audit
    audit.connection.close()


def test_a_chain_that_nobody_touched_is_whole(audit: Audit) -> None:
    verdict = audit.verify()
    assert (verdict.ok, verdict.records, verdict.anchor, verdict.head.seq) == (True, 10, Head(0, ""), 10)
    assert chain.head_of(audit.rows) == verdict.head == Head.read(str(verdict.head))


def test_an_empty_chain_is_whole() -> None:
    connection = apsw.Connection(":memory:")
    migrate(connection)
    assert verify(lambda sql, *params: connection.execute(sql, params).fetchall()).ok


@pytest.mark.spec("ACT-2", "M-I32")
def test_a_record_that_is_there_already_makes_no_link(audit: Audit) -> None:
    audit.rows(INSERT, 99, "c3", "{}", 1)
    assert (audit.verify().ok, audit.verify().head.seq) == (True, 10)


def test_a_record_cannot_be_changed_by_mistake(audit: Audit) -> None:
    with pytest.raises(apsw.ConstraintError, match="never changes"):
        audit.rows("update activity set record = '{}' where id = 3")


@pytest.mark.parametrize(
    "column", ["client_id", "kind", "view", "agent_id", "message_id", "record", "created_at"]
)
def test_a_changed_record_is_named(audit: Audit, column: str) -> None:
    audit.tamper(f"update activity set {column} = 77 where id = 3")
    assert audit.found() == [("changed", 3, 3)]


def test_every_single_record_counts(audit: Audit) -> None:
    audit.tamper("update activity set record = record || ' '")
    assert audit.found() == [("changed", number, number) for number in range(1, 11)]


TAMPERED: dict[str, tuple[str, list[tuple[str, int | None, int | None]]]] = {
    "a removed record": ("delete from activity where id = 4", [("removed", 4, 4)]),
    "a removed link": (
        "delete from audit_chain where seq = 4",
        [("removed", 4, None), ("inserted", 5, 5), ("inserted", None, 4)],
    ),
    "a record removed with its link": (
        "delete from activity where id = 4; delete from audit_chain where seq = 4",
        [("removed", 4, None), ("inserted", 5, 5)],
    ),
    "a record without a link": (
        "insert into activity (id, client_id, kind, record, created_at) values (99, 'x', 'state', '{}', 1)",
        [("inserted", None, 99)],
    ),
    "a record with a link of its own at the end": (
        (
            "insert into activity (id, client_id, kind, record, created_at) values (99, 'x', 'state', '{}', 1);"
            "insert into audit_chain (activity_id, content, digest) values (99, relay_digest(99, 'x', 'state', null, null, null, '{}', 1), 'd')"
        ),
        [("inserted", 11, 99)],
    ),
    "two records that changed places": (
        (
            "create temp table t as select * from activity where id in (3, 7);"
            "update activity set id = -id where id in (3, 7);"
            "update activity set id = case id when -3 then 7 else 3 end where id < 0"
        ),
        [("reordered", 3, 3), ("reordered", 7, 7)],
    ),
    "two links that changed places": (
        (
            "update audit_chain set seq = -seq where seq in (3, 7);"
            "update audit_chain set seq = case seq when -3 then 7 else 3 end where seq < 0"
        ),
        [("reordered", 3, 7), ("inserted", 4, 4), ("reordered", 7, 3), ("inserted", 8, 8)],
    ),
    "two links next to each other that changed places": (
        (
            "update audit_chain set seq = -seq where seq in (3, 4);"
            "update audit_chain set seq = case seq when -3 then 4 else 3 end where seq < 0"
        ),
        [("reordered", 3, 4), ("reordered", 4, 3), ("inserted", 5, 5)],
    ),
    "the end cut off": (
        "delete from activity where id > 7; delete from audit_chain where seq > 7",
        [("truncated", 8, None)],
    ),
    "the beginning cut off": (
        "delete from activity where id < 4; delete from audit_chain where seq < 4",
        [("truncated", 1, None), ("inserted", 4, 4)],
    ),
    "the beginning cut off, with an anchor": (
        (
            "delete from activity where id < 4;"
            "insert into meta values ('audit.anchor', (select json_object('seq', seq, 'digest', digest) from audit_chain where seq = 3));"
            "delete from audit_chain where seq < 4"
        ),
        [("truncated", 3, None)],
    ),
    "the end cut off, and the count of links with it": (
        (
            "delete from activity where id > 7; delete from audit_chain where seq > 7;"
            "update sqlite_sequence set seq = 7 where name = 'audit_chain'"
        ),
        [],  # only what was noted elsewhere finds that
    ),
    "everything removed": (
        "delete from activity; delete from audit_chain",
        [("truncated", 1, None)],
    ),
    "an anchor that is none": (
        "insert into meta values ('audit.anchor', 'nonsense')",
        [("changed", None, None)],
    ),
    "an anchor of nothing": (
        'insert into meta values (\'audit.anchor\', \'{"seq": -4, "digest": ""}\')',
        [("changed", None, None)],
    ),
    "an anchor beyond the end": (
        "insert into meta values ('audit.anchor', json_object('seq', 99, 'digest', 'd'))",
        [("truncated", 99, None)],
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_done_is_found_and_named(audit: Audit, name: str) -> None:
    statement, expected = TAMPERED[name]
    audit.tamper(statement)
    assert audit.found() == expected


def test_a_chain_that_was_cut_off_is_not_made_whole_by_what_follows(audit: Audit) -> None:
    """Also when the records after the cut come from relay itself."""
    audit.rows("delete from activity where id > 7")
    audit.rows("delete from audit_chain where seq > 7")
    audit.write(2)
    assert audit.found() == [("removed", 8, None)]


def computed_anew(audit: Audit, first: int = 1) -> None:
    """All links from one on, as whoever can write the database can, too."""
    ((before,),) = audit.rows(
        "select coalesce((select digest from audit_chain where seq = ?), '')", first - 1
    )
    audit.rows("delete from audit_chain where seq >= ?", first)
    later = f"select {chain.COLUMNS} from activity where id not in (select activity_id from audit_chain) order by id"
    for seq, row in enumerate(audit.rows(later), first):
        content = chain.digest(*row)
        before = chain.digest(before, seq, content)
        audit.rows("insert into audit_chain values (?, ?, ?, ?)", seq, row[0], content, before)


def head_at(audit: Audit, seq: int) -> Head:
    ((digest,),) = audit.rows("select digest from audit_chain where seq = ?", seq)
    return Head(seq, digest)


@pytest.mark.parametrize("first", [1, 3, 6])
def test_a_chain_that_was_computed_anew_is_found_by_a_head_that_was_noted(audit: Audit, first: int) -> None:
    """From its beginning, or from a point on: by every head that was noted of what was rewritten."""
    noted = {seq: head_at(audit, seq) for seq in range(1, 11)}
    audit.tamper(f"update activity set record = '{{}}' where id = {max(first, 3)}")
    computed_anew(audit, first)
    assert audit.found() == []
    for seq, head in noted.items():
        assert audit.found(head) == ([("foreign", seq, seq)] if seq >= max(first, 3) else []), seq
    assert audit.found(Head(12, noted[10].digest)) == [("truncated", 11, None)]


def test_a_record_taken_out_of_a_chain_that_was_computed_anew_is_found_by_a_head(audit: Audit) -> None:
    noted = head_at(audit, 10)
    audit.tamper("delete from activity where id = 5")
    audit.rows("delete from audit_chain where seq >= 5")
    computed_anew(audit, 5)
    audit.rows("update sqlite_sequence set seq = 9 where name = 'audit_chain'")
    assert audit.found() == []
    assert audit.found(noted) == [("truncated", 10, None)]


def test_an_end_that_was_cut_off_is_found_by_a_head(audit: Audit) -> None:
    noted = audit.verify().head
    audit.tamper(
        "delete from activity where id > 7",
        "delete from audit_chain where seq > 7",
        "update sqlite_sequence set seq = 7 where name = 'audit_chain'",
    )
    assert audit.found() == []
    assert audit.found(noted) == [("truncated", 8, None)]


def trimmed(audit: Audit, before: int, most: int = 100) -> Head | None:
    cut = trim(audit.rows, before, most)
    if cut is None:
        return None
    for write in cut.writes:
        audit.rows(write.sql, *write.params)
        assert write.rows is None or audit.connection.changes() == write.rows
    ((number,),) = audit.rows("select max(id) + 1 from activity")
    told = f'{{"metadata": {{"seq": {cut.anchor.seq}, "digest": "{cut.anchor.digest}"}}}}'
    audit.rows(INSERT, number, f"{chain.TRIMMED}{number}", told, 1_000_000)
    return cut.anchor


def test_the_chain_survives_that_its_oldest_records_go(audit: Audit) -> None:
    head = chain.head_of(audit.rows)
    anchor = trimmed(audit, 4_000)
    assert anchor is not None
    assert anchor.seq == 3
    verdict = audit.verify(head)
    assert (verdict.damages, verdict.anchor, verdict.records) == ((), anchor, 8)
    audit.write(3)
    again = trimmed(audit, 6_000)
    assert again is not None
    assert again.seq == 5
    assert audit.verify(head, anchor).ok
    audit.tamper("update activity set record = '{}' where id = 8")
    assert audit.found() == [("changed", 8, 8)]


def test_an_anchor_cannot_be_moved_without_a_record_of_it(audit: Audit) -> None:
    trimmed(audit, 4_000)
    ((digest,),) = audit.rows("select digest from audit_chain where seq = 5")
    audit.tamper(
        f"update meta set value = json_object('seq', 5, 'digest', '{digest}') where key = 'audit.anchor'",
        "delete from activity where id in (4, 5)",
        "delete from audit_chain where seq in (4, 5)",
    )
    assert audit.found() == [("truncated", 5, None)]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("delete from meta where key = 'audit.anchor'", [("truncated", 1, None), ("inserted", 4, 4), ("truncated", 0, None)]),
        ("update meta set value = json_set(value, '$.digest', 'd') where key = 'audit.anchor'", [("changed", 3, None), ("inserted", 4, 4)]),
        ("update meta set value = json_set(value, '$.seq', 2) where key = 'audit.anchor'", [("truncated", 2, None), ("truncated", 3, None)]),
        ("update meta set value = '' where key = 'audit.anchor'", [("truncated", 1, None), ("inserted", 4, 4), ("changed", None, None), ("truncated", 0, None)]),
    ],
)  # fmt: skip
def test_an_anchor_that_was_edited_is_found(
    audit: Audit, statement: str, expected: list[tuple[str, int | None, int | None]]
) -> None:
    assert trimmed(audit, 4_000) is not None
    audit.tamper(statement)
    assert audit.found() == expected


def test_a_chain_computed_anew_and_trimmed_is_found_by_a_head_of_its_anchor(audit: Audit) -> None:
    noted = head_at(audit, 3)
    link = audit.rows("select sql from sqlite_schema where name = 'activity_is_linked'")
    audit.tamper("update activity set record = '{}' where id = 2")
    computed_anew(audit)
    audit.rows(link[0][0])
    assert trimmed(audit, 4_000) is not None
    assert audit.found() == []
    assert audit.found(noted) == [("foreign", 3, None)]


def test_the_oldest_go_some_at_a_time_and_the_last_stays(audit: Audit) -> None:
    assert trim(audit.rows, 0, 100) is None
    cut = trim(audit.rows, 9_999_999, 4)
    assert cut is not None
    assert (cut.count, cut.anchor.seq) == (4, 4)
    cut = trim(audit.rows, 9_999_999, 100)
    assert cut is not None
    assert cut.count == 9


def test_what_was_recorded_before_there_was_a_chain_is_linked_too() -> None:
    connection = apsw.Connection(":memory:")
    for number, script in SCRIPTS[:2]:
        connection.execute(script).fetchall()
        connection.execute(f"pragma user_version = {number}").fetchall()
    for number in (5, 3, 9):
        connection.execute(INSERT, (number, f"c{number}", "{}", number))
    migrate(connection)
    connection.execute(INSERT, (10, "c10", "{}", 10))

    def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return connection.execute(sql, params).fetchall()

    assert rows("select activity_id from audit_chain order by seq") == [(3,), (5,), (9,), (10,)]
    assert verify(rows).ok


@pytest.mark.parametrize("text", ["", "7", "7:ab", "x:" + 64 * "0", "-1:" + 64 * "0", "7:" + 64 * "G"])
def test_a_head_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        Head.read(text)
