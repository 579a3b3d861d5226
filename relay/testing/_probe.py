"""A probe stands where an actor would: it has a ref, keeps what it is sent, and answers when the test says so."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, Protocol, TypeVar, final

import trio

from relay.actors import Actor, Ask, Context, Ref, Reply, System

__all__ = ["MakeProbe", "Probe", "Received", "open_probe"]

P = TypeVar("P")
M = TypeVar("M")


@final
class Received(Generic[P]):
    """One message that a probe was sent. An ask waits until `reply` or `fail` is called."""

    def __init__(self, message: Any, slot: Reply[Any] | None) -> None:
        self.message = message
        self._slot = slot

    def reply(self, value: Any) -> None:
        """Answer the ask."""
        assert self._slot is not None, f"{self.message!r} is not an ask"
        self._slot.set(value)

    def fail(self, error: BaseException) -> None:
        """Make the ask raise `error`."""
        assert self._slot is not None, f"{self.message!r} is not an ask"
        self._slot.fail(error)


@final
class Probe(Generic[P]):
    """Made by `open_probe`, or by the pytest fixture `probe`."""

    ref: Ref[P]

    def __init__(self) -> None:
        self._received: deque[Received[P]] = deque()
        self._news = trio.Event()

    async def receive(self, within: float = 5.0) -> Received[P]:
        """The next message. Fails when there is none within so many seconds."""
        with trio.move_on_after(within):
            while not self._received:
                await self._news.wait()
            return self._received.popleft()
        raise AssertionError(f"{self.ref.address} was sent nothing within {within:g} s")

    async def expect(self, kind: type[M], within: float = 5.0) -> M:
        """The next message, which must be a `kind`. An ask stays unanswered; see `receive`."""
        received = await self.receive(within)
        assert isinstance(received.message, kind), f"{self.ref.address} was sent {received.message!r}"
        return received.message

    def expect_nothing(self) -> None:
        """Fails when there is an unread message. Let the system come to rest first: `await system.idle()`."""
        assert not self._received, f"{self.ref.address} was sent {self._received[0].message!r}"

    def put(self, message: Any, slot: Reply[Any] | None) -> None:
        self._received.append(Received(message, slot))
        self._news.set()
        self._news = trio.Event()


class MakeProbe(Protocol):
    """What the fixture `probe` is: `await probe(Listening)` gives a `Probe[Listening]`."""

    async def __call__(self, protocol: type[P], name: str | None = None) -> Probe[P]: ...


class _Standing(Actor[Any]):
    def __init__(self, probe: Probe[Any]) -> None:
        self._probe = probe

    def handle(self, message: Any, context: Context[Any]) -> None:
        self._probe.put(message, context.defer(message) if isinstance(message, Ask) else None)


async def open_probe(system: System, protocol: type[P], name: str | None = None) -> Probe[P]:
    """A probe that stands for an actor of `protocol` in `system`."""
    probe: Probe[P] = Probe()
    probe.ref = await system.spawn(_Standing, probe, name=name or f"probe-{protocol.__name__}")
    return probe
