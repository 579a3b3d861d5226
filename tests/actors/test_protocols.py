"""A handler has to know every message of its protocol; that is seen when its first actor starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import pytest

from relay.actors import Actor, Ask, Context, System, Tell, open_system

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

P = TypeVar("P")


class Door:
    """A protocol of two messages."""


class Bell:
    """A protocol of one."""


@attrs.frozen
class Open(Tell[Door]):
    pass


@attrs.frozen
class IsOpen(Ask[Door, bool]):
    pass


@attrs.frozen
class Ring(Tell[Bell]):
    pass


AnyOfDoor = Open | IsOpen


class Base(Actor[P], Generic[P]):
    pass


class Whole(Actor[Door]):
    def handle(self, message: AnyOfDoor, context: Context[Door]) -> None: ...


class Both(Base[Door | Bell]):
    def handle(self, message: AnyOfDoor | Ring, context: Context[Door | Bell]) -> None: ...


class Free(Actor[Door]):
    def handle(self, message: Any, context: Context[Door]) -> None: ...


class Unresolved(Actor[Door]):
    def handle(self, message: OnlyForCheckers, context: Context[Door]) -> None: ...  # type: ignore[name-defined]  # noqa: F821


class HalfDeaf(Actor[Door]):
    def handle(self, message: Open, context: Context[Door]) -> None: ...


class DeafForOne(Base[Door | Bell]):
    async def handle(self, message: AnyOfDoor, context: Context[Door | Bell]) -> None: ...  # type: ignore[override]


class Inherits(HalfDeaf):
    pass


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


@pytest.mark.parametrize("kind", [Whole, Both, Free, Unresolved])
async def test_a_handler_that_takes_everything_may_start(system: System, kind: type[Actor[Any]]) -> None:
    await system.spawn(kind)


@pytest.mark.parametrize(
    ("kind", "missed"), [(HalfDeaf, "IsOpen"), (DeafForOne, "Ring"), (Inherits, "IsOpen")]
)
async def test_a_handler_that_misses_a_message_is_refused_at_spawn(
    system: System, kind: type[Actor[Any]], missed: str
) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match=f"handle does not take {missed};"):
            await system.spawn(kind)
    assert not system.failures, "the spawner knows"
