"""Channels, their bindings, and the slots of pools (messaging-control 8)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .messages import Message
from .vocabulary import AgentStatus, BindingMode, TargetType

__all__ = [
    "Binding",
    "BindingTarget",
    "Channel",
    "ChannelEvent",
    "FannedOut",
    "NewBinding",
    "SlotChange",
    "target_at",
]

LONGEST_ADDRESS = 240

PREFIXES = {
    TargetType.POOL: "pool:",
    TargetType.POLICY: "policy:",
    TargetType.LABEL: "label:",
    TargetType.TAG: "tag:",
    TargetType.CAPABILITY: "cap:",
    TargetType.ORCHESTRATOR: "orchestrator:",
}
"""What the address of a target begins with; that of an agent is its id."""


@attrs.frozen(kw_only=True)
class BindingTarget:
    """Whom a binding leads to. Only `broadcast` needs no id."""

    type: TargetType = f.choice(TargetType, required=True)
    id: str | None = f.text(240)

    @property
    def address(self) -> str:
        """The target as a text, which `target_at` reads."""
        if self.type is TargetType.BROADCAST:
            return "broadcast"
        return PREFIXES.get(self.type, "") + (self.id or "")


def target_at(address: str) -> BindingTarget:
    """The target that an address names (4.2). What begins with nothing known is the id of an agent."""
    if address == "broadcast":
        return BindingTarget(type=TargetType.BROADCAST)
    for kind, prefix in PREFIXES.items():
        if address.startswith(prefix):
            return BindingTarget(type=kind, id=address.removeprefix(prefix).strip() or None)
    return BindingTarget(type=TargetType.AGENT, id=address or None)


def _read_target(value: Any, kind: type[BindingTarget]) -> BindingTarget:
    if not isinstance(value, str):
        return nested(value, kind)
    address = value.strip()
    if f.length(address) > LONGEST_ADDRESS:
        raise ValueError(f"longer than {LONGEST_ADDRESS} characters")
    return target_at(address)


@attrs.frozen(kw_only=True)
class Binding:
    """Links a channel to a target (CHN-5). `pool_agent_id` is who holds the slot of a pool."""

    id: str = f.text(240, required=True)
    channel_id: str = f.text(120, required=True)
    target: BindingTarget = f.item(BindingTarget, nested, required=True)
    mode: BindingMode = f.choice(BindingMode, default=BindingMode.EXCLUSIVE)
    pool_agent_id: str | None = f.text(240)
    created_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class NewBinding:
    """`POST /api/channel-bindings`. The target is an address, or a type and an id, also side by side with the rest."""

    channel_id: str = f.text(120, required=True)
    target: BindingTarget | None = f.item(BindingTarget, _read_target)
    target_type: TargetType | None = f.choice(TargetType)
    target_id: str | None = f.text(240)
    mode: BindingMode = f.choice(BindingMode, default=BindingMode.EXCLUSIVE)


@attrs.frozen(kw_only=True)
class Channel:
    """What an agent's card says of the channel that it is (CHN-1), and where its events go."""

    id: str = f.text(120, required=True)
    agent_id: str = f.text(240, required=True)
    label: str | None = f.text(120)
    status: AgentStatus = f.choice(AgentStatus, default=AgentStatus.ONLINE)
    directions: list[str] = f.texts()
    bindings: list[Binding] = f.items(Binding, nested)


@attrs.frozen(kw_only=True)
class ChannelEvent:
    """`POST /api/channels/:id/events` (CHN-10)."""

    body: str = f.text(100_000, required=True)
    subject: str | None = f.text(240)
    payload: dict[str, Any] | None = f.mapping(default=None)
    idempotency_key: str | None = f.text(240)


@attrs.frozen(kw_only=True)
class FannedOut:
    """The answer to a channel event: one message per binding, and how many of them are new (CHN-15)."""

    messages: list[Message] = f.items(Message, nested)
    created: int = f.integer(0, default=0)


@attrs.frozen(kw_only=True)
class SlotChange:
    """The slot of a pool's binding went from one agent to another; null is nobody (CHN-21)."""

    binding_id: str = f.text(240, required=True)
    channel_id: str = f.text(120, required=True)
    previous_agent_id: str | None = f.nullable_text(240)
    new_agent_id: str | None = f.nullable_text(240)
