"""What becomes of the message in hand when its handler does not answer it.

Its context says how it stands: `_slot` is None for a message that was told, the `Reply` of an ask, or `PUT_ASIDE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import NoReply
from ._reply import PUT_ASIDE, Reply
from ._text import said, shown

if TYPE_CHECKING:
    from ._cell import Cell
    from ._errors import ActorError, Refusal

__all__ = ["break_off", "check_answered", "refused", "take_back"]


def check_answered(cell: Cell, reply: Reply[Any]) -> None:
    """The handler has returned and not answered: somebody must have taken that over."""
    assert cell.context is not None
    if cell.context._slot is reply and not reply.promised:  # noqa: SLF001 - the context is the runtime's to fill
        reply.fail(NoReply(f"{cell.address} did not answer {shown(reply.message)}"))


def refused(cell: Cell, message: object, refusal: Refusal) -> None:
    """The handler said no. Without an asker nobody would know, so it is put on record."""
    take_back(cell)
    assert cell.context is not None
    slot = cell.context._slot  # noqa: SLF001
    if slot is not None:
        slot.fail(refusal)
    else:
        cell.system.fates.handled -= 1
        cell.bury(message, f"refused: {said(refusal)}")


def take_back(cell: Cell) -> None:
    """A message that its handler put aside before it was cut short has met its fate all the same."""
    context = cell.context
    assert context is not None
    if context._slot is PUT_ASIDE:  # noqa: SLF001
        entry = cell.take_out(context._aside)  # noqa: SLF001
        context._slot = entry if isinstance(entry, Reply) and entry.order is None else None  # noqa: SLF001


def break_off(cell: Cell, answer: ActorError) -> None:
    """The incarnation ends with the message in hand: whoever waits for its answer, and was promised none, is told."""
    assert cell.context is not None
    slot, cell.context._slot = cell.context._slot, None  # noqa: SLF001
    if slot is not None and not slot.promised:
        slot.fail(answer)
