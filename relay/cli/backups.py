"""Backups of the database, and putting one back, while no server is up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failure import Failure
from .options import as_json, home
from .output import age, say, show, show_json

if TYPE_CHECKING:
    from relay.store import Backup

__all__ = ["backup", "restore"]

database = click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The server's SQLite file.  [default: ~/.relay/relay.db]",
)

TOKENS = {
    "kept": "tokens are as they were: what was revoked stays so",
    "of the backup": "tokens are those of the backup, and what was revoked since is good again: relay restore --end-tokens ends all",
    "ended": "all tokens have ended but the root token: hosts register anew with the one that they are configured with",
}
"""What is said of the tokens of a restored database, by their fate."""


@click.command()
@click.option(
    "--to", type=click.Path(path_type=Path, dir_okay=False), help="File to write, which is not there yet."
)
@click.option("--list", "listed", is_flag=True, help="List the backups that there are.")
@database
@as_json
def backup(database: Path | None, to: Path | None, listed: bool, as_json: bool) -> None:
    """Copy the database while no server is up, and check the copy.

    A server that is up makes a backup every 15 minutes by itself, and one more with `relay jobs run backup`.
    """
    from relay.store import BackupFailed, owned
    from relay.store.backups import back_up, backups_of, list_backups, make_backup

    path = database or home() / "relay.db"
    if listed:
        return _show(list_backups(backups_of(path), path.stem), as_json)
    if not path.is_file():
        raise Failure(
            f"there is no database {path}", then="name it with --database, or relay serve makes one"
        )
    with _explained("no backup was made", "relay jobs run backup, or stop that server and relay backup"):
        try:
            with owned(path):
                made = (
                    back_up(path, to, time.time()) if to else make_backup(path, backups_of(path), time.time())
                )
        except BackupFailed as error:
            raise Failure("no backup was made", why=str(error), then="relay doctor") from error
    if as_json:
        return show_json(_told(made))
    return say(f"{made.path} holds {sum(made.held.tables.values())} rows; it was checked")


@click.command()
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The backup.  [default: the newest]",
)
@click.option("--end-tokens", is_flag=True, help="End all tokens; only the root token is good afterwards.")
@database
@as_json
def restore(database: Path | None, source: Path | None, end_tokens: bool, as_json: bool) -> None:
    """Put a backup in the place of the database, while no server is up.

    The database that is there is kept beside it. Cut short, this leaves the old one or the restored one, whole. Tokens are
    not turned back: they are those of the database that is there, if it can be read.
    """
    from relay.fleet import restored_tokens, restoring
    from relay.store import BackupFailed, NewerDatabase
    from relay.store.backups import backups_of, check, list_backups
    from relay.store.restoring import restore

    path = database or home() / "relay.db"
    found = list_backups(backups_of(path), path.stem)
    if source is None and not found:
        raise Failure(f"there is no backup in {backups_of(path)}", then="name one: relay restore --from FILE")
    chosen = source or found[0].path
    now = time.time()
    tokens = restored_tokens.Fate.OF_THE_BACKUP

    def prepare(connection: Any) -> None:
        nonlocal tokens
        restoring.prepare(connection, chosen.name, made_at, now)
        tokens = restored_tokens.settle_tokens(connection, path, now, end=end_tokens)

    with _explained("nothing was restored", "stop that server, then relay restore"):
        try:
            made_at = check(chosen).at
            done = restore(path, chosen, now, prepare=prepare)
        except (BackupFailed, NewerDatabase) as error:
            then = "relay backup --list shows others; relay restore --from FILE"
            raise Failure("nothing was restored", why=str(error), then=then) from error
    if as_json:
        told = {"restored": str(chosen), "database": str(path), "aside": done.aside and str(done.aside)}
        return show_json({**told, "tokens": tokens})
    say(
        f"{path} is as it was {age(made_at) + ' ago' if made_at else 'when the backup was made'}, from {chosen}"
    )
    if done.aside is not None:
        say(f"what was there is in {done.aside}")
    say(TOKENS[tokens])
    return say("next: relay serve")


@contextmanager
def _explained(what: str, then: str) -> Iterator[None]:
    """A server that is up is in the way."""
    from relay.store import Locked

    try:
        yield
    except Locked as error:
        raise Failure(what, why=str(error), then=then) from error


def _show(found: list[Backup], as_json: bool) -> None:
    if as_json:
        return show_json([_told(backup) for backup in found])
    rows = [
        (
            age(each.at),
            each.path,
            f"{each.bytes / 2**20:.1f} MiB",
            sum(each.held.tables.values()),
            each.held.schema,
        )
        for each in found
    ]
    return show(("made", "file", "size", "rows", "schema"), rows, empty="no backups")


def _told(backup: Backup) -> dict[str, Any]:
    return {**backup.told(), "file": str(backup.path)}
