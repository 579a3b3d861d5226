"""Counters that are not written for speed: what relay's users pay for `attrs.frozen` messages and `async` handlers."""

from __future__ import annotations

import attrs
import harness
import trio
from harness import Latch

from relay.actors import Actor, Ask, Context, Tell


class Adding:
    """Messages as they are in relay's docs."""


@attrs.frozen
class Add(Tell[Adding]):
    amount: int


@attrs.frozen
class AddLast(Tell[Adding]):
    latch: Latch


@attrs.frozen
class Sum(Ask[Adding, int]):
    pass


class Adder(Actor[Adding]):
    def __init__(self) -> None:
        self.total = 0

    def handle(self, message: Add | AddLast | Sum, context: Context[Adding]) -> None:
        match message:
            case Add(amount):
                self.total += amount
            case Sum():
                context.reply(message, self.total)
            case AddLast(latch):
                self.total += 1
                latch.arrive()


class Counting:
    """Messages of the counters below: those of everybody else, marked as theirs."""


class Count(harness.Count, Tell[Counting]):
    __slots__ = ()


class Last(harness.Last, Tell[Counting]):
    __slots__ = ()


class Total(harness.Total, Ask[Counting, int]):
    __slots__ = ()


class Asynchronous(Actor[Counting]):
    """Its handler could await, and never does."""

    def __init__(self) -> None:
        self.total = 0

    async def handle(self, message: Count | Last | Total, context: Context[Counting]) -> None:
        match message:
            case Count():
                self.total += 1
            case Total():
                context.reply(message, self.total)
            case Last():
                self.total += 1
                message.latch.arrive()


class Awaiting(Actor[Counting]):
    """Its handler gives way once per message, the least that awaiting costs."""

    def __init__(self) -> None:
        self.total = 0

    async def handle(self, message: Count | Last | Total, context: Context[Counting]) -> None:
        match message:
            case Count():
                await trio.lowlevel.checkpoint()
                self.total += 1
            case Total():
                context.reply(message, self.total)
            case Last():
                self.total += 1
                message.latch.arrive()
