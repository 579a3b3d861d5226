"""The long-running programs: the server, the daemon of a host, and the runner around one agent."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .failure import Failure, Misuse, ungrouped
from .options import DEFAULT_PORT, Target, as_json, home, target
from .output import say

__all__ = ["orchestrator", "runner", "serve"]

AGAIN = 75  # exit code of a daemon that whoever started it is to start again


@click.command()
@click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="SQLite file.  [default: ~/.relay/relay.db]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--allow-host", "allowed", multiple=True, help="Host name that requests may be addressed to. Repeatable."
)
@as_json
def serve(database: Path | None, host: str, port: int, allowed: tuple[str, ...], as_json: bool) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    The token that every request needs is made at the first start, in ~/.relay/token.
    """
    import json

    from relay.http import CannotListen, IntegrationsUnusable, Ready, TokenUnusable, run
    from relay.store import DamagedDatabase, Locked, NewerDatabase, UnusableDatabase

    def announce(ready: Ready) -> None:
        where = {"url": ready.base_url} | ({"tokenFile": str(ready.token_file)} if ready.token_file else {})
        token = f"in {ready.token_file}" if ready.token_file else "that of AGENT_RELAY_TOKEN"
        say(json.dumps(where) if as_json else f"relay is at {ready.base_url}; its token is {token}")

    _log()
    folder = home()
    path = database or folder / "relay.db"
    named = f" --database {path}" if database else ""
    again = "".join(f" --{name} {value}" for name, value in _given(host=host, port=port).items())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(
            f"{folder} cannot be made", why=error.strerror, then="set RELAY_HOME to a folder of yours"
        ) from error
    try:
        with ungrouped():
            run(database=path, home=folder, host=host, port=port, allowed_hosts=allowed, ready=announce)
    except CannotListen as error:
        then = "relay serve --port 0" if error.port else "relay serve --host 127.0.0.1"
        raise Failure(f"relay cannot listen on {host}:{port}", why=str(error), then=then) from error
    except TokenUnusable as error:
        then = "mend or unset AGENT_RELAY_TOKEN, or remove the token file, then relay serve"
        raise Failure("relay cannot start", why=str(error), then=then) from error
    except IntegrationsUnusable as error:
        then = "mend what is named there, then relay serve; relay doctor checks the file"
        raise Failure(
            "relay cannot start: its integrations cannot be used", why=str(error), then=then
        ) from error
    except Locked as error:
        then = f"stop that server, or relay serve{again} --database PATH"
        raise Failure("relay cannot start", why=str(error), then=then) from error
    except NewerDatabase as error:
        then = f"use the relay that wrote it, or relay serve{again} --database PATH"
        raise Failure("relay cannot start", why=str(error), then=then) from error
    except DamagedDatabase as error:
        then = (
            f"relay restore{named} puts a backup in its place and keeps the file (relay backup{named} --list)"
        )
        raise Failure("relay cannot start", why=str(error), then=then) from error
    except UnusableDatabase as error:
        then = f"mend that, or relay restore{named}, or relay serve{again} --database PATH"
        raise Failure("relay cannot start", why=str(error), then=then) from error


def _given(**options: Any) -> dict[str, Any]:
    """Those of the options that the command line set."""
    from click.core import ParameterSource

    context = click.get_current_context()
    return {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


@click.command()
@click.option("--id", "name", help="Name of this host for relay.  [default: the host name]")
@click.option(
    "--base-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Agents work only in repositories below this folder.  [default: ~/projects]",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="JSON file with these and further settings.  [default: ~/.relay/orchestrator.json]",
)
@target
def orchestrator(
    target: Target, name: str | None, base_dir: Path | None, config_file: Path | None, as_json: bool
) -> None:
    """Run the daemon of this host until Ctrl-C or SIGTERM: it starts agents, keeps their worktrees and merges.

    The agents it started go on when it ends, and are found again when it comes back.
    """
    import json

    import attrs

    from relay.orchestrator import Ready, Refused, Restart, load_config, run

    def announce(ready: Ready) -> None:
        where = {"agentId": ready.agent_id, "apiUrl": ready.api_url}
        say(json.dumps(where) if as_json else f"{ready.agent_id} is registered at {config.relay_url}")

    _log()
    given = _given(url=target.url, token_file=target)
    try:
        config = load_config(config_file, id=name, base_dir=base_dir, relay_url=given.get("url"))
        if config.token is None or "token_file" in given:
            config = attrs.evolve(config, token=target.token())
        with ungrouped():
            run(config, announce)
    except Restart as restart:
        click.echo(f"the host daemon ends to be started again: {restart}", err=True)
        click.get_current_context().exit(AGAIN)
    except Refused as error:
        raise Failure(
            "the host daemon cannot run", why=str(error), then="relay orchestrator --help"
        ) from error


class _Unread(click.Command):
    """A command whose arguments are read by the program it stands for, `--` and `--help` included."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        own = args[: args.index("--")] if "--" in args else args
        context.params = {"arguments": args, "as_json": "--json" in own}
        return []


@click.command(cls=_Unread)
def runner(arguments: list[str], as_json: bool) -> None:
    """Run one agent and keep it connected. The host daemon starts these; `relay runner --help` lists the options."""
    from relay.runner import BadOptions, read_options, run

    _log()
    try:
        with _misuse_as_json("runner") if as_json else contextlib.nullcontext():
            options = read_options(arguments)
        with ungrouped():
            code = run(options)
    except BadOptions as error:
        raise Failure("the runner cannot start", why=str(error), then="relay runner --help") from error
    click.get_current_context().exit(code)


@contextlib.contextmanager
def _misuse_as_json(command: str) -> Iterator[None]:
    """For what is read by argparse: it prints usage and error, and exits with 2."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            yield
    except SystemExit as ended:
        if ended.code != Misuse.exit_code:
            raise
        raise Misuse(told.getvalue().strip().rpartition(" error: ")[2], command) from None


def _log() -> None:
    """What the program does, on standard error; not every request it makes."""
    import logging

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    for chatty in ("httpx2", "httpcore2", "relay.http.hypercorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
