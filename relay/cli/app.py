"""The group of all commands."""

import click

from .demo import command as demo
from .fleet import agents, inbox, merge, send, workspaces
from .health import doctor, routes
from .programs import orchestrator, runner, serve
from .tail import tail

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="relay")
def main() -> None:
    """Coordinates coding agents: their messages, their worktrees, their merges.

    \b
    relay demo                       see all of it work, in a temporary folder
    relay serve                      start the server; state and token are in ~/.relay
    relay orchestrator               start the daemon of this host
    relay send planner "tests pass"  send a message

    Commands reach the server at --url with the token in --token-file; both have defaults that fit `relay serve`.
    Exit codes: 0 done, 1 failed (the text says why and what next), 2 wrong usage.
    """


for verb in (
    serve, orchestrator, runner, agents, send, inbox, workspaces, merge, tail, routes, doctor, demo
):  # fmt: skip
    main.add_command(verb)
