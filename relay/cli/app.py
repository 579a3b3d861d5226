"""The group of all commands, and what holds for each: where its help and its complaints about wrong usage go."""

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from .agents import agents
from .audit import audit
from .automations import automations
from .backups import backup, restore
from .channels import channels
from .commands import commands
from .config import config, profiles
from .connectors import connectors
from .demo import command as demo
from .dlq import dlq
from .failure import Misuse
from .health import doctor, routes
from .hosts import hosts
from .jobs import jobs
from .mail import inbox, send
from .merge import merge
from .output import complete_streams, say
from .pairs import pairs
from .policies import policies
from .programs import orchestrator, runner, serve
from .providers import providers
from .recipes import recipes
from .tail import tail
from .tasks import tasks
from .tokens import tokens
from .workspaces import workspaces

__all__ = ["main"]


NAMES: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Relay(click.Group):
    """Tells wrong usage as JSON to whoever gave `--json`, and runs also where a standard stream is closed."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        complete_streams()
        return super().main(*arguments, **options)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.meta[JSON] = "--json" in (args[: args.index("--")] if "--" in args else args)
        with _told_as_asked(context):
            return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        with _told_as_asked(context):
            return super().invoke(context)


JSON = "relay.cli.json"  # key of what the whole command line says about it, in the meta of a context


@contextlib.contextmanager
def _told_as_asked(context: click.Context) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if not context.meta[JSON]:
            raise
        verb = error.ctx.command_path.partition(" ")[2] if error.ctx is not None else None
        raise Misuse(error.format_message(), verb) from None


def _show_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"relay, version {version('relay')}")
        context.exit()


def _show_help(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        say(context.get_help())
        context.exit()


@click.group(cls=_Relay, context_settings=NAMES)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Coordinates coding agents: their messages, their worktrees, their merges.

    \b
    relay demo                       see all of it work, in a temporary folder
    relay serve                      start the server; state and token are in ~/.relay
    relay orchestrator               start the daemon of this host
    relay send planner "tests pass"  send a message

    Commands reach the server at --url with the token in --token-file; both have defaults that fit `relay serve`.
    Exit codes: 0 done, 1 failed (the text says why and what next), 2 wrong usage, 7 not within the time
    that it was waited for.
    """


for verb in (
    serve, orchestrator, runner, agents, send, inbox, automations, channels, commands, config, connectors, dlq, hosts, pairs, policies, profiles, providers, recipes, tasks, tokens, workspaces, merge,
    tail, jobs, audit, backup, restore, routes, doctor, demo,
):  # fmt: skip
    main.add_command(verb)


def _all(command: click.Command) -> Iterator[click.Command]:
    yield command
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _all(below)


for command in _all(main):
    shown = command.get_help_option(click.Context(command, **NAMES))
    if shown is not None:
        shown.callback = _show_help  # click's own knows nothing of outputs that are full
