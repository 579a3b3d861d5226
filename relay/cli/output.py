"""Printing: tables for people, JSON for programs."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

__all__ = ["age", "show", "show_json"]


def show_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def show(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table; the cells are shown as they are, also when they look like markup. `empty` stands for no rows."""
    if not rows:
        click.echo(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def age(instant: float | None) -> str:
    """How long ago an instant (seconds since 1970) was, in one unit."""
    if instant is None:
        return "never"
    seconds = max(0.0, time.time() - instant)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"
