"""A network between an actor and whoever writes to it: messages are lost, late, overtaken and repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, final

from relay.actors import ActorError

if TYPE_CHECKING:
    from relay.actors import Ref, Tell

    from ._faults import Misfortune

__all__ = ["Unreliable"]

P_contra = TypeVar("P_contra", contravariant=True)


@final
class Unreliable(Generic[P_contra]):
    """A ref behind a bad network; made by `Sim.unreliable`.

    Only telling goes over it: whoever needs an answer has to be asked again. What is late when the system ends, or finds
    the mailbox full or the actor gone, is lost.
    """

    def __init__(self, misfortune: Misfortune, ref: Ref[P_contra]) -> None:
        self._misfortune = misfortune
        self._ref = ref

    @property
    def address(self) -> str:
        """As `Ref.address`."""
        return self._ref.address

    def tell(self, message: Tell[P_contra]) -> None:
        """As `Ref.tell`, if the network will."""
        if self._misfortune.loses():
            return
        later = self._misfortune.detains()
        if later:
            self._deliver(message, later)
        else:
            self._ref.tell(message)
        again = self._misfortune.repeats()
        if again is not None:
            self._deliver(message, later + again)

    def _deliver(self, message: Tell[P_contra], seconds: float) -> None:
        system = self._ref._cell.system  # noqa: SLF001 - the runtime's timers are those of the simulation

        def arrive() -> None:
            try:
                self._ref.tell(message)
            except ActorError:
                pass

        if seconds:
            system.timers.at(system.now() + seconds, arrive)
        else:
            arrive()
