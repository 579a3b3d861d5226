"""Opening a database that may have been damaged, or left half done: it is noticed at the start, in bounded time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest
from storekit import Outcomes, overwrite, page_of, put

from relay.actors import System
from relay.store import DamagedDatabase, _opening, open_store
from relay.store.restoring import half_restored

ROWS = 2_000


async def written(path: Path, system: System) -> None:
    async with open_store(path, system) as store:
        outcomes = Outcomes(store)
        for number in range(ROWS):
            outcomes.stage(str(number), [put(f"k{number}", "x" * 500)])
        await outcomes.all()


@pytest.mark.parametrize("table", ["meta", "agents", "messages_by_address", "audit_chain"])
async def test_damage_is_found_at_the_start(tmp_path: Path, system: System, table: str) -> None:
    """In whichever table it is; most of them are not read when a server starts."""
    path = tmp_path / "relay.db"
    await written(path, system)
    overwrite(path, page_of(path, table))
    before = path.read_bytes()
    with pytest.raises(DamagedDatabase, match=r"relay\.db is damaged: "):
        async with open_store(path, system):
            pass
    assert path.read_bytes() == before


async def test_damage_to_the_schema_is_damage(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    await written(path, system)
    overwrite(path, 100)
    with pytest.raises(DamagedDatabase, match=r"relay\.db is damaged: "):
        async with open_store(path, system):
            pass


async def test_a_large_database_is_looked_at_for_a_limited_time(
    tmp_path: Path, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start goes on; the backups look at the rest."""
    path = tmp_path / "relay.db"
    await written(path, system)
    overwrite(path, page_of(path, "agents"))
    monkeypatch.setattr(_opening, "LOOK_STEP", 1)
    monkeypatch.setattr(_opening, "LOOK_FOR", -1.0)
    async with open_store(path, system) as store:
        assert store.row("select count(*) from meta") == (ROWS,)


async def test_what_a_killed_restore_left_goes(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    left = [half_restored(path), half_restored(path).with_name("relay.db.restoring-journal")]
    for each in left:
        each.write_text("half of it")
    async with open_store(path, system):
        pass
    assert [each for each in left if each.exists()] == []


async def test_a_database_is_looked_at_before_its_schema_moves(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    await written(path, system)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("pragma user_version = 2")
    overwrite(path, page_of(path, "meta"))
    with pytest.raises(DamagedDatabase) as raised:
        async with open_store(path, system):
            pass
    assert "schema" not in str(raised.value)
