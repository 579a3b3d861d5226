"""Printing: text and tables for people, JSON for programs."""

import errno
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from .failure import Failure
from .terminal import visible

__all__ = ["age", "say", "show", "show_json"]


def say(text: str) -> None:
    """Prints a line, or several. Raises `Failure` if there is no room for it; a reader who has gone ends the command."""
    try:
        click.echo(visible(text))
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        if error.errno == errno.EPIPE:
            raise
        raise Failure("the output cannot be written", why=error.strerror) from error


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


def age(instant: float | None) -> str:
    """How long ago an instant (seconds since 1970) was, in one unit."""
    if instant is None:
        return "never"
    seconds = max(0.0, time.time() - instant)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"
