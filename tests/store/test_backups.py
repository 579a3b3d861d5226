"""Backups and restoring: what was committed is there again, and nothing that cuts it short leaves less than one database."""

from __future__ import annotations

import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from storekit import overwrite, page_of, put

from relay.actors import System
from relay.store import Locked, NewerDatabase, Owner, open_store
from relay.store._migrations import SCRIPTS, migrate
from relay.store.backups import BackupFailed, back_up, backups_of, check, list_backups, make_backup, rotate
from relay.store.chain import verify
from relay.store.restoring import restore

AT = 1_795_000_000.0  # 2026-11-18
DAY = 86_400.0


def fill(path: Path, *keys: str, size: int = 10) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("pragma journal_mode = wal").fetchall()
        migrate(connection)
        with connection:
            for key in keys:
                connection.execute("insert into meta values (?, ?)", (key, "x" * size))
                connection.execute(
                    "insert into activity (client_id, kind, record, created_at) values (?, 'state', '{}', 1)",
                    (key,),
                )


def content(path: Path) -> list[Any]:
    """Every row of every table."""
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("pragma quick_check").fetchall() == [("ok",)]
        names = [
            name
            for (name,) in connection.execute(
                "select name from sqlite_schema where type = 'table' order by 1"
            )
        ]
        return [
            (name, sorted(connection.execute(f"select * from {name}").fetchall(), key=repr)) for name in names
        ]


def keys(path: Path) -> set[str]:
    return {row[0] for name, rows in content(path) if name == "meta" for row in rows}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "relay.db"
    fill(path, "a", "b")
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_restored_is_what_was_backed_up(database: Path) -> None:
    before = content(database)
    made = make_backup(database, backups_of(database), AT)
    assert made.path == database.parent / "backups" / "relay-20261118T110640000Z.db"
    assert content(made.path) == before
    fill(database, "c")
    assert keys(database) == {"a", "b", "c"}
    restored = restore(database, made.path, AT + 60)
    assert content(database) == before
    assert restored.aside is not None
    assert keys(restored.aside) == {"a", "b", "c"}
    fill(database, "d")
    assert keys(database) == {"a", "b", "d"}
    assert keys(made.path) == {"a", "b"}


