"""What several commands share: where relay's files are, which server to talk to, and how to print."""

import functools
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .failure import Failure

__all__ = ["DEFAULT_PORT", "Listing", "Target", "as_json", "home", "must_be_one_of", "target"]

DEFAULT_PORT = 4850
_TOKEN = re.compile(rb"[!-~]+")


def home() -> Path:
    """The folder of state, token and logs: `RELAY_HOME`, else `~/.relay`."""
    return Path(os.environ.get("RELAY_HOME") or Path.home() / ".relay").expanduser().absolute()


def must_be_one_of(known: Iterable[str], word: str | None, problem: str, *, command: str) -> None:
    """Raises `Failure` unless the word is known or was not given. Enumerations are too slow to import for click's help."""
    choices = list(known)
    if word is not None and word not in choices:
        raise Failure(problem, why=f"expected one of {', '.join(choices)}", then=f"relay {command} --help")


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


class Listing(click.Group):
    """A group that lists what there is unless a command is named: `relay tasks --json` is `relay tasks list --json`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else "-"
        named = not first.startswith("-") or first in context.help_option_names
        return super().parse_args(context, args if named else ["list", *args])


@dataclass(frozen=True)
class Target:
    """The server a command talks to."""

    url: str
    token_file: Path | None

    @property
    def secret(self) -> Path | None:
        """The file that the token is read from; None when `AGENT_RELAY_TOKEN` holds it."""
        if self.token_file is None and os.environ.get("AGENT_RELAY_TOKEN"):
            return None
        return self.token_file or home() / "token"

    def token(self) -> str:
        """From the file if one was named, else from `AGENT_RELAY_TOKEN`, else from relay's home."""
        path = self.secret
        if path is None:
            return os.environ["AGENT_RELAY_TOKEN"]
        try:
            token = path.read_bytes().strip()
        except OSError as error:
            first = "relay serve creates it at its first start; on another host, copy it there or give --token-file"
            raise Failure(f"the token cannot be read from {path}", why=error.strerror, then=first) from error
        if not _TOKEN.fullmatch(token):
            raise Failure(
                f"{path} holds no token",
                why="expected one line of letters, digits and signs of ASCII",
                then="name another with --token-file, or remove it and restart relay serve, which makes a new one",
            )
        return token.decode()


def target(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command `--url`, `--token-file` and `--json`; the first two arrive as one first argument, a `Target`."""

    @as_json
    @click.option(
        "--token-file",
        envvar="AGENT_RELAY_TOKEN_FILE",
        type=click.Path(path_type=Path),
        help="File that holds the token.  [default: ~/.relay/token]",
    )
    @click.option(
        "--url",
        envvar="AGENT_RELAY_URL",
        default=f"http://127.0.0.1:{DEFAULT_PORT}",
        show_default=True,
        help="Where the server is.",
    )
    @functools.wraps(command)
    def reaching(url: str, token_file: Path | None, **arguments: Any) -> None:
        command(Target(url.rstrip("/"), token_file), **arguments)

    return reaching
