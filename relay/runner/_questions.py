"""Frames that wait for their answer, by id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from .adapter import AgentGone

__all__ = ["Question", "Questions"]

MOST_LATE = 100


@attrs.define
class Question:
    """One frame that was said, and what came back."""

    id: str
    heard: Callable[[Mapping[str, Any]], None] | None
    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: Mapping[str, Any] | None = None

    def result(self) -> Mapping[str, Any]:
        """The answer. Raises `AgentGone` when there never will be one."""
        if self.answer is None:
            raise AgentGone("the agent ended before it answered")
        return self.answer


class Questions:
    """What one process was asked. What it answers too late is heard, too, if somebody still cares."""

    def __init__(self) -> None:
        self._count = 0
        self._open: dict[str, Question] = {}
        self._late: dict[str, Question] = {}
        self._over = False

    def next_id(self) -> str:
        self._count += 1
        return f"r{self._count}"

    @contextmanager
    def asking(self, heard: Callable[[Mapping[str, Any]], None] | None = None) -> Iterator[Question]:
        """A question, open while the block is. Raises `AgentGone`.

        `heard` is given the answer the moment that it is read, also when the block has been left by then.
        """
        if self._over:
            raise AgentGone("the agent has ended")
        question = Question(self.next_id(), heard)
        self._open[question.id] = question
        try:
            yield question
        finally:
            del self._open[question.id]
            if heard is not None and question.answer is None:
                self._keep(question)

    def answered(self, id: str, answer: Mapping[str, Any]) -> None:  # noqa: A002 - the contract's word
        """What the agent said to the question `id`."""
        question = self._open.get(id) or self._late.pop(id, None)
        if question is None or question.answer is not None:
            return
        question.answer = answer
        question.answered.set()
        if question.heard is not None:
            question.heard(answer)

    def end(self) -> None:
        """There will be no more answers."""
        self._over = True
        for question in self._open.values():
            question.answered.set()

    def _keep(self, question: Question) -> None:
        self._late[question.id] = question
        while len(self._late) > MOST_LATE:
            del self._late[next(iter(self._late))]
