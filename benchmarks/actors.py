"""The quick form of `runtime`: message rates of relay beside bare trio and asyncio, in a minute and with nothing to
install. Its docstring says what the cases are."""

from collections.abc import Iterator

import runtime
from rows import Row, Skipped

CASES = runtime.CASES[:4]


def rows() -> Iterator[Row | Skipped]:
    yield from runtime.compared("actors", runtime.LOCAL, CASES)
