"""Whether the audit is as it was written: by the server, or from the file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failure import Failure
from .options import Target, home, target
from .output import say, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["audit", "verified"]


@click.group()
def audit() -> None:
    """Check that no record of the audit was changed, removed or put in."""


@audit.command()
@click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read this file, and ask no server.",
)
@click.option("--head", help="A link that was noted once, as NUMBER:DIGEST: it must be there still.")
@target
def verify(target: Target, database: Path | None, head: str | None, as_json: bool) -> None:
    """Compute the chain of the audit again: by the server, or from the file if none answers. Exits with 1 if something is
    wrong."""
    from relay import wire

    verdict, source = _from_file(database, head) if database else _from_wherever(target, head)
    if as_json:
        show_json({**wire.to_json(verdict), "source": source})
    else:
        for damage in verdict.damages:
            say(f"{damage.kind:<10} {damage.what}")
        whole = "all as they were written" if verdict.ok else "NOT as they were written"
        say(f"{source}: {verdict.records} records, {whole}")
        say(f"head {verdict.head}")
    if not verdict.ok:
        click.get_current_context().exit(1)


def _from_wherever(target: Target, head: str | None) -> tuple[wire.AuditVerdict, str]:
    try:
        return ask(target, lambda client: client.verify_audit(head)), target.url
    except Failure as failure:
        path = home() / "relay.db"
        if failure.refused or not path.is_file():
            raise
        return _from_file(path, head)


def _from_file(path: Path, head: str | None) -> tuple[wire.AuditVerdict, str]:
    if not path.is_file():
        raise Failure(f"there is no database {path}", then="name it with --database")
    return verified(path, head), str(path)


def verified(path: Path, head: str | None = None) -> wire.AuditVerdict:
    """The verdict on a database, which a server may be using; its backups are witnesses. Raises `Failure`."""
    import apsw

    from relay.fleet.jobs import told
    from relay.store.backups import backups_of, list_backups
    from relay.store.chain import Head, verify
    from relay.store.witnesses import witnesses

    try:
        noted = [Head.read(head)] if head else []
    except ValueError as error:
        raise Failure("the head is none", why=str(error), then="relay audit verify prints one") from error
    backups = list_backups(backups_of(path), path.stem)
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:

            def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
                return connection.execute(sql, params).fetchall()

            connection.execute("begin")
            return told(verify(rows, [*noted, *witnesses(rows, backups)]))
    except apsw.Error as error:
        then = "start its server once, which brings the schema up to date, or restore a backup"
        raise Failure(f"{path} cannot be read as relay's database", why=str(error), then=then) from error
