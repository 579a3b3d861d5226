"""The schema moves forward, one numbered script at a time, each in a transaction of its own."""

from __future__ import annotations

from importlib.resources import files

import apsw

from ._types import NewerDatabase
from .chain import register

__all__ = ["NEWEST", "migrate"]

SCRIPTS = sorted(
    (int(script.name[:4]), script.read_text())
    for script in (files(__package__) / "migrations").iterdir()
    if script.name.endswith(".sql")
)
NEWEST = SCRIPTS[-1][0]


def migrate(connection: apsw.Connection) -> None:
    """Bring the schema up to date, and give the connection what it needs to write in it.

    Raises `NewerDatabase` when the schema is ahead of this program."""
    register(connection)
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    if version > NEWEST:
        raise NewerDatabase(
            f"the database has schema {version}, and this relay knows up to {NEWEST}: use a newer relay"
        )
    for number, script in SCRIPTS:
        if number > version:
            with connection:
                connection.execute(script).fetchall()
                connection.execute(f"pragma user_version = {number}").fetchall()
