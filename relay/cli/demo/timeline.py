"""What happens, line by line, for the person who watches: coloured and with a line of progress on a terminal, plain in
a pipe, JSON on request."""

import json
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.text import Text

from relay.cli.output import writing

from .proofs import Proof

__all__ = ["Timeline"]

COLOURS = ("cyan", "magenta", "yellow", "blue", "green")


class Timeline:
    """Prints as things happen. Times are seconds since it was made. Used as a block, which ends the progress line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._start = time.monotonic()
        self._colours: dict[str, str] = {}
        self._console = Console(highlight=False, soft_wrap=True)
        self._status = self._console.status("")

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._as_json:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def say(self, actor: str, text: str, *, loud: bool = False) -> None:
        """`loud` marks what the demo does to the fleet, and what the fleet must recover from."""
        if self._as_json:
            return self._emit(at=round(self.elapsed, 2), actor=actor, text=text)
        style = f"bold {self._colour(actor)}" if loud else self._colour(actor)
        time_, name = Text(f"{self.elapsed:5.1f} s  ", "dim"), Text(f"{actor:<12}", style)
        return self._print(time_, name, Text(f"  {text}", "bold" if loud else ""))

    def progress(self, text: str) -> None:
        """What stands below the lines on a terminal."""
        self._status.update(Text(text))

    def conclude(self, proofs: Iterable[Proof]) -> bool:
        """Prints each proof as it is made, then the verdict; returns it."""
        failed = []
        if not self._as_json:
            self._print(Text("\nProven from git and from the database:"))
        for proof in proofs:
            if not proof.holds:
                failed.append(proof.claim)
            self._judge(proof)
        verdict = f"not proven: {', '.join(failed)}" if failed else "everything proven"
        if self._as_json:
            self._emit(ok=not failed, verdict=verdict, seconds=round(self.elapsed, 1))
        else:
            self._print(Text(f"\n{verdict}, in {self.elapsed:.0f} s", "bold red" if failed else "bold green"))
        return not failed

    def _judge(self, proof: Proof) -> None:
        if self._as_json:
            return self._emit(claim=proof.claim, holds=proof.holds, found=proof.found)
        mark = Text("✓ ", "green") if proof.holds else Text("✗ ", "red")
        return self._print(Text("  "), mark, Text(f"{proof.claim}\n      "), Text(proof.found, "dim"))

    def _print(self, *parts: Text) -> None:
        with writing():
            self._console.print(*parts, sep="")
            sys.stdout.flush()

    def _emit(self, **line: Any) -> None:
        with writing():
            print(json.dumps(line), flush=True)

    def _colour(self, actor: str) -> str:
        return self._colours.setdefault(actor, COLOURS[len(self._colours) % len(COLOURS)])
