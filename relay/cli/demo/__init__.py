"""`relay demo`: a fleet of agents does real work on a real repository, is killed in the middle, and it is proven."""

from pathlib import Path

import click

from relay.cli.failure import ungrouped
from relay.cli.options import as_json

__all__ = ["command"]


@click.command("demo")
@click.option(
    "--repo",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Work in a clone of this repository, or of the one this folder is in.  [default: relay's own checkout]",
)
@click.option("--quick", is_flag=True, help="Three agents, less to do.")
@click.option("--keep", is_flag=True, help="Keep the folder with clone, database and logs.")
@as_json
@click.pass_context
def command(context: click.Context, repo: Path | None, quick: bool, keep: bool, as_json: bool) -> None:
    """See all of it work: agents in worktrees of their own, messages, merges, a conflict, a killed runner, a killed server.

    Everything happens in a temporary folder; the repository is only read. At the end every claim is proven from git
    and from the database. Exits with 1 if one is not.
    """
    import trio

    from .direct import direct

    with ungrouped():
        proven = trio.run(direct, repo, quick, keep, as_json)
    if not proven:
        context.exit(1)
