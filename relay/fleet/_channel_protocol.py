"""What can be said to the switchboard."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask, Tell

from ._errors import Invalid

__all__ = [
    "Bind",
    "Bound",
    "Inbound",
    "Reconsider",
    "Reevaluate",
    "ResolveTarget",
    "Resolved",
    "Switching",
    "Unbind",
    "Unresolvable",
]


class Switching:
    """What the switchboard understands."""


@attrs.frozen
class Bound:
    """`new` unless there was such a binding already."""

    binding: wire.Binding
    new: bool


@attrs.frozen
class Bind(Ask[Switching, Bound]):
    """Link a channel to a target, in place of what its mode replaces (CHN-7)."""

    asked: wire.NewBinding


@attrs.frozen
class Unbind(Ask[Switching, None]):
    binding_id: str


@attrs.frozen
class Inbound(Ask[Switching, wire.FannedOut]):
    """Something happened on the channel: one message per binding, all or none (CHN-12, H-04)."""

    channel_id: str
    event: wire.ChannelEvent


@attrs.frozen
class Reevaluate(Ask[Switching, tuple[wire.SlotChange, ...]]):
    """Look at all slots of pools; the answer is what has changed (CHN-21)."""


@attrs.frozen
class Reconsider(Tell[Switching]):
    """The agent has changed; None: any may have."""

    agent_id: str | None = None


@attrs.frozen
class Resolved:
    """Where work for a channel goes: the address, and the one binding that says so."""

    address: str
    channel_id: str
    binding_id: str


@attrs.frozen
class ResolveTarget(Ask[Switching, Resolved]):
    """The target of work that was sent to a channel (9.3). Refused with `Unresolvable`."""

    channel_id: str


class Unresolvable(Invalid):
    """A channel does not lead to one agent or policy."""
