"""The audit: who did what, and whether it is as it was written, by the server or from the file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failure import Failure
from .options import Listing, Target, home, must_be_one_of, target
from .output import one_line, say, show, show_json, when
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["audit", "verified"]


@click.group(cls=Listing)
def audit() -> None:
    """Show who did what; check that no record of it was changed, removed or put in.

    \b
    relay audit --view security     who was refused what
    relay audit verify
    """


@audit.command("list")
@click.option("--agent", help="Only what concerns this agent.")
@click.option("--view", help="Only of this view, such as security, orchestrators or messages.")
@click.option("--kind", help="Only of this kind, such as state or operator.")
@click.option("--message", type=click.IntRange(min=1), help="Only what concerns the message of this id.")
@click.option("--before", type=click.IntRange(min=1), help="Go on after the record of this id.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def list_(
    target: Target,
    agent: str | None,
    view: str | None,
    kind: str | None,
    message: int | None,
    before: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the records, the newest first: what happened, and who made it happen."""
    from relay import wire

    must_be_one_of(wire.ActivityKind, kind, f"there is no kind {kind}", command="audit list")
    found = ask(
        target,
        lambda client: client.activity(
            agent_id=agent, kind=kind, view=view, message_id=message, before=before, limit=limit
        ),
    )
    if as_json:
        return show_json([wire.to_json(record) for record in found])
    rows = [
        (row.id, when(row.created_at), row.view or row.kind, one_line(row.title), _about(row), _by(row))
        for row in found
    ]
    return show(("record", "when", "view", "what", "about", "by"), rows, empty="no records")


def _about(record: wire.Activity) -> str:
    """What it is about in a few words: what was tried, or why, or whom it concerns."""
    return one_line(record.meta or record.body or record.agent_id or "")[:60]


def _by(record: wire.Activity) -> str | None:
    """Who made it happen, if somebody did: the subject of the token."""
    known = record.metadata or {}
    return next((str(known[name]) for name in ("authSub", "sub", "subject") if known.get(name)), None)


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
