"""Addresses: whom a message is for (messaging-control 4.2, 4.4)."""

from __future__ import annotations

from relay import wire

__all__ = ["addresses_of", "is_agent_id", "is_direct", "matches"]

FANNED_OUT = ("tag:", "cap:", "label:")
NO_AGENT = (*FANNED_OUT, "policy:", "pool:", "channel:", "orchestrator:")


def is_direct(address: str) -> bool:
    """Whether the address names one agent by its id (MSG-10)."""
    return address != "broadcast" and not address.startswith(FANNED_OUT)


def is_agent_id(text: str) -> bool:
    """Whether it stands for the agent of that id, and for nothing else even if an agent bears it."""
    return text != "broadcast" and not text.startswith(NO_AGENT)


def addresses_of(agent: wire.Agent) -> list[str]:
    """Every address that reaches this agent now, besides messages resolved to it."""
    label = [f"label:{agent.label}"] if agent.label else []
    tags = [f"tag:{tag}" for tag in agent.tags]
    return [agent.id, "broadcast", *label, *tags, *(f"cap:{name}" for name in agent.capabilities)]


def matches(message: wire.Message, agent: wire.Agent | None) -> bool:
    """Whether the agent sees this message; its sender does, too (4.4)."""
    if agent is None:
        return False
    return agent.id in (message.resolved_to_agent, message.from_) or message.to in addresses_of(agent)
