"""The types of all events that the log may hold (messaging-control 20.2)."""

from __future__ import annotations

from relay import wire

__all__ = ["EVENT_TYPES"]

EVENT_TYPES = frozenset(
    [
        "activity.created",
        "agent.removed",
        "agent.status",
        "automation.created",
        "automation.deleted",
        "automation.run",
        "automation.updated",
        "channel.activity",
        "command.requested",
        *(f"command.{status}" for status in wire.CommandStatus if status is not wire.CommandStatus.PENDING),
        "config.changed",
        "delivery.confirmed",
        "delivery.dead",
        "delivery.expired",
        "delivery.handed",
        "delivery.redelivered",
        "delivery.replied",
        "delivery.returned",
        "message.available",
        "message.claim.released",
        "message.claimed",
        "message.deleted",
        "message.expired",
        "message.new",
        "message.queued",
        "message.reaction",
        "message.read",
        "orchestrator.removed",
        "orchestrator.status",
        "pair.created",
        "pair.updated",
        "policy.state.changed",
        "pool.binding.changed",
        "recipe.instance.changed",
        "system.restored",
        "task.created",
        "task.updated",
        "workspace.changed",
    ]
)
