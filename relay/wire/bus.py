"""Frames of the bus (messaging-control 20.4): what a client may say over its WebSocket.

A frame is a JSON object whose `type` names one of `FRAMES`. `id` is the client's own name for a frame: one that has it
is answered by a `result` with the same `id`, in the order in which the frames came.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .deliveries import MOST_BYTES, Ack as DeliveryOutcome
from .vocabulary import AgentKind, AgentStatus, CommandStatus, TaskStatus

__all__ = [
    "FRAMES",
    "HEARTBEAT",
    "LARGEST",
    "MOST_ITEMS",
    "PROTOCOL",
    "Ack",
    "Claim",
    "CommandUpdate",
    "DeliveryAck",
    "DeliveryTake",
    "Heartbeat",
    "Hello",
    "Ping",
    "Pong",
    "Read",
    "Renew",
    "Role",
    "Send",
    "Status",
    "TaskUpdate",
]

PROTOCOL = 1
HEARTBEAT = 30.0  # seconds between a client's heartbeats (BUS-3)
LARGEST = 1_048_576  # bytes of a frame
MOST_ITEMS = 100  # in the list of a frame


class Role(StrEnum):
    """What a connection is for; it decides what it is told (BUS-8)."""

    PROVIDER = "provider"
    ORCHESTRATOR = "orchestrator"
    DASHBOARD = "dashboard"
    CHANNEL = "channel"

    @property
    def kind(self) -> AgentKind | None:
        """What its agent is; a dashboard has none."""
        return None if self is Role.DASHBOARD else AgentKind(self.value)


def _id() -> Any:
    return f.text(240)


def _numbers() -> Any:
    return f.items(int, _number, most=MOST_ITEMS, required=True)


def _number(value: Any, _: type[int]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= f.SAFE:
        raise ValueError("expected a positive integer")
    return value


@attrs.frozen(kw_only=True)
class Hello:
    """Must be first (BUS-2). `after`: the last event that the client knows; without it relay goes on where the component's
    last connection has confirmed to be. `token`: unless the upgrade had one in its headers."""

    role: Role = f.choice(Role, required=True)
    component_id: str = f.text(240, required=True)
    agent_id: str | None = f.text(240)
    instance_id: str | None = f.text(160)
    token: str | None = f.text(8_192)
    machine: str | None = f.text(240)
    label: str | None = f.text(120)
    capabilities: list[str] | None = f.texts(default=None)
    tags: list[str] | None = f.texts(default=None)
    meta: dict[str, Any] | None = f.mapping(default=None)
    provider_capabilities: dict[str, Any] | None = f.mapping(default=None)
    status: AgentStatus | None = f.choice(AgentStatus)
    ready: bool | None = f.boolean()
    protocol: int = f.integer(PROTOCOL, PROTOCOL, default=PROTOCOL)
    after: int | None = f.integer(0)


@attrs.frozen(kw_only=True)
class Heartbeat:
    """The agent is there. `status` is what it comes back to from stale or offline, `meta` is merged (BUS-3)."""

    id: str | None = _id()
    status: AgentStatus | None = f.choice(AgentStatus)
    meta: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class Status:
    """How the agent is, all of it at once (BUS-3, BUS-5)."""

    id: str | None = _id()
    agent_status: AgentStatus | None = f.choice(AgentStatus)
    ready: bool | None = f.boolean()
    meta: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class CommandUpdate:
    """A report on a command, as `PATCH /api/commands/:id`."""

    id: str | None = _id()
    command_id: str = f.text(240, required=True)
    status: CommandStatus | None = f.choice(CommandStatus)
    result: dict[str, Any] | None = f.mapping(default=None)
    error: str | None = f.text(4_000)
    token: int | None = f.integer(1)


@attrs.frozen(kw_only=True)
class Send:
    """Messages, each as for `POST /api/messages`. They are read one by one: one that is not well formed does not
    hinder the others."""

    id: str = f.text(240, required=True)
    messages: list[Any] = f.items(object, lambda value, _: value, most=MOST_ITEMS, required=True)


@attrs.frozen(kw_only=True)
class Claim:
    """As `POST /api/messages/:id/claim`, for several. The agent is the connection's own unless told otherwise."""

    id: str = f.text(240, required=True)
    message_ids: list[int] = _numbers()
    agent_id: str | None = f.text(240)


@attrs.frozen(kw_only=True)
class Renew(Claim):
    """As `POST /api/messages/:id/claim/renew`, for several."""


@attrs.frozen(kw_only=True)
class Read(Claim):
    """As `POST /api/messages/:id/read`, for several."""


@attrs.frozen(kw_only=True)
class TaskUpdate:
    """As `POST /api/tasks/:id/status`. The agent is the connection's own unless told otherwise."""

    id: str | None = _id()
    task_id: int = f.integer(1, required=True)
    status: TaskStatus = f.choice(TaskStatus, required=True)
    agent_id: str | None = f.text(240)
    body: str | None = f.text(100_000)
    metadata: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class DeliveryTake:
    """As `POST /api/agents/:id/deliveries` for the connection's own agent and session, without a wait: events tell that
    there is something to take."""

    id: str = f.text(240, required=True)
    limit: int = f.integer(1, MOST_ITEMS, default=MOST_ITEMS)
    bytes_: int = f.integer(1, MOST_BYTES, default=MOST_BYTES)
    holding: list[int] | None = f.integers(1, most=1_000)


@attrs.frozen(kw_only=True)
class DeliveryAck:
    """As `POST /api/agents/:id/deliveries/ack` for the connection's own agent."""

    id: str = f.text(240, required=True)
    acks: list[DeliveryOutcome] = f.items(DeliveryOutcome, nested, most=500, required=True)


@attrs.frozen(kw_only=True)
class Ack:
    """Everything up to this event is processed: it is not told again (BUS-6)."""

    id: str | None = _id()
    event_id: int = f.integer(0, required=True)


@attrs.frozen(kw_only=True)
class Ping:
    """Answered by a `pong` with the same `id`."""

    id: str | None = _id()


@attrs.frozen(kw_only=True)
class Pong:
    """The answer to relay's `ping`."""

    id: str | None = _id()


FRAMES: Mapping[str, type[Any]] = {
    "hello": Hello,
    "heartbeat": Heartbeat,
    "status": Status,
    "command.update": CommandUpdate,
    "send": Send,
    "claim": Claim,
    "renew": Renew,
    "read": Read,
    "task.status": TaskUpdate,
    "delivery.take": DeliveryTake,
    "delivery.ack": DeliveryAck,
    "ack": Ack,
    "ping": Ping,
    "pong": Pong,
}
