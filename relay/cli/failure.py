"""What a person is told when a command cannot do its work: what, why, and what to do next."""

import contextlib
import json
from collections.abc import Iterator
from typing import IO, Any

import click

from .terminal import visible

__all__ = ["Failure", "Misuse", "Unreached", "ungrouped"]


@contextlib.contextmanager
def ungrouped() -> Iterator[None]:
    """Raises what went wrong first, without the groups that nurseries put around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


class Failure(click.ClickException):
    """Ends the command with exit code 1. `why` is the cause, `then` the next command or step; `refused` tells a server
    that said no from one that was not reached."""

    exit_code = 1

    def __init__(
        self, what: str, *, why: str | None = None, then: str | None = None, refused: bool = False
    ) -> None:
        super().__init__(what)
        self.why = why
        self.then = then
        self.refused = refused
        context = click.get_current_context(silent=True)
        self._as_json = context is not None and bool(context.params.get("as_json"))

    def show(self, file: IO[Any] | None = None) -> None:
        if self._as_json:
            told = {"error": self.message, "why": self.why, "next": self.then}
            click.echo(json.dumps({name: text for name, text in told.items() if text}), err=True, file=file)
            return
        click.echo(visible(f"relay: {self.message}"), err=True, file=file)
        for name, text in (("why", self.why), ("next", self.then)):
            if text:
                click.echo(visible(f"  {name}: {text}"), err=True, file=file)


class Misuse(Failure):
    """Wrong usage of a command (None: of relay), told as JSON; ends with exit code 2. People are told by click."""

    exit_code = 2

    def __init__(self, what: str, command: str | None) -> None:
        super().__init__(what, then=f"relay {command} --help" if command else "relay --help")
        self._as_json = True


class Unreached(Failure):
    """The time to wait is over, and what was waited for may still come; ends with exit code 7."""

    exit_code = 7
