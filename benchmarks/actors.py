"""The quick form of `runtime`: message rates of relay beside bare trio and asyncio, in a minute and with nothing to
install. Its docstring says what the cases are."""

from collections.abc import Iterator, Sequence

import runtime
from rows import Row, Skipped

CASES = tuple(case for case in runtime.CASES if case.program in {"tell", "ask", "ask_at_once"})


def rows(cases: Sequence[runtime.Case] = CASES, rounds: int | None = None) -> Iterator[Row | Skipped]:
    yield from runtime.compared("actors", runtime.LOCAL, cases, rounds)


def versions() -> Iterator[str]:
    for system in runtime.LOCAL:
        yield system.version()
