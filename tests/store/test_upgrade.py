"""What becomes of the rows of an earlier relay."""

import apsw
import pytest

from relay.store._migrations import SCRIPTS, migrate

INSERT = "insert into messages (id, sender, address, kind, thread_id, record, created_at) values (?, 'u', ?, 'chat', ?, ?, ?)"


@pytest.mark.spec("MSG-30", "O-20")
def test_mail_for_a_policy_that_waited_already_goes_on_waiting() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(SCRIPTS[0][1]).fetchall()
    connection.execute("pragma user_version = 1").fetchall()
    for number, address, record in (
        (1, "policy:P", "{}"),
        (2, "policy:P", '{"maxAgeSeconds": 60}'),
        (3, "policy:P", '{"maxAgeSeconds": 0}'),
        (4, "a1", "{}"),
    ):
        connection.execute(INSERT, (number, address, number, record, 1_000))
    migrate(connection)
    rows = connection.execute(
        "select id, delivery, queued_at, expires_at from messages order by id"
    ).fetchall()
    assert rows == [
        (1, "queued", 1_000, 86_401_000),
        (2, "queued", 1_000, 61_000),
        (3, "queued", 1_000, 1_000),
        (4, "available", None, None),
    ]
