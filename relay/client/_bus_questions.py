"""What was asked over the bus, until it is answered; also across connections, as far as it may be asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import attrs
import trio

from relay import wire
from relay.wire import bus

from ._bus_frames import trouble
from ._errors import Refused, RelayError, Unreachable
from ._websocket import WebSocket

__all__ = ["Question", "Questions", "encoded"]


@attrs.define(eq=False)
class Question:
    """A frame that somebody waits for the results of. `asked` is the connection that it was said on."""

    text: str
    repeatable: bool
    asked: WebSocket | None = None
    _results: list[dict[str, Any]] | None = None
    _error: RelayError | None = None
    _answered: trio.Event = attrs.field(factory=trio.Event)

    async def answer(self) -> list[dict[str, Any]]:
        await self._answered.wait()
        if self._error is not None:
            raise self._error
        assert self._results is not None
        return self._results

    def succeed(self, results: list[dict[str, Any]] | None) -> None:
        self._results = results
        self._answered.set()

    def fail(self, error: RelayError) -> None:
        self._error = error
        self._answered.set()

    @property
    def is_at_stake(self) -> bool:
        """It was asked, and cannot be asked again."""
        return self.asked is not None and not self.repeatable and not self._answered.is_set()


class Questions:
    """All that are open, by the name that their frames and the answers to them have."""

    def __init__(self) -> None:
        self._open: dict[str, Question] = {}
        self._names = count(1)

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def opened(self, kind: str, members: dict[str, Any], *, repeatable: bool) -> Iterator[Question]:
        name = str(next(self._names))
        given = {key: value for key, value in members.items() if value is not None}
        question = Question(encoded({"type": kind, "id": name, **given}), repeatable)
        self._open[name] = question
        try:
            yield question
        finally:
            del self._open[name]

    def next_to_ask(self) -> Question | None:
        return next((question for question in self._open.values() if question.asked is None), None)

    @property
    def at_stake(self) -> bool:
        return any(question.is_at_stake for question in self._open.values())

    def answer(self, frame: dict[str, Any]) -> bool:
        """Whether the result or error answers one of them."""
        question = self._open.get(frame.get("id", ""))
        if question is None:
            return False
        if frame["type"] == "error":
            question.fail(trouble(frame))
        else:
            question.succeed(frame.get("results"))
        return True

    def lose(self) -> None:
        """The connection is lost."""
        for question in self._open.values():
            if question.asked is not None and question.repeatable:
                question.asked = None
            elif question.asked is not None:
                question.fail(Unreachable("the connection was lost before there was an answer"))

    def fail_all(self, error: RelayError) -> None:
        for question in self._open.values():
            question.fail(error)


def encoded(frame: dict[str, Any]) -> str:
    """Raises `Refused` when relay would not take it for its length."""
    text = wire.encode(frame)
    if len(text) > bus.LARGEST:
        raise Refused(413, f"a frame of {len(text)} bytes is longer than {bus.LARGEST}")
    return text.decode()
