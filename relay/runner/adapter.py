"""What a provider's adapter offers the runner (1.30).

An adapter starts one agent process and speaks its protocol. What the agent says comes out of `frames`, a bounded
stream of its own messages; the process's end comes out of `exited`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

__all__ = ["Adapter", "AgentGone", "DeliveryFailed", "Exit", "Unheard"]


class DeliveryFailed(Exception):
    """The agent did not take what was handed to it; it may be handed over again."""


class Unheard(DeliveryFailed):
    """Nothing of it has reached the agent."""


class AgentGone(Exception):
    """There is no agent process to talk to."""


@attrs.frozen
class Exit:
    """How the agent ended. `status` is the semantic one: `offline`, or `error` for a failure of its own."""

    status: str
    code: int | None = None
    signal: int | None = None


class Adapter(Protocol):
    """One agent process."""

    capabilities: Mapping[str, bool]

    async def deliver(self, messages: Sequence[Mapping[str, Any]], taken: Callable[[], None]) -> None:
        """Hand over messages; returns once the agent has acknowledged them. Raises `DeliveryFailed`, `AgentGone`.

        `taken` is called when they are acknowledged, also when that is after this has raised.
        """

    async def prompt(self, text: str) -> None:
        """Hand over a prompt; as `deliver`."""

    async def ask(self, kind: str, **fields: Any) -> Mapping[str, Any]:
        """Ask for `interrupt`, `compact` or `clear`; the answer is the agent's result. Raises `DeliveryFailed`."""

    def decide(self, approval_id: str, decision: str, reason: str | None = None) -> None:
        """Answer the agent's request for a permission. Raises `DeliveryFailed`."""

    async def shutdown(self, grace: float) -> None:
        """End the process: politely, then by signal. It is gone when this returns."""
