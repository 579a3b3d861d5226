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
that needs only a `Ref[Lease]`. The reply type is invariant: a wrong answer is a type error, not an `object`.
"""

from typing import Generic, TypeVar

__all__ = ["Ask", "Tell"]

P_co = TypeVar("P_co", covariant=True)
R = TypeVar("R")


class Tell(Generic[P_co]):
    """A message of protocol `P` that expects no answer."""

    __slots__ = ()


class Ask(Generic[P_co, R]):
    """A message of protocol `P` that is answered with an `R`."""

    __slots__ = ()
