"""One process owns a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from relay._files import HeldBy, locked

from ._types import Locked

__all__ = ["owned"]


@contextmanager
def owned(database: Path) -> Iterator[None]:
    """Hold the lock of `database`; raises `Locked`, naming the holder."""
    database = database.resolve()  # whatever links lead to it, it is one file with one lock
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(database.with_name(database.name + ".lock")))
        except HeldBy as holder:
            raise Locked(f"{database} is in use by {holder}") from None
        yield
