"""What must hold in a simulated run: always, sometimes, or in the end."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import attrs
import trio

__all__ = ["Properties", "PropertyViolated"]

Predicate = Callable[[], bool]


class PropertyViolated(AssertionError):
    """Something that must always hold, or must hold in the end, does not."""


@attrs.define
class _Awaited:
    name: str
    holds: Predicate
    within: float
    until: float = inf


class Properties(trio.abc.Instrument):
    """The properties of one run. They are looked at after every step of an actor and of a task.

    `failed` is told what is violated, and what a property raises itself.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._always: list[tuple[str, Predicate]] = []
        self._sometimes: list[tuple[str, Predicate]] = []
        self._eventually: list[_Awaited] = []
        self._awaited: list[_Awaited] = []
        self._change = trio.Event()
        self._looking = False
        self.seen: set[str] = set()

    def always(self, holds: Predicate, name: str) -> None:
        self._always.append((name or _name(holds), holds))
        self._look()

    def sometimes(self, happens: Predicate, name: str) -> None:
        self._sometimes.append((name or _name(happens), happens))
        self._look()

    def eventually(self, holds: Predicate, within: float, name: str) -> None:
        self._eventually.append(_Awaited(name or _name(holds), holds, within))

    @property
    def expected(self) -> set[str]:
        """The names of what should happen sometimes."""
        return {name for name, _ in self._sometimes}

    @property
    def pending(self) -> bool:
        """Whether something is to hold in the end."""
        return bool(self._eventually)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.check()

    def check(self) -> None:
        """Look at all of them."""
        try:
            self._check()
        except Exception as error:  # noqa: BLE001 - the run has failed, whoever took the step
            self._failed(error)

    def _check(self) -> None:
        for name, holds in self._always:
            if not holds():
                raise PropertyViolated(f"always: {name}")
        for name, happens in self._sometimes:
            if name not in self.seen and happens():
                self.seen.add(name)
        if self._awaited:
            still = [one for one in self._awaited if not one.holds()]
            if len(still) < len(self._awaited):
                self._awaited = still
                self._change.set()

    async def come_true(self) -> None:
        """Give what must hold in the end its time."""
        self._awaited, self._eventually = self._eventually, []
        for one in self._awaited:
            one.until = trio.current_time() + one.within
        self._look()
        self.check()
        while self._awaited:
            first = min(self._awaited, key=lambda one: one.until)
            self._change = trio.Event()
            with trio.move_on_at(first.until):
                await self._change.wait()
            self.check()
            if first in self._awaited and trio.current_time() >= first.until:
                self._awaited = []
                self._failed(PropertyViolated(f"eventually: {first.name}, within {first.within:g} s"))

    def end(self) -> None:
        """Look no more."""
        self.check()
        if self._looking:
            trio.lowlevel.remove_instrument(self)

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            trio.lowlevel.add_instrument(self)


def _name(predicate: Predicate) -> str:
    code = getattr(predicate, "__code__", None)
    where = f" (line {code.co_firstlineno})" if code is not None else ""
    return f"{getattr(predicate, '__name__', repr(predicate))}{where}"
