"""Typed messages.

A protocol is a marker class. A message names the protocol it belongs to and, if it is a question, the type of
its answer::

    class Lease: "What a merge lease understands."

    @attrs.frozen
    class Acquire(Ask[Lease, Grant]):
        owner: str

    @attrs.frozen
    class Release(Tell[Lease]):
        token: int

The marker is covariant here and contravariant in `Ref`, so a `Ref[Lease | Observable]` may be handed to code
that needs only a `Ref[Lease]`. Whoever answers sees the reply type as invariant (`Ask`): a wrong answer is a type
error, not an `object`. Whoever asks sees it as covariant (`Question`): a `Grant` may go where an `object` is wanted.
"""

from typing import Any, ClassVar, Generic, TypeVar

from ._protocols import register

__all__ = ["Ask", "Question", "Tell"]

P_co = TypeVar("P_co", covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Tell(Generic[P_co]):
    """A message of protocol `P` that expects no answer."""

    __slots__ = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        register(cls)


class Question(Generic[P_co, R_co]):
    """An `Ask` as its asker sees it."""

    __slots__ = ()


class Ask(Question[P_co, R], Generic[P_co, R]):
    """A message of protocol `P` that is answered with an `R`.

    With `cancellable` set in a subclass, its `async` handler is cancelled, which is no failure, when the asker leaves.
    """

    __slots__ = ()

    cancellable: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        register(cls)
