"""Printing: text and tables for people, JSON for programs."""

import contextlib
import errno
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from .failure import Failure
from .terminal import visible

__all__ = [
    "age",
    "complete_streams",
    "counted",
    "members",
    "one_line",
    "say",
    "show",
    "show_json",
    "when",
    "writing",
]


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Around what prints: raises `Failure` if there is no room for it; a reader who has gone ends the command."""
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        if error.errno == errno.EPIPE:
            raise
        raise Failure("the output cannot be written", why=error.strerror) from error


def say(text: str) -> None:
    """Prints a line, or several."""
    with writing():
        click.echo(visible(text))


def complete_streams() -> None:
    """Puts the null device where a standard stream is closed. Otherwise the next file or socket that is opened would
    get its number, and what is printed with it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def show_json(value: Any) -> None:
    say(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def show(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table; the cells are shown as they are, also when they look like markup. `empty` stands for no rows."""
    if not rows:
        return say(empty)
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    drawn = io.StringIO()
    Console(file=drawn, width=Console().width if sys.stdout.isatty() else 200).print(table)
    return say("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()))


def members(record: Mapping[str, Any]) -> None:
    """A record whole, a line for each member; what has members of its own is JSON."""
    rows = [
        (name, json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value)
        for name, value in record.items()
    ]
    show(("", ""), rows, empty="")


def one_line(text: str) -> str:
    """Somebody's text where a line begins or ends what relay says, so that it cannot begin one of its own."""
    return " ".join(text.split())


def age(instant: float | None) -> str:
    """How long ago an instant (seconds since 1970) was, in one unit."""
    if instant is None:
        return "never"
    seconds = max(0.0, time.time() - instant)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def counted(number: int, noun: str) -> str:
    """As many of something: 1 agent, 2 agents."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def when(instant: float | None) -> str:
    """An instant on the clocks of this machine; empty if there is none."""
    return "" if instant is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant))
