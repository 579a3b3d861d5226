"""What happens, line by line, for the person who watches: coloured on a terminal, plain in a pipe, JSON on request."""

import json
import sys
import time
from collections.abc import Iterable

import click

from .proofs import Proof

__all__ = ["Timeline"]

COLOURS = ("cyan", "magenta", "yellow", "blue", "green")


class Timeline:
    """Prints as things happen. Times are seconds since it was made."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._start = time.monotonic()
        self._colours: dict[str, str] = {}

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def say(self, actor: str, text: str, *, loud: bool = False) -> None:
        """`loud` marks what the demo does to the fleet, and what the fleet must recover from."""
        if self._as_json:
            self._emit({"at": round(self.elapsed, 2), "actor": actor, "text": text})
            return
        name = click.style(f"{actor:<12}", fg=self._colour(actor), bold=loud)
        click.echo(f"{self.elapsed:5.1f} s  {name}  {click.style(text, bold=True) if loud else text}")
        sys.stdout.flush()

    def conclude(self, proofs: Iterable[Proof]) -> bool:
        """Prints each proof as it is made, then the verdict; returns it."""
        failed = []
        if not self._as_json:
            click.echo("\nProven from git and from the database:")
        for proof in proofs:
            if not proof.holds:
                failed.append(proof.claim)
            if self._as_json:
                self._emit({"claim": proof.claim, "holds": proof.holds, "found": proof.found})
            else:
                mark = click.style("✓", fg="green") if proof.holds else click.style("✗", fg="red")
                click.echo(f"  {mark} {proof.claim}\n      {proof.found}")
        verdict = f"not proven: {', '.join(failed)}" if failed else "everything proven"
        if self._as_json:
            self._emit({"ok": not failed, "verdict": verdict, "seconds": round(self.elapsed, 1)})
        else:
            click.echo(
                click.style(
                    f"\n{verdict}, in {self.elapsed:.0f} s", bold=True, fg="red" if failed else "green"
                )
            )
        return not failed

    def _emit(self, line: dict[str, object]) -> None:
        click.echo(json.dumps(line))
        sys.stdout.flush()

    def _colour(self, actor: str) -> str:
        return self._colours.setdefault(actor, COLOURS[len(self._colours) % len(COLOURS)])
