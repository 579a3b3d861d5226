"""Power lost at every boundary of small SQLite programs: which keep their promises, and which are found out."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from relay.testing.crashes import Crash, Disk, recorded

EXTRA = "synchronous = extra"
FULL = "synchronous = full"
OFF = "synchronous = off"


def bank(path: Path, vfs: str | None, *pragmas: str) -> apsw.Connection:
    connection = apsw.Connection(str(path), vfs=vfs)
    for pragma in pragmas:
        connection.execute(f"pragma {pragma}")
    return connection


def deposit(disk: Disk, *pragmas: str, times: int = 6) -> None:
    """Each transaction moves 100 from one account to another and has a page of its own."""
    with closing(bank(disk.directory / "bank.db", disk.vfs, *pragmas)) as connection:
        with connection:
            connection.execute("create table accounts (name primary key, amount)")
            connection.execute("create table notes (number integer primary key, text)")
            connection.execute("insert into accounts values ('here', 0), ('there', 0)")
        disk.acknowledge(0)
        for number in range(1, times + 1):
            with connection:
                connection.execute("update accounts set amount = amount - 100 where name = 'here'")
                connection.execute("update accounts set amount = amount + 100 where name = 'there'")
                connection.execute("insert into notes values (?, ?)", (number, str(number) * 3_000))
            disk.acknowledge(number)


def verify(crash: Crash, within: Path | None = None) -> int:
    """What was acknowledged is there, and all that is there is whole. Returns how many deposits there are."""
    with crash.restored(within) as directory, closing(bank(directory / "bank.db", None, OFF)) as connection:
        assert connection.pragma("integrity_check") == "ok"
        if not connection.execute("select * from sqlite_schema").fetchall():
            assert crash.acknowledged == ()
            return 0
        accounts = dict(connection.execute("select * from accounts"))
        notes = connection.execute("select * from notes order by number").fetchall()
        assert notes == [(number, str(number) * 3_000) for number in range(1, len(notes) + 1)]
        assert accounts == {"here": -100 * len(notes), "there": 100 * len(notes)}
        assert max(crash.acknowledged, default=0) <= len(notes) <= len(crash.acknowledged)
        return len(notes)


def found_out(crashes: Iterator[Crash], within: Path) -> None:
    with pytest.raises((AssertionError, apsw.Error)) as failure:
        for crash in crashes:
            verify(crash, within)
    assert failure.value.__notes__[0].startswith("power lost after step ")


@pytest.mark.parametrize(
    "pragmas",
    [
        ("journal_mode = wal", FULL),
        ("journal_mode = wal", FULL, "locking_mode = exclusive"),
        ("journal_mode = wal", FULL, "wal_autocheckpoint = 3"),
        ("journal_mode = delete", EXTRA),
        ("journal_mode = truncate", FULL),
        ("journal_mode = persist", FULL),
    ],
    ids=" ".join,
)
def test_sqlite_keeps_what_it_synced_whenever_the_power_goes(
    tmp_path: Path, pragmas: tuple[str, ...]
) -> None:
    with recorded(tmp_path) as disk:
        deposit(disk, *pragmas)
    found = [verify(crash) for crash in disk.crashes()]
    assert set(found) == set(range(7))


def test_a_database_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    with recorded(tmp_path) as disk:
        deposit(disk, "journal_mode = wal", OFF)
    found_out(disk.crashes(), tmp_path)


def test_a_journal_whose_deletion_is_not_synced_is_found_out(tmp_path: Path) -> None:
    with recorded(tmp_path) as disk:
        deposit(disk, "journal_mode = delete", FULL)
    found_out(disk.crashes(), tmp_path)


def test_a_disk_that_lies_is_found_out(tmp_path: Path) -> None:
    with recorded(tmp_path) as disk:
        deposit(disk, "journal_mode = wal", FULL)
    found_out(disk.crashes(honest=False), tmp_path)


def test_power_can_be_lost_again_during_recovery(tmp_path: Path) -> None:
    with recorded(tmp_path) as disk:
        deposit(disk, "journal_mode = delete", EXTRA, times=2)
    hot = [crash for crash in disk.crashes() if "bank.db-journal" in crash.files]
    for crash in hot[:: len(hot) // 10]:
        with crash.restored() as directory, recorded(directory) as again:
            for what in crash.acknowledged:
                again.acknowledge(what)
            with closing(bank(directory / "bank.db", again.vfs, EXTRA)) as connection:
                connection.execute("select * from sqlite_schema").fetchall()
        for second in again.crashes():
            verify(second)


def test_what_was_done_is_what_is_on_the_real_disk(tmp_path: Path) -> None:
    (tmp_path / "untouched").write_bytes(b"as before")
    with recorded(tmp_path) as disk:
        deposit(disk, "journal_mode = wal", "wal_autocheckpoint = 3")
        whole = bank(disk.directory / "bank.db", disk.vfs)
        whole.execute("vacuum")
        whole.execute("insert into notes values (100, 'in the log')")
        on_disk = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".db-shm"}
        whole.close()
        gone = {path.name for path in tmp_path.iterdir()}
    found = [crash.files for crash in disk.crashes() if crash.found == "all that was done"]
    assert set(on_disk) == {"bank.db", "bank.db-wal", "untouched"}
    assert on_disk in found
    assert found[-1].keys() == gone == {"bank.db", "untouched"}


def test_the_same_record_gives_the_same_crashes_and_each_look_once(tmp_path: Path) -> None:
    with recorded(tmp_path) as disk:
        deposit(disk, "journal_mode = wal", FULL, times=2)
    first, second, other = list(disk.crashes()), list(disk.crashes()), list(disk.crashes(seed=1))
    assert first == second != other
    assert {crash.boundary for crash in first} <= set(range(disk.boundaries))
    looks = [(crash.acknowledged, *crash.files.items()) for crash in first]
    assert len(set(looks)) == len(looks)


def test_a_failing_check_says_where_the_power_was_lost_and_keeps_the_files(tmp_path: Path) -> None:
    with recorded(tmp_path) as disk:
        deposit(disk, "journal_mode = wal", FULL, times=1)
    crash = next(crash for crash in disk.crashes() if crash.acknowledged == (0, 1))
    with pytest.raises(AssertionError) as failure, crash.restored(tmp_path) as directory:
        (directory / "bank.db").write_bytes(b"the check went on")
        raise AssertionError("lost")
    (note,) = failure.value.__notes__
    assert note.startswith(f"power lost after step {crash.boundary}, before the ")
    assert note.endswith(f"the files are in {directory}")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == crash.files


def test_files_elsewhere_are_not_of_this_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as disk, pytest.raises(ValueError, match="not in the subpath"):
        bank(tmp_path / "elsewhere.db", disk.vfs, "journal_mode = wal")


def test_the_rest_of_the_test_kit_does_without_apsw() -> None:
    code = "import sys, relay.testing, relay.testing.plugin; assert 'apsw' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    example = next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "recorded" in code)
    names: dict[str, Any] = {}
    exec(example, names)
    names["test_deposits_survive"](tmp_path)