def test_the_chain_of_the_audit_comes_with_it(database: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    restore(database, made.path, AT)
    fill(database, "c")
    with closing(apsw.Connection(str(database))) as connection:
        verdict = verify(lambda sql, *params: connection.execute(sql, params).fetchall(), [made.held.head])
    assert (verdict.ok, verdict.records) == (True, 3)


def test_nobody_else_can_read_a_backup(database: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    assert mode(made.path.parent) == 0o700
    assert {mode(path) for path in made.path.parent.iterdir()} == {0o600}
    restore(database, made.path, AT)
    assert mode(database) == 0o600


def test_a_backup_says_what_it_holds(database: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    assert (made.held.tables["meta"], made.held.tables["activity"], made.held.head.seq) == (2, 2, 2)
    assert list_backups(made.path.parent) == [made] == [check(made.path)]


async def test_a_backup_of_a_database_in_use_is_of_one_moment_and_holds_nobody_up(
    tmp_path: Path, system: System
) -> None:
    """The writer commits between any two steps of it, and the copy is the same."""
    path = tmp_path / "relay.db"
    async with open_store(path, system) as store:
        stage(store, *(put(f"k{number}", "x" * 4_000) for number in range(4_000)))
        await store.drain()  # type: ignore[attr-defined]
        stages: list[str] = []

        def progress(stage_: str) -> None:
            """On the same thread as the loop, so that the writer's thread is the only other."""
            if stage_ == "copying":
                with closing(apsw.Connection(str(path))) as other:
                    other.set_busy_timeout(5_000)
                    other.execute("insert into meta values (?, 'later')", (f"later{len(stages)}",))
            stages.append(stage_)

        made = back_up(path, tmp_path / "copy.db", AT, progress=progress)
        assert stages.count("copying") > 1
        assert keys(made.path) == {f"k{number}" for number in range(4_000)}
        assert len(keys(path)) == 4_000 + stages.count("copying")


def stage(store: Any, *writes: Any) -> None:
    store.stage(writes, (), Owner(), lambda error: None)


async def test_a_database_that_is_in_use_is_not_replaced(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    async with open_store(path, system):
        made = make_backup(path, backups_of(path), AT)
        with pytest.raises(Locked, match="is in use by process"):
            restore(path, made.path, AT)
    restore(path, made.path, AT)


def spoil(path: Path, offset: int = 5_000) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 3_000)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no.db", "there is no backup"),
        ("text.db", "file is not a database"),
        ("empty.db", "no database of relay's"),
    ],
)
def test_what_is_no_backup_is_refused(database: Path, name: str, why: str) -> None:
    (database.parent / "text.db").write_text("no database at all\n" * 100)
    apsw.Connection(str(database.parent / "empty.db")).close()
    before = content(database)
    with pytest.raises(BackupFailed, match=why):
        restore(database, database.parent / name, AT)
    assert content(database) == before
    assert not [path for path in database.parent.iterdir() if "restor" in path.name]


def test_a_backup_that_was_damaged_or_changed_is_refused(database: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    with closing(apsw.Connection(str(made.path))) as connection:
        connection.execute("delete from meta where key = 'a'")
    with pytest.raises(BackupFailed, match="meta has 2 rows there, and 1 here"):
        restore(database, made.path, AT)
    other = back_up(database, database.parent / "other.db", AT)
    spoil(other.path)
    with pytest.raises(BackupFailed, match=r"other\.db"):
        restore(database, other.path, AT)
    assert keys(database) == {"a", "b"}


def test_a_backup_of_a_newer_relay_is_refused(database: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    made.path.with_suffix(".json").unlink()
    with closing(apsw.Connection(str(made.path))) as connection:
        connection.execute("pragma user_version = 999")
    with pytest.raises(NewerDatabase, match="schema 999"):
        restore(database, made.path, AT)


def test_a_backup_comes_back_where_there_is_no_database(database: Path, tmp_path: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    elsewhere = tmp_path / "new" / "relay.db"
    assert restore(elsewhere, made.path, AT).aside is None
    assert keys(elsewhere) == {"a", "b"}


def test_a_broken_database_is_kept_aside_and_replaced(database: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    database.write_bytes(b"this was a database once" * 1_000)
    broken = database.read_bytes()
    restored = restore(database, made.path, AT)
    assert restored.aside is not None
    assert restored.aside.read_bytes() == broken
    assert keys(database) == {"a", "b"}


def test_what_is_only_in_the_log_of_a_killed_server_is_kept_aside_too(database: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    program = f"""
import apsw, os
connection = apsw.Connection({str(database)!r})
connection.execute("pragma wal_autocheckpoint = 0").fetchall()
connection.execute("insert into meta values ('only in the log', '')")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert database.with_name("relay.db-wal").stat().st_size
    restored = restore(database, made.path, AT)
    assert restored.aside is not None
    assert keys(restored.aside) == {"a", "b", "only in the log"}
    assert keys(database) == {"a", "b"}


def test_a_backup_that_would_fill_the_disk_is_not_begun(database: Path) -> None:
    folder = backups_of(database)
    with pytest.raises(BackupFailed, match=r"MiB free; the copy needs .* make room there"):
        make_backup(database, folder, AT, spare=2**62)
    assert list(folder.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_backups_as_they_were(database: Path) -> None:
    fill(database, *(f"k{number}" for number in range(200)), size=4_000)
    made = make_backup(database, backups_of(database), AT)
    before = content(made.path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    program = f"""
import resource, signal
from pathlib import Path
from relay.store.backups import BackupFailed, make_backup
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, {limits[1]}))
try:
    make_backup(Path({str(database)!r}), Path({str(made.path.parent)!r}), {AT + 60})
except BackupFailed as error:
    print("failed:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("failed: "), done
    assert sorted(path.name for path in made.path.parent.iterdir()) == [
        made.path.name,
        made.path.with_suffix(".json").name,
    ]
    assert content(made.path) == before


def stamps(folder: Path) -> list[float]:
    return [backup.at for backup in list_backups(folder)]


def test_the_newest_are_kept_and_one_of_each_of_the_last_days(database: Path) -> None:
    folder = backups_of(database)
    start = AT - AT % DAY
    for day in range(10):
        for hour in (1, 2, 3):
            make_backup(database, folder, start + day * DAY + hour * 3_600)
    now = start + 9 * DAY
    newest = [now + 3_600 * hour for hour in (3, 2, 1)]
    newest += [now - DAY + 3_600 * hour for hour in (3, 2, 1)]
    newest += [now - 2 * DAY + 3_600 * hour for hour in (3, 2)]
    days = [now - back * DAY + 3 * 3_600 for back in range(3, 7)]
    assert stamps(folder) == newest + days
    assert {path.suffix for path in folder.iterdir()} == {".db", ".json"}
    assert len(list(folder.iterdir())) == 2 * len(newest + days)


def test_those_from_before_a_new_schema_and_of_other_databases_are_not_counted(
    database: Path, tmp_path: Path
) -> None:
    folder = backups_of(database)
    for number in range(5):
        make_backup(database, folder, AT - 100 * DAY + number, label="-before-schema-3")
    other = tmp_path / "other.db"
    fill(other, "z")
    make_backup(other, folder, AT - 99 * DAY)
    (folder / "notes.txt").write_text("mine")
    (folder / "relay-20200101T000000000Z.db.partial").write_text("left by a crash")
    for number in range(10):
        make_backup(database, folder, AT + number)
    names = sorted(path.name for path in folder.iterdir() if path.suffix != ".json")
    assert sum("before-schema" in name for name in names) == 3
    assert sum(name.startswith("other-") for name in names) == 1
    assert "notes.txt" in names
    assert not [name for name in names if name.endswith(".partial")]
    assert rotate(folder, "relay", AT + 10) == []


async def test_a_database_is_backed_up_before_its_schema_moves(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    with closing(apsw.Connection(str(path))) as connection:
        for number, script in SCRIPTS[:1]:
            connection.execute(script).fetchall()
            connection.execute(f"pragma user_version = {number}").fetchall()
        connection.execute("insert into meta values ('old', '')")
    async with open_store(path, system):
        pass
    (made,) = list_backups(backups_of(path))
    assert made.path.name.endswith(f"-before-schema-{SCRIPTS[-1][0]}.db")
    assert (made.held.schema, keys(made.path)) == (1, {"old"})
    async with open_store(path, system):
        pass
    assert len(list_backups(backups_of(path))) == 1


def test_the_folder_is_beside_the_database_or_where_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backups_of(tmp_path / "relay.db") == tmp_path / "backups"
    monkeypatch.setenv("AGENT_RELAY_BACKUP_DIR", str(tmp_path / "other"))
    assert backups_of(tmp_path / "relay.db") == tmp_path / "other"


async def test_the_store_backs_itself_up(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    async with open_store(path, system, backups=tmp_path / "elsewhere") as store:
        stage(store, put("k"))
        await store.drain()  # type: ignore[attr-defined]
        made = await store.back_up()
        assert made is not None
        assert (made.path.parent, keys(made.path)) == (tmp_path / "elsewhere", {"k"})
    async with open_store(None, system) as store:
        assert await store.back_up() is None


STAGES = {
    "make_backup": ("copying", "checking", "keeping"),
    "restore": (
        "checking",
        "copying",
        "preparing",
        "keeping what is there",
        "putting it in place",
        "in place",
    ),
}

CHILD = """
import sys
from pathlib import Path
from relay.store.backups import make_backup
from relay.store.restoring import restore

def progress(stage):
    print(stage, flush=True)
    sys.stdin.readline()

{work}(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), progress=progress)
"""


def killed_at(work: str, last: str, *arguments: str) -> Iterator[str]:
    """Does it in a process that is killed at its first step, then in one that is at the second, until the last."""
    steps, reached = 0, ""
    while reached != last:
        steps += 1
        command = [sys.executable, "-c", CHILD.format(work=work), *arguments]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            for step in range(steps):
                if step:
                    child.stdin.write("\n")
                    child.stdin.flush()
                reached = child.stdout.readline().strip()
                assert reached
            child.kill()
        yield reached


def test_a_backup_that_is_killed_leaves_the_others_and_the_database(database: Path) -> None:
    fill(database, *(f"k{number}" for number in range(5_000)), size=4_000)
    before = content(database)
    folder = backups_of(database)
    kept = make_backup(database, folder, AT)
    seen = set()
    for stage_ in killed_at("make_backup", "kept", str(database), str(folder), str(AT + 60)):
        seen.add(stage_)
        if stage_ != "kept":
            assert list_backups(folder) == [kept]
        assert content(database) == before
        assert content(kept.path) == before
    assert seen >= set(STAGES["make_backup"])
    assert len(list_backups(folder)) == 2
    assert not list(folder.glob("*.partial*"))


def test_a_restore_that_is_killed_leaves_one_whole_database(database: Path) -> None:
    made = make_backup(database, backups_of(database), AT)
    old = content(database)
    fill(database, "later")
    new = content(database)
    seen = set()
    for stage_ in killed_at("restore", "in place", str(database), str(made.path), str(AT)):
        seen.add(stage_)
        expected = old if stage_ == "in place" else new
        assert content(database) == expected, stage_
        for aside in database.parent.glob("relay.db.before-restore-*"):
            assert content(aside) == new
    assert seen >= set(STAGES["restore"])
    assert content(database) == old
    assert not database.with_name("relay.db.restoring").exists()


def test_what_a_crash_left_goes_before_there_must_be_room(database: Path) -> None:
    """Else a disk that is full of it stays full."""
    folder = backups_of(database)
    folder.mkdir()
    left = [folder / f"relay-20200101T000000000Z.db.partial{rest}" for rest in ("", "-journal")]
    for path in left:
        path.write_text("left by a crash")
    with pytest.raises(BackupFailed, match="make room there"):
        make_backup(database, folder, AT, spare=2**62)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_is_said(database: Path) -> None:
    (database.parent / "file").touch()
    for folder in (database.parent / "file", database.parent / "file" / "backups", Path("/proc/backups")):
        with pytest.raises(BackupFailed, match=f"no backup could be made or used in {folder}"):
            make_backup(database, folder, AT)


def test_a_damaged_database_makes_no_backup_and_the_others_stay(database: Path) -> None:
    fill(database, *(f"k{number}" for number in range(200)), size=4_000)
    folder = backups_of(database)
    kept = make_backup(database, folder, AT)
    overwrite(database, page_of(database, "meta"))
    for minute in range(1, 12):
        with pytest.raises(BackupFailed, match=r"relay\.db is damaged: .*relay restore"):
            make_backup(database, folder, AT + 60 * minute)
    assert list_backups(folder) == [kept] == [check(kept.path)]
    assert len(list(folder.iterdir())) == 2


def test_a_copy_that_the_disk_has_broken_is_no_backup(database: Path) -> None:
    folder = backups_of(database)

    def progress(stage_: str) -> None:
        for copy in folder.glob("*.partial"):
            if stage_ == "checking":
                overwrite(copy, page_of(database, "meta"))

    with pytest.raises(BackupFailed, match=f"the copy of .* is damaged: the disk of {folder} may be broken"):
        make_backup(database, folder, AT, progress=progress)
    assert list(folder.iterdir()) == []


async def test_two_backups_at_once_are_two(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    made: list[Path] = []
    async with open_store(path, system) as store:
        stage(store, put("k"))
        await store.drain()  # type: ignore[attr-defined]

        async def back_up_once() -> None:
            backup = await store.back_up()
            assert backup is not None
            made.append(check(backup.path).path)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(back_up_once)
    assert len(set(made)) == 3
    assert sorted(made) == sorted(each.path for each in list_backups(backups_of(path)))


def test_a_log_without_its_database_is_not_taken_for_the_restored_ones(database: Path) -> None:
    """Somebody removed the database, and left what SQLite has put beside it."""
    made = make_backup(database, backups_of(database), AT)
    program = f"""
import apsw, os
connection = apsw.Connection({str(database)!r})
connection.execute("pragma wal_autocheckpoint = 0").fetchall()
connection.execute("delete from meta").fetchall()
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    database.unlink()
    assert database.with_name("relay.db-wal").stat().st_size
    assert restore(database, made.path, AT).aside is None
    assert keys(database) == {"a", "b"}


def test_a_database_that_somebody_reads_is_not_replaced(database: Path) -> None:
    """What is in its log only could not be kept with it."""
    made = make_backup(database, backups_of(database), AT)
    with closing(apsw.Connection(str(database))) as other:
        other.execute("pragma journal_mode = wal").fetchall()
        other.execute("insert into meta values ('c', '')").fetchall()
        other.execute("begin").fetchall()
        other.execute("select * from meta").fetchall()
        with pytest.raises(BackupFailed, match=r"relay\.db is in use by another program"):
            restore(database, made.path, AT)
        other.execute("commit").fetchall()
    assert keys(database) == {"a", "b", "c"}
    assert not [path.name for path in database.parent.iterdir() if "restor" in path.name]
